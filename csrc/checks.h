// The checks of the operators' arguments that both devices share.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <limits>

#include "problem.h"

namespace uniphd {

// Locations and weights have the type in which samples are summed: double for double, else float.
inline at::ScalarType accumulation_type(at::ScalarType value) {
  return value == at::kDouble ? at::kDouble : at::kFloat;
}

inline Problem check_inputs(const at::Tensor& value, const at::Tensor& spatial_shapes,
                            const at::Tensor& level_start_index,
                            const at::Tensor& sampling_locations,
                            const at::Tensor& attention_weights) {
  TORCH_CHECK(value.dim() == 4, "value must be (B, S, H, D), it has ", value.dim(), " dimensions");
  TORCH_CHECK(sampling_locations.dim() == 6 && sampling_locations.size(5) == 2,
              "sampling_locations must be (B, Q, H, L, P, 2), it is ", sampling_locations.sizes());
  const Problem problem{value.size(0),
                        value.size(1),
                        value.size(2),
                        value.size(3),
                        sampling_locations.size(1),
                        sampling_locations.size(3),
                        sampling_locations.size(4)};
  TORCH_CHECK(sampling_locations.size(0) == problem.batch &&
                  sampling_locations.size(2) == problem.heads,
              "sampling_locations must have the batch and heads of value, it is ",
              sampling_locations.sizes(), " and value is ", value.sizes());
  TORCH_CHECK(attention_weights.sizes() == sampling_locations.sizes().slice(0, 5),
              "attention_weights must be ", sampling_locations.sizes().slice(0, 5), ", it is ",
              attention_weights.sizes());
  TORCH_CHECK(spatial_shapes.dim() == 2 && spatial_shapes.size(0) == problem.levels &&
                  spatial_shapes.size(1) == 2 && spatial_shapes.scalar_type() == at::kLong,
              "spatial_shapes must be (L, 2) int64 with L = ", problem.levels);
  TORCH_CHECK(level_start_index.dim() == 1 && level_start_index.size(0) == problem.levels &&
                  level_start_index.scalar_type() == at::kLong,
              "level_start_index must be (L,) int64 with L = ", problem.levels);
  const auto expected = accumulation_type(value.scalar_type());
  TORCH_CHECK(sampling_locations.scalar_type() == expected &&
                  attention_weights.scalar_type() == expected,
              "sampling_locations and attention_weights must be ", expected, " for a value of ",
              value.scalar_type(), ", they are ", sampling_locations.scalar_type(), " and ",
              attention_weights.scalar_type());
  TORCH_CHECK(problem.levels > 0, "there must be at least one level");
  TORCH_CHECK(problem.tokens <= std::numeric_limits<int32_t>::max(),
              "value has more than 2^31 - 1 tokens per image");
  for (const at::Tensor* tensor :
       {&spatial_shapes, &level_start_index, &sampling_locations, &attention_weights}) {
    TORCH_CHECK(tensor->device() == value.device(), "all inputs must be on ", value.device(),
                ", one is on ", tensor->device());
  }
  return problem;
}

inline void check_grad_output(const at::Tensor& grad_output, const at::Tensor& value,
                              const Problem& problem) {
  TORCH_CHECK(grad_output.dim() == 3 && grad_output.size(0) == problem.batch &&
                  grad_output.size(1) == problem.queries &&
                  grad_output.size(2) == problem.token_stride(),
              "grad_output must be (B, Q, H * D), it is ", grad_output.sizes());
  TORCH_CHECK(grad_output.scalar_type() == value.scalar_type() &&
                  grad_output.device() == value.device(),
              "grad_output must have the type and device of value");
}

}  // namespace uniphd
