// Backward on CUDA.
#pragma once

#include "device.cuh"

namespace uniphd::cuda {

__device__ inline void add_atomically(double* address, const double (&terms)[2]) {
  atomicAdd(address, terms[0]);
  atomicAdd(address + 1, terms[1]);
}

// Hopper adds 16 bytes in one request to the second-level cache.
__device__ inline void add_atomically(float* address, const float (&terms)[4]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 && CUDART_VERSION >= 12010
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(
                   __cvta_generic_to_global(address)),
               "f"(terms[0]), "f"(terms[1]), "f"(terms[2]), "f"(terms[3])
               : "memory");
#else
#pragma unroll
  for (int i = 0; i < 4; ++i) atomicAdd(address + i, terms[i]);
#endif
}

// Adds weight * gradient to V neighbouring elements, 16 bytes at a time where V allows it.
template <typename A, int V>
__device__ inline void scatter(A* address, A weight, const A (&gradient)[V]) {
  constexpr int kStep = 16 / sizeof(A);
  if constexpr (V % kStep == 0) {
#pragma unroll
    for (int i = 0; i < V; i += kStep) {
      A terms[kStep];
#pragma unroll
      for (int j = 0; j < kStep; ++j) terms[j] = weight * gradient[i + j];
      add_atomically(address + i, terms);
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) atomicAdd(address + i, weight * gradient[i]);
  }
}

// Sums four numbers over the G threads of a group and puts the sums into `out`. Threads halve the
// numbers they keep as they exchange: 4 shuffles for 8 threads instead of 12.
template <int G, typename A>
__device__ inline void sum_over_group(const A (&dot)[4], int member, A* out) {
  if constexpr (G == 1) {
#pragma unroll
    for (int k = 0; k < 4; ++k) out[k] = dot[k];
    return;
  }
  const bool odd = member & 1;
  const A first = (odd ? dot[1] : dot[0]) + __shfl_xor_sync(kAllLanes, odd ? dot[0] : dot[1], 1);
  const A second = (odd ? dot[3] : dot[2]) + __shfl_xor_sync(kAllLanes, odd ? dot[2] : dot[3], 1);
  if constexpr (G == 2) {
    out[member] = first;
    out[2 + member] = second;
    return;
  }
  const bool upper = member & 2;
  A sum = (upper ? second : first) + __shfl_xor_sync(kAllLanes, upper ? first : second, 2);
#pragma unroll
  for (int step = 4; step < G; step *= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  if (member < 4) out[member] = sum;
}

// Gradients of the locations and weights of a part from the dot products, one thread per sample.
template <typename A, int G>
__device__ inline void finish(const Problem& problem, const Place<G>& place,
                              const LevelTable& levels, const A* __restrict__ locations,
                              const A* __restrict__ attention, const Part& part,
                              const Weights<A> (*dots)[WarpSamples<A, G>::kTile + 1],
                              A* __restrict__ grad_locations, A* __restrict__ grad_attention) {
  for (int i = place.lane; i < Place<G>::kGroups * part.count; i += kWarp) {
    const int which = i / part.count;
    const int s = i % part.count;
    if (which >= place.queries) break;
    const int64_t sample = place.row(problem, which) * problem.samples() + part.first + s;
    const Level level = levels[(part.first + s) / problem.points];
    const Axis<A> x = split_axis(locations[2 * sample], level.width);
    const Axis<A> y = split_axis(locations[2 * sample + 1], level.height);
    const PointGradient<A> gradient =
        point_gradient(x, y, dots[which][s].of, attention[sample], level.height, level.width);
    grad_locations[2 * sample] = gradient.x;
    grad_locations[2 * sample + 1] = gradient.y;
    grad_attention[sample] = gradient.attention;
  }
}

// One sample, for one thread's channels: the products with the gradient of the output, and the
// atomic additions to the gradient of value where `add` says so.
template <typename T, int V>
__device__ inline void visit(const Tokens& tokens, const Weights<accumulation_t<T>>& weights,
                             const T* __restrict__ value, accumulation_t<T>* grad_value,
                             int64_t stride, const accumulation_t<T> (&gradient)[V], bool add,
                             accumulation_t<T> (&dot)[4]) {
  accumulation_t<T> corner[4][V];
#pragma unroll
  for (int k = 0; k < 4; ++k) load_pack<T, V>(value + tokens.of[k] * stride, corner[k]);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (add && weights.of[k] != 0) {
      scatter(grad_value + tokens.of[k] * stride, weights.of[k], gradient);
    }
#pragma unroll
    for (int i = 0; i < V; ++i) dot[k] += gradient[i] * corner[k][i];
  }
}

// Blocks that must fit on a multiprocessor: 768 threads, each of at most 80 registers.
constexpr int kBlocks = 3;

