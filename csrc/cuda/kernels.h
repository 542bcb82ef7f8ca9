// The CUDA kernels, on plain pointers to contiguous device memory: neither this header nor the
// .cu files include PyTorch, so that nvcc has little to read.
#pragma once

#include <cuda_runtime_api.h>

#include "../problem.h"

namespace uniphd::cuda {

// The type of value and output. Locations, attention weights and the gradient of value have the
// type in which samples are summed: double for kDouble, float for the others.
enum class ValueType { kFloat, kDouble, kHalf, kBFloat16 };

struct Inputs {
  const void* value;      // (B, S, H, D)
  const int64_t* shapes;  // (L, 2) as (height, width)
  const int64_t* starts;  // (L,)
  const void* locations;  // (B, Q, H, L, P, 2)
  const void* attention;  // (B, Q, H, L, P)
};

// `output` is given, the others are written; `value` must be zeros.
struct Gradients {
  const void* output;  // (B, Q, H * D)
  void* value;
  void* locations;
  void* attention;
};

// Both put their work on the stream and return without waiting for it.
cudaError_t forward(ValueType type, const Problem& problem, const Inputs& inputs, void* output,
                    cudaStream_t stream);

// The gradient of value is summed by atomic additions, in an order that differs between runs, or
// by one writer per element where `deterministic` asks for it, which takes longer.
cudaError_t backward(ValueType type, const Problem& problem, const Inputs& inputs,
                     const Gradients& gradients, bool deterministic, cudaStream_t stream);

}  // namespace uniphd::cuda
