// Forward on CUDA.
#pragma once

#include "device.cuh"

namespace uniphd::cuda {

// G * V channels at a time; one pass where that is all of them.
template <typename T, int V, int G>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const Problem problem, const LevelTable levels, const T* __restrict__ value,
                   const accumulation_t<T>* __restrict__ locations,
                   const accumulation_t<T>* __restrict__ attention, T* __restrict__ output) {
  using A = accumulation_t<T>;
  constexpr int kTile = WarpSamples<A, G>::kTile;
  __shared__ WarpSamples<A, G> shared[kWarps];
  const Place<G> place(problem);
  WarpSamples<A, G>& samples = shared[place.warp];
  const int64_t stride = problem.token_stride();
  const T* head = value + place.batch * problem.tokens * stride +
                  place.head % problem.heads * problem.channels;
  for (int64_t first_channel = 0; first_channel < problem.channels; first_channel += G * V) {
    const int64_t channel = first_channel + place.member * V;
    const bool works = place.exists() && channel < problem.channels;
    A sum[V] = {};
    for (int64_t first = 0; first < problem.samples(); first += kTile) {
      const Part part = part_from<A>(problem, first, kTile);
      prepare(problem, place, levels, locations, attention, part, samples);
      __syncwarp();
      for (int s = 0; works && s < part.count; ++s) {
        const Tokens tokens = samples.tokens[place.group][s];
        if (tokens.of[0] < 0) continue;
        const Weights<A> weights = samples.weights[place.group][s];
        A corner[4][V];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          load_pack<T, V>(head + tokens.of[k] * stride + channel, corner[k]);
        }
#pragma unroll
        for (int k = 0; k < 4; ++k) {
#pragma unroll
          for (int i = 0; i < V; ++i) sum[i] += weights.of[k] * corner[k][i];
        }
      }
      __syncwarp();
    }
    if (works) {
      store_pack<T, V>(output + place.row(problem, place.group) * problem.channels + channel, sum);
    }
  }
}

}  // namespace uniphd::cuda
