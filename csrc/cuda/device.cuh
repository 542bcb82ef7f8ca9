// What the CUDA kernels share: how threads are laid out, and the samples of a warp.
//
// `G` threads, a group inside a warp, own one query of one head and `V` neighbouring channels
// each: 16 bytes of what is loaded (forward) or added up (backward). The groups of a block are
// consecutive queries of one head, whose points lie close to each other on the levels and share
// cells in the first-level cache. The arithmetic of a point is done once, by one thread, and handed
// to its group through shared memory.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "../bilinear.h"
#include "../problem.h"

namespace uniphd::cuda {

constexpr int kWarp = 32;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ inline T narrow(accumulation_t<T> x) {
  return x;
}
template <>
__device__ inline __half narrow<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// V values that are loaded and stored together.
template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  T values[V];
};

template <typename T, int V>
__device__ inline void load_pack(const T* address, accumulation_t<T> (&out)[V]) {
  const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(address);
#pragma unroll
  for (int i = 0; i < V; ++i) out[i] = widen(pack.values[i]);
}

template <typename T, int V>
__device__ inline void store_pack(T* address, const accumulation_t<T> (&in)[V]) {
  Pack<T, V> pack;
#pragma unroll
  for (int i = 0; i < V; ++i) pack.values[i] = narrow<T>(in[i]);
  *reinterpret_cast<Pack<T, V>*>(address) = pack;
}

// Where a thread works. Threads past the last query stay, because the warp works together.
template <int G>
struct Place {
  static constexpr int kGroups = kWarp / G;  // queries of a warp

  int warp;
  int lane;         // in the warp
  int group;        // in the warp
  int member;       // in the group
  int64_t head;     // b * H + h
  int64_t batch;
  int64_t first_row;  // (b * Q + q) * H + h of the warp's first query
  int64_t queries;    // how many of the warp's queries exist, at most kGroups; may be negative

  // Blocks: heads fastest, then tiles of queries, then images, so that the blocks that run at one
  // time read one part of one image.
  __device__ explicit Place(const Problem& problem) {
    constexpr int64_t kQueries = kThreads / G;
    const int64_t tiles = (problem.queries + kQueries - 1) / kQueries;
    const int64_t block = blockIdx.x;
    const int64_t h = block % problem.heads;
    const int64_t tile = block / problem.heads % tiles;
    warp = threadIdx.x / kWarp;
    lane = threadIdx.x % kWarp;
    group = lane / G;
    member = lane % G;
    batch = block / problem.heads / tiles;
    head = batch * problem.heads + h;
    const int64_t query = tile * kQueries + warp * kGroups;
    first_row = (batch * problem.queries + query) * problem.heads + h;
    queries = problem.queries - query;
  }

  __device__ bool exists() const { return group < queries; }

  // Rows of consecutive queries of a head lie H rows apart.
  __device__ int64_t row(const Problem& problem, int which) const {
    return first_row + which * problem.heads;
  }
};

template <int G>
inline int64_t block_count(const Problem& problem) {
  constexpr int64_t kQueries = kThreads / G;
  return problem.batch * problem.heads * ((problem.queries + kQueries - 1) / kQueries);
}

// The four corners of a point, k = 2 * row + column. Weights include the attention weight.
template <typename A>
struct alignas(16) Weights {
  A of[4];
};
struct alignas(16) Tokens {
  int32_t of[4];  // of[0] < 0: the point touches no cell
};

// The samples of a warp's queries, a part of at most kTile per query. The extra entry of a row
// moves the rows of different groups to different banks.
template <typename A, int G>
struct WarpSamples {
  static constexpr int kGroups = kWarp / G;
  static constexpr int kWanted = 16 * G / static_cast<int>(sizeof(A));
  static constexpr int kTile = kWanted < 16 ? kWanted : 16;

  Weights<A> weights[kGroups][kTile + 1];
  Tokens tokens[kGroups][kTile + 1];
};

struct LevelTable {
  const int64_t* shapes;
  const int64_t* starts;

  __device__ Level operator[](int64_t i) const {
    return {static_cast<int32_t>(shapes[2 * i]), static_cast<int32_t>(shapes[2 * i + 1]),
            static_cast<int32_t>(starts[i])};
  }
};

// One part of the samples of a warp's queries: [first, first + count) of every query.
struct Part {
  int64_t first;
  int count;
};

template <typename A>
__device__ inline Part part_from(const Problem& problem, int64_t first, int tile) {
  const int64_t left = problem.samples() - first;
  return {first, static_cast<int>(left < tile ? left : tile)};
}

// Fills in the part's samples, one thread per sample; neighbouring threads read neighbouring
// locations.
template <typename A, int G>
__device__ inline void prepare(const Problem& problem, const Place<G>& place,
                               const LevelTable& levels, const A* __restrict__ locations,
                               const A* __restrict__ attention, const Part& part,
                               WarpSamples<A, G>& samples) {
  for (int i = place.lane; i < Place<G>::kGroups * part.count; i += kWarp) {
    const int which = i / part.count;
    const int s = i % part.count;
    if (which >= place.queries) break;
    const int64_t sample = place.row(problem, which) * problem.samples() + part.first + s;
    const Level level = levels[(part.first + s) / problem.points];
    const Axis<A> x = split_axis(locations[2 * sample], level.width);
    const Axis<A> y = split_axis(locations[2 * sample + 1], level.height);
    const A top = attention[sample] * y.weight[0];
    const A bottom = attention[sample] * y.weight[1];
    const int32_t row0 = level.start + y.index[0] * level.width;
    const int32_t row1 = level.start + y.index[1] * level.width;
    samples.weights[which][s] = {
        {top * x.weight[0], top * x.weight[1], bottom * x.weight[0], bottom * x.weight[1]}};
    samples.tokens[which][s] = {{x.touches && y.touches ? row0 + x.index[0] : -1,
                                 row0 + x.index[1], row1 + x.index[0], row1 + x.index[1]}};
  }
}

}  // namespace uniphd::cuda
