// Marks functions that run on the CPU and on the GPU.
#pragma once

#if defined(__CUDACC__)
#define UNIPHD_HD __host__ __device__ __forceinline__
#else
#define UNIPHD_HD inline __attribute__((always_inline))
#endif
