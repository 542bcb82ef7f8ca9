// The choice of a kernel's type, of the channels per thread and of the threads per query.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>

#include "device.cuh"
#include "kernels.h"

namespace uniphd::cuda {

// V channels per thread and G threads per query; Once: together they cover all channels.
template <int Channels, int Threads, bool Covers>
struct Layout {
  static constexpr int V = Channels;
  static constexpr int G = Threads;
  static constexpr bool Once = Covers;
};

inline bool aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

// Calls body(Layout) with V channels per thread where the channels are a multiple of that, the rows
// are aligned and a warp is wide enough, and with single channels over a whole warp otherwise.
template <int V, typename Body>
cudaError_t with_layout(const Problem& problem, bool rows_aligned, const Body& body) {
  if (!rows_aligned || problem.channels % V != 0 || problem.channels > V * kWarp) {
    return body(Layout<1, kWarp, false>{});
  }
  const int64_t threads = problem.channels / V;
  if (threads <= 1) return body(Layout<V, 1, true>{});
  if (threads <= 2) return body(Layout<V, 2, true>{});
  if (threads <= 4) return body(Layout<V, 4, true>{});
  if (threads <= 8) return body(Layout<V, 8, true>{});
  if (threads <= 16) return body(Layout<V, 16, true>{});
  return body(Layout<V, 32, true>{});
}

template <typename T>
struct TypeOf {
  using type = T;
};

template <typename Body>
cudaError_t with_type(ValueType type, const Body& body) {
  switch (type) {
    case ValueType::kFloat:
      return body(TypeOf<float>{});
    case ValueType::kDouble:
      return body(TypeOf<double>{});
    case ValueType::kHalf:
      return body(TypeOf<__half>{});
    case ValueType::kBFloat16:
      return body(TypeOf<__nv_bfloat16>{});
  }
  return cudaErrorInvalidValue;
}

// Puts blocks of kThreads threads on the stream; no blocks, no launch.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), int64_t blocks, cudaStream_t stream,
                   const Arguments&... arguments) {
  if (blocks == 0) return cudaSuccess;
  if (blocks > std::numeric_limits<int32_t>::max()) return cudaErrorInvalidConfiguration;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace uniphd::cuda
