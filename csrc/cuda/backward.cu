#include "backward.cuh"

#include "launch.cuh"

namespace uniphd::cuda {
namespace {

template <typename T>
cudaError_t scatter_in_order(const Problem& problem, const Inputs& inputs,
                             const Gradients& gradients, cudaStream_t stream) {
  using A = accumulation_t<T>;
  return launch(ordered_scatter_kernel<T>, ordered_scatter_blocks(problem), stream, problem,
                LevelTable{inputs.shapes, inputs.starts}, static_cast<const T*>(gradients.output),
                static_cast<const A*>(inputs.locations), static_cast<const A*>(inputs.attention),
                static_cast<A*>(gradients.value));
}

}  // namespace

cudaError_t backward(ValueType type, const Problem& problem, const Inputs& inputs,
                     const Gradients& gradients, bool deterministic, cudaStream_t stream) {
  return with_type(type, [&](auto selected) {
    using T = typename decltype(selected)::type;
    using A = accumulation_t<T>;
    const bool rows_aligned =
        aligned(inputs.value) && aligned(gradients.output) && aligned(gradients.value);
    // 16 bytes of a sum per thread, so that a group adds to neighbouring sectors: twice as fast for
    // halves as 16 bytes of value, whose additions leave every other 16 bytes out.
    constexpr int kChannels = 16 / sizeof(A);
    const cudaError_t error = with_layout<kChannels>(problem, rows_aligned, [&](auto layout) {
      constexpr int V = decltype(layout)::V;
      constexpr int G = decltype(layout)::G;
      return launch(backward_kernel<T, V, G, decltype(layout)::Once>, block_count<G>(problem),
                    stream, problem, LevelTable{inputs.shapes, inputs.starts},
                    static_cast<const T*>(gradients.output), static_cast<const T*>(inputs.value),
                    static_cast<const A*>(inputs.locations),
                    static_cast<const A*>(inputs.attention), static_cast<A*>(gradients.value),
                    static_cast<A*>(gradients.locations), static_cast<A*>(gradients.attention),
                    !deterministic);
    });
    if (error != cudaSuccess || !deterministic) return error;
    return scatter_in_order<T>(problem, inputs, gradients, stream);
  });
}

}  // namespace uniphd::cuda
