// The operators' entry points on CUDA: checks, memory, device and stream. Nothing here waits for
// the device or reads its memory, so that a call can be captured in a CUDA graph.
#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../checks.h"
#include "kernels.h"

namespace uniphd::cuda {
namespace {

ValueType value_type(const at::Tensor& value) {
  switch (value.scalar_type()) {
    case at::kFloat:
      return ValueType::kFloat;
    case at::kDouble:
      return ValueType::kDouble;
    case at::kHalf:
      return ValueType::kHalf;
    case at::kBFloat16:
      return ValueType::kBFloat16;
    default:
      TORCH_CHECK(false, "ms_deform_attn is not implemented for values of ", value.scalar_type());
  }
}

// The checked and contiguous inputs of a call, on the device that is current while it lives.
struct Call {
  Problem problem;
  ValueType type;
  c10::cuda::CUDAGuard guard;
  at::Tensor value;
  at::Tensor shapes;
  at::Tensor starts;
  at::Tensor locations;
  at::Tensor attention;

  Call(const at::Tensor& value, const at::Tensor& spatial_shapes,
       const at::Tensor& level_start_index, const at::Tensor& sampling_locations,
       const at::Tensor& attention_weights)
      : problem(check_inputs(value, spatial_shapes, level_start_index, sampling_locations,
                             attention_weights)),
        type(value_type(value)),
        guard(value.device()),
        value(value.contiguous()),
        shapes(spatial_shapes.contiguous()),
        starts(level_start_index.contiguous()),
        locations(sampling_locations.contiguous()),
        attention(attention_weights.contiguous()) {}

  Inputs inputs() const {
    return {value.const_data_ptr(), shapes.const_data_ptr<int64_t>(),
            starts.const_data_ptr<int64_t>(), locations.const_data_ptr(),
            attention.const_data_ptr()};
  }
};

at::Tensor ms_deform_attn(const at::Tensor& value, const at::Tensor& spatial_shapes,
                          const at::Tensor& level_start_index,
                          const at::Tensor& sampling_locations,
                          const at::Tensor& attention_weights) {
  const Call call(value, spatial_shapes, level_start_index, sampling_locations,
                  attention_weights);
  const Problem& problem = call.problem;
  at::Tensor output =
      at::empty({problem.batch, problem.queries, problem.token_stride()}, value.options());
  C10_CUDA_CHECK(forward(call.type, problem, call.inputs(), output.mutable_data_ptr(),
                         c10::cuda::getCurrentCUDAStream()));
  return output;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> ms_deform_attn_backward(
    const at::Tensor& grad_output, const at::Tensor& value, const at::Tensor& spatial_shapes,
    const at::Tensor& level_start_index, const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights) {
  const Call call(value, spatial_shapes, level_start_index, sampling_locations,
                  attention_weights);
  check_grad_output(grad_output, value, call.problem);
  const at::Tensor gradient = grad_output.contiguous();
  const auto sums = accumulation_type(value.scalar_type());
  at::Tensor grad_value = at::zeros(value.sizes(), value.options().dtype(sums));
  at::Tensor grad_locations = at::empty(sampling_locations.sizes(), call.locations.options());
  at::Tensor grad_attention = at::empty(attention_weights.sizes(), call.attention.options());
  C10_CUDA_CHECK(backward(call.type, call.problem, call.inputs(),
                          {gradient.const_data_ptr(), grad_value.mutable_data_ptr(),
                           grad_locations.mutable_data_ptr(), grad_attention.mutable_data_ptr()},
                          at::globalContext().deterministicAlgorithms(),
                          c10::cuda::getCurrentCUDAStream()));
  return {grad_value.to(value.scalar_type()), grad_locations, grad_attention};
}

}  // namespace
}  // namespace uniphd::cuda

TORCH_LIBRARY_IMPL(uniphd, CUDA, m) {
  m.impl("ms_deform_attn", &uniphd::cuda::ms_deform_attn);
  m.impl("ms_deform_attn_backward", &uniphd::cuda::ms_deform_attn_backward);
}
