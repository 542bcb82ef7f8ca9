// The operators' schemas, and their entry points on the CPU: checks, memory, choice of type.
#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "../checks.h"
#include "kernels.h"

namespace uniphd::cpu {
namespace {

std::vector<Level> read_levels(const Problem& problem, const int64_t* shapes,
                               const int64_t* starts) {
  std::vector<Level> levels;
  int64_t next = 0;
  for (int64_t i = 0; i < problem.levels; ++i) {
    const int64_t height = shapes[2 * i];
    const int64_t width = shapes[2 * i + 1];
    TORCH_CHECK(height > 0 && width > 0 && starts[i] == next &&
                    height <= (problem.tokens - next) / width,
                "level ", i, " of ", height, " x ", width, " from token ", starts[i],
                " does not follow the level before it or does not fit in ", problem.tokens,
                " tokens");
    levels.push_back({static_cast<int32_t>(height), static_cast<int32_t>(width),
                      static_cast<int32_t>(next)});
    next += height * width;
  }
  TORCH_CHECK(next == problem.tokens, "the levels have ", next, " tokens, value has ",
              problem.tokens);
  return levels;
}

// The checked and contiguous inputs of a call.
struct Call {
  Problem problem;
  at::Tensor value;
  at::Tensor locations;
  at::Tensor attention;
  std::vector<Level> levels;

  Call(const at::Tensor& value, const at::Tensor& spatial_shapes,
       const at::Tensor& level_start_index, const at::Tensor& sampling_locations,
       const at::Tensor& attention_weights)
      : problem(check_inputs(value, spatial_shapes, level_start_index, sampling_locations,
                             attention_weights)),
        value(value.contiguous()),
        locations(sampling_locations.contiguous()),
        attention(attention_weights.contiguous()),
        levels(read_levels(problem, spatial_shapes.contiguous().const_data_ptr<int64_t>(),
                           level_start_index.contiguous().const_data_ptr<int64_t>())) {}

  template <typename T>
  Inputs<T> inputs() const {
    using A = accumulation_t<T>;
    return {value.const_data_ptr<T>(), locations.const_data_ptr<A>(),
            attention.const_data_ptr<A>()};
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
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, value.scalar_type(), "ms_deform_attn", [&] {
        forward<scalar_t>(problem, call.levels, call.inputs<scalar_t>(),
                          output.mutable_data_ptr<scalar_t>());
      });
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
  at::Tensor grad_value = at::empty(value.sizes(), value.options());
  at::Tensor grad_locations = at::empty(sampling_locations.sizes(), call.locations.options());
  at::Tensor grad_attention = at::empty(attention_weights.sizes(), call.attention.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, value.scalar_type(), "ms_deform_attn_backward", [&] {
        using A = accumulation_t<scalar_t>;
        backward<scalar_t>(call.problem, call.levels, call.inputs<scalar_t>(),
                           {gradient.const_data_ptr<scalar_t>(),
                            grad_value.mutable_data_ptr<scalar_t>(),
                            grad_locations.mutable_data_ptr<A>(),
                            grad_attention.mutable_data_ptr<A>()});
      });
  return {grad_value, grad_locations, grad_attention};
}

}  // namespace
}  // namespace uniphd::cpu

TORCH_LIBRARY(uniphd, m) {
  m.def(
      "ms_deform_attn(Tensor value, Tensor spatial_shapes, Tensor level_start_index, "
      "Tensor sampling_locations, Tensor attention_weights) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  m.def(
      "ms_deform_attn_backward(Tensor grad_output, Tensor value, Tensor spatial_shapes, "
      "Tensor level_start_index, Tensor sampling_locations, Tensor attention_weights) "
      "-> (Tensor, Tensor, Tensor)",
      {at::Tag::pt2_compliant_tag});
}

TORCH_LIBRARY_IMPL(uniphd, CPU, m) {
  m.impl("ms_deform_attn", &uniphd::cpu::ms_deform_attn);
  m.impl("ms_deform_attn_backward", &uniphd::cpu::ms_deform_attn_backward);
}
