// The sampling points of one query and head, reduced to four cells and four weights each.
#pragma once

#include <cstdint>
#include <vector>

#include "../bilinear.h"
#include "../problem.h"

namespace uniphd::cpu {

// Level sizes repeated for every sample, so that a loop over samples needs no table look-up.
struct SampleTable {
  std::vector<int32_t> height;
  std::vector<int32_t> width;
  std::vector<int32_t> start;

  void append(const Level& level, int64_t count) {
    height.insert(height.end(), count, level.height);
    width.insert(width.end(), count, level.width);
    start.insert(start.end(), count, level.start);
  }
};

// Corner k = 2 * row + column. Weights include the attention weight.
template <typename A>
struct Samples {
  explicit Samples(int64_t count) : touches(count) {
    for (int k = 0; k < 4; ++k) {
      token[k].resize(count);
      weight[k].resize(count);
    }
  }

  std::vector<int32_t> token[4];
  std::vector<A> weight[4];
  std::vector<int32_t> touches;
};

template <typename T>
inline void prefetch(const T* row, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / sizeof(T)) __builtin_prefetch(row + i);
}

// Reduces `count` locations and weights to the samples from `offset` on.
template <typename A>
inline void prepare(const SampleTable& table, const A* __restrict__ locations,
                    const A* __restrict__ attention, int64_t offset, int64_t count,
                    Samples<A>& samples) {
  const int32_t* __restrict__ heights = table.height.data();
  const int32_t* __restrict__ widths = table.width.data();
  const int32_t* __restrict__ starts = table.start.data();
  int32_t* __restrict__ touches = samples.touches.data() + offset;
  int32_t* __restrict__ token0 = samples.token[0].data() + offset;
  int32_t* __restrict__ token1 = samples.token[1].data() + offset;
  int32_t* __restrict__ token2 = samples.token[2].data() + offset;
  int32_t* __restrict__ token3 = samples.token[3].data() + offset;
  A* __restrict__ weight0 = samples.weight[0].data() + offset;
  A* __restrict__ weight1 = samples.weight[1].data() + offset;
  A* __restrict__ weight2 = samples.weight[2].data() + offset;
  A* __restrict__ weight3 = samples.weight[3].data() + offset;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const Axis<A> x = split_axis(locations[2 * i], widths[i]);
    const Axis<A> y = split_axis(locations[2 * i + 1], heights[i]);
    const int32_t row0 = starts[i] + y.index[0] * widths[i];
    const int32_t row1 = starts[i] + y.index[1] * widths[i];
    const A top = attention[i] * y.weight[0];
    const A bottom = attention[i] * y.weight[1];
    touches[i] = x.touches & y.touches;
    token0[i] = row0 + x.index[0];
    token1[i] = row0 + x.index[1];
    token2[i] = row1 + x.index[0];
    token3[i] = row1 + x.index[1];
    weight0[i] = top * x.weight[0];
    weight1[i] = top * x.weight[1];
    weight2[i] = bottom * x.weight[0];
    weight3[i] = bottom * x.weight[1];
  }
}

}  // namespace uniphd::cpu
