// The CUDA kernels as a host library: `emulate_forward` and `emulate_backward` for ctypes.
#include "backward.cu"
#include "forward.cu"

using uniphd::Problem;
using uniphd::cuda::Gradients;
using uniphd::cuda::Inputs;
using uniphd::cuda::ValueType;

namespace {

// sizes: B, S, H, D, Q, L, P
Problem problem_of(const int64_t* sizes) {
  return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6]};
}

// tensors: value, shapes, starts, locations, attention
Inputs inputs_of(void* const* tensors) {
  return {tensors[0], static_cast<const int64_t*>(tensors[1]),
          static_cast<const int64_t*>(tensors[2]), tensors[3], tensors[4]};
}

}  // namespace

extern "C" int emulate_forward(int type, const int64_t* sizes, void* const* tensors, void* output,
                               int reversed) {
  emulation::lane_order_reversed = reversed != 0;
  return uniphd::cuda::forward(static_cast<ValueType>(type), problem_of(sizes),
                               inputs_of(tensors), output, nullptr);
}

// gradients: output, value, locations, attention
extern "C" int emulate_backward(int type, const int64_t* sizes, void* const* tensors,
                                void* const* gradients, int deterministic, int reversed) {
  emulation::lane_order_reversed = reversed != 0;
  return uniphd::cuda::backward(static_cast<ValueType>(type), problem_of(sizes),
                                inputs_of(tensors),
                                {gradients[0], gradients[1], gradients[2], gradients[3]},
                                deterministic != 0, nullptr);
}
