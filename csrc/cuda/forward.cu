#include "forward.cuh"

#include "launch.cuh"

namespace uniphd::cuda {

cudaError_t forward(ValueType type, const Problem& problem, const Inputs& inputs, void* output,
                    cudaStream_t stream) {
  return with_type(type, [&](auto selected) {
    using T = typename decltype(selected)::type;
    using A = accumulation_t<T>;
    const bool rows_aligned = aligned(inputs.value) && aligned(output);
    return with_layout<16 / sizeof(T)>(problem, rows_aligned, [&](auto layout) {
      constexpr int V = decltype(layout)::V;
      constexpr int G = decltype(layout)::G;
      return launch(forward_kernel<T, V, G>, block_count<G>(problem), stream, problem,
                    LevelTable{inputs.shapes, inputs.starts}, static_cast<const T*>(inputs.value),
                    static_cast<const A*>(inputs.locations),
                    static_cast<const A*>(inputs.attention), static_cast<T*>(output));
    });
  });
}

}  // namespace uniphd::cuda