// `Once`: G * V covers all channels, and the gradient of the output stays in registers.
template <typename T, int V, int G, bool Once>
__global__ void __launch_bounds__(kThreads, kBlocks)
    backward_kernel(const Problem problem, const LevelTable levels,
                    const T* __restrict__ grad_output, const T* __restrict__ value,
                    const accumulation_t<T>* __restrict__ locations,
                    const accumulation_t<T>* __restrict__ attention,
                    accumulation_t<T>* grad_value,
                    accumulation_t<T>* __restrict__ grad_locations,
                    accumulation_t<T>* __restrict__ grad_attention, const bool add) {
  using A = accumulation_t<T>;
  constexpr int kTile = WarpSamples<A, G>::kTile;
  __shared__ WarpSamples<A, G> shared[kWarps];
  const Place<G> place(problem);
  WarpSamples<A, G>& samples = shared[place.warp];
  const int64_t stride = problem.token_stride();
  const int64_t corner = place.batch * problem.tokens * stride +
                         place.head % problem.heads * problem.channels + place.member * V;
  const T* gradient_row =
      grad_output + place.row(problem, place.group) * problem.channels + place.member * V;
  const int64_t channels = place.exists() ? problem.channels - place.member * V : 0;
  A gradient[V] = {};
  if (Once && channels > 0) load_pack<T, V>(gradient_row, gradient);
  for (int64_t first = 0; first < problem.samples(); first += kTile) {
    const Part part = part_from<A>(problem, first, kTile);
    prepare(problem, place, levels, locations, attention, part, samples);
    __syncwarp();
    for (int s = 0; s < part.count; ++s) {
      A dot[4] = {};
      const Tokens tokens = place.exists() ? samples.tokens[place.group][s] : Tokens{{-1}};
      const Weights<A> weights = samples.weights[place.group][s];
      for (int64_t c = 0; tokens.of[0] >= 0 && c < channels; c += G * V) {
        if (!Once) load_pack<T, V>(gradient_row + c, gradient);
        visit<T, V>(tokens, weights, value + corner + c, grad_value + corner + c, stride, gradient,
                    add, dot);
      }
      __syncwarp();  // the dot products take the place of the weights
      sum_over_group<G>(dot, place.member, samples.weights[place.group][s].of);
    }
    __syncwarp();
    finish<A, G>(problem, place, levels, locations, attention, part, samples.weights,
                 grad_locations, grad_attention);
    __syncwarp();
  }
}

// The gradient of value in a fixed order. A warp owns a band of rows of one level of one head, 32
// channels of it, and adds every sample that touches the band, in the order of the queries.
constexpr int kBands = 8;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ordered_scatter_kernel(const Problem problem, const LevelTable levels,
                           const T* __restrict__ grad_output,
                           const accumulation_t<T>* __restrict__ locations,
                           const accumulation_t<T>* __restrict__ attention,
                           accumulation_t<T>* grad_value) {
  using A = accumulation_t<T>;
  const int lane = threadIdx.x % kWarp;
  const int64_t slices = (problem.channels + kWarp - 1) / kWarp;
  int64_t task = blockIdx.x * int64_t{kWarps} + threadIdx.x / kWarp;
  const int64_t channel = task % slices * kWarp + lane;
  task /= slices;
  const int64_t band = task % kBands;
  task /= kBands;
  const int64_t level_index = task % problem.levels;
  task /= problem.levels;
  const int64_t h = task % problem.heads;
  const int64_t b = task / problem.heads;
  if (b >= problem.batch) return;  // the whole warp
  const Level level = levels[level_index];
  const int32_t first_row = static_cast<int32_t>(band * level.height / kBands);
  const int32_t last_row = static_cast<int32_t>((band + 1) * level.height / kBands);
  const int64_t stride = problem.token_stride();
  A* grad = grad_value + (b * problem.tokens + level.start) * stride + h * problem.channels;
  const int64_t count = problem.queries * problem.points;
  for (int64_t first = 0; first < count; first += kWarp) {
    const int64_t i = first + lane;
    const int64_t row = (b * problem.queries + i / problem.points) * problem.heads + h;
    Tokens tokens{};
    Weights<A> weights{};
    bool touches = false;
    if (i < count) {
      const int64_t sample =
          row * problem.samples() + level_index * problem.points + i % problem.points;
      const Axis<A> x = split_axis(locations[2 * sample], level.width);
      const Axis<A> y = split_axis(locations[2 * sample + 1], level.height);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int32_t cell_row = y.index[k / 2];
        const bool mine = cell_row >= first_row && cell_row < last_row;
        tokens.of[k] = cell_row * level.width + x.index[k % 2];
        weights.of[k] =
            mine ? attention[sample] * y.weight[k / 2] * x.weight[k % 2] : A(0);
        touches = touches || weights.of[k] != 0;
      }
    }
    unsigned pending = __ballot_sync(kAllLanes, touches);
    while (pending != 0) {
      const int source = __ffs(static_cast<int>(pending)) - 1;
      pending &= pending - 1;
      const int64_t source_row = __shfl_sync(kAllLanes, static_cast<long long>(row), source);
      const A gradient = channel < problem.channels
                             ? widen(grad_output[source_row * problem.channels + channel])
                             : A(0);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int32_t token = __shfl_sync(kAllLanes, tokens.of[k], source);
        const A weight = __shfl_sync(kAllLanes, weights.of[k], source);
        if (weight != 0 && channel < problem.channels) {
          grad[token * stride + channel] += weight * gradient;
        }
      }
    }
  }
}

inline int64_t ordered_scatter_blocks(const Problem& problem) {
  const int64_t slices = (problem.channels + kWarp - 1) / kWarp;
  const int64_t warps = problem.batch * problem.heads * problem.levels * kBands * slices;
  return (warps + kWarps - 1) / kWarps;
}

}  // namespace uniphd::cuda
