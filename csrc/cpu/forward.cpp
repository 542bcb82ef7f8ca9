// Forward on the CPU: every output row has one writer, the thread that owns its query.
#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels.h"
#include "lanes.h"
#include "samples.h"

namespace uniphd::cpu {
namespace {

// Sums `count` samples into one block of channels of an output row.
template <typename Vector, int N, typename T, typename A>
UNIPHD_INLINE void sum_block(const T* value, int64_t stride, const Samples<A>& samples,
                             int64_t count, T* output) {
  using L = Lanes<Vector>;
  Vector top[N] = {};
  Vector bottom[N] = {};
  for (int64_t i = 0; i < count; ++i) {
    if (!samples.touches[i]) continue;
    const T* row0 = value + samples.token[0][i] * stride;
    const T* row1 = value + samples.token[1][i] * stride;
    const T* row2 = value + samples.token[2][i] * stride;
    const T* row3 = value + samples.token[3][i] * stride;
    const Vector weight0 = L::broadcast(samples.weight[0][i]);
    const Vector weight1 = L::broadcast(samples.weight[1][i]);
    const Vector weight2 = L::broadcast(samples.weight[2][i]);
    const Vector weight3 = L::broadcast(samples.weight[3][i]);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      top[n] += weight0 * L::load(row0 + n * L::width);
      bottom[n] += weight2 * L::load(row2 + n * L::width);
      top[n] += weight1 * L::load(row1 + n * L::width);
      bottom[n] += weight3 * L::load(row3 + n * L::width);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) L::store(output + n * L::width, top[n] + bottom[n]);
}

}  // namespace

template <typename T>
void forward(const Problem& problem, const std::vector<Level>& levels, const Inputs<T>& inputs,
             T* output) {
  using A = accumulation_t<T>;
  constexpr int64_t kQueries = 16;  // per tile: heads outside, queries inside, for the caches
  const int64_t count = problem.samples();
  const int64_t stride = problem.token_stride();
  SampleTable table;
  for (const Level& level : levels) table.append(level, problem.points);
  const int64_t tiles = (problem.queries + kQueries - 1) / kQueries;
  at::parallel_for(0, problem.batch * tiles, 1, [&](int64_t begin, int64_t end) {
    Samples<A> samples(count);
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t b = tile / tiles;
      const int64_t first = tile % tiles * kQueries;
      const int64_t last = std::min(first + kQueries, problem.queries);
      for (int64_t h = 0; h < problem.heads; ++h) {
        const T* values = inputs.value + b * problem.tokens * stride + h * problem.channels;
        for (int64_t q = first; q < last; ++q) {
          const int64_t row = (b * problem.queries + q) * problem.heads + h;
          const A* locations = inputs.locations + row * count * 2;
          const A* attention = inputs.attention + row * count;
          if (q + 2 < last) {  // they lie further apart than a hardware prefetcher looks
            prefetch(locations + 2 * problem.heads * count * 2, count * 2);
            prefetch(attention + 2 * problem.heads * count, count);
          }
          prepare(table, locations, attention, 0, count, samples);
          for_channel_blocks<A>(problem.channels, [&](auto block, int64_t c) {
            using B = decltype(block);
            sum_block<typename B::vector, B::size>(values + c, stride, samples, count,
                                                   output + row * problem.channels + c);
          });
        }
      }
    }
  });
}

#define UNIPHD_FORWARD(T)                                                          \
  template void forward<T>(const Problem&, const std::vector<Level>&, const Inputs<T>&, T*);

UNIPHD_FORWARD(float)
UNIPHD_FORWARD(double)
UNIPHD_FORWARD(c10::Half)
UNIPHD_FORWARD(c10::BFloat16)

}  // namespace uniphd::cpu
