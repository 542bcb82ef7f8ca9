// Backward on the CPU: one task per image, head and range of levels, so that every gradient has one
// writer, sums are taken in one order, and the result does not depend on the number of threads.
#include <ATen/Parallel.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels.h"
#include "lanes.h"
#include "samples.h"

namespace uniphd::cpu {
namespace {

constexpr int64_t kWideHeads = 2;  // heads for which a thread keeps float sums of half precision

// One block of channels: adds to the gradient of the values, and adds
// dot[4 * i + k] = <grad_output, corner k of sample i> over the block's channels.
template <typename Vector, int N, typename T, typename A>
UNIPHD_INLINE void scatter_block(const T* grad_output, const T* value, int64_t stride,
                                 A* grad_value, int64_t grad_stride, const Samples<A>& samples,
                                 int64_t begin, int64_t end, A* dot) {
  using L = Lanes<Vector>;
  Vector gradient[N];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) gradient[n] = L::load(grad_output + n * L::width);
  for (int64_t i = begin; i < end; ++i) {
    if (!samples.touches[i]) continue;
    Vector product[4] = {};
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const int64_t token = samples.token[k][i];
      const T* row = value + token * stride;
      A* grad_row = grad_value + token * grad_stride;
      const Vector weight = L::broadcast(samples.weight[k][i]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        product[k] += gradient[n] * L::load(row + n * L::width);
        const Vector sum = L::load(grad_row + n * L::width) + weight * gradient[n];
        L::store(grad_row + n * L::width, sum);
      }
    }
    L::add_sums(product, dot + 4 * i);
  }
}

// Gradients of the locations and weights of `count` samples from their dot products.
template <typename A>
inline void finish(const SampleTable& table, const A* __restrict__ locations,
                   const A* __restrict__ attention, const A* __restrict__ dot, int64_t count,
                   A* __restrict__ grad_locations, A* __restrict__ grad_attention) {
  const int32_t* __restrict__ heights = table.height.data();
  const int32_t* __restrict__ widths = table.width.data();
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const Axis<A> x = split_axis(locations[2 * i], widths[i]);
    const Axis<A> y = split_axis(locations[2 * i + 1], heights[i]);
    const PointGradient<A> gradient =
        point_gradient(x, y, dot + 4 * i, attention[i], heights[i], widths[i]);
    grad_locations[2 * i] = gradient.x;
    grad_locations[2 * i + 1] = gradient.y;
    grad_attention[i] = gradient.attention;
  }
}

// The levels [first, last) of neighbouring heads of one image, for all queries.
template <typename T>
class LevelsBackward {
  using A = accumulation_t<T>;

 public:
  LevelsBackward(const Problem& problem, const std::vector<Level>& levels,
                 const Inputs<T>& inputs, const Gradients<T>& gradients, int64_t first,
                 int64_t last)
      : problem_(problem),
        inputs_(inputs),
        gradients_(gradients),
        first_sample_(first * problem.points),
        count_((last - first) * problem.points),
        samples_(kQueries * count_),
        dot_(4 * kQueries * count_) {
    for (int64_t i = first; i < last; ++i) {
      Level level = levels[i];
      level.start -= levels[first].start;
      tokens_ += level.tokens();
      table_.append(level, problem.points);
    }
    first_token_ = levels[first].start;
  }

  // Consecutive heads go together: their rows of samples lie side by side, those of one head far
  // apart, which costs twice the time in caches and address translation.
  void run(int64_t b, int64_t h, int64_t heads) {
    const int64_t corner =
        (b * problem_.tokens + first_token_) * problem_.token_stride() + h * problem_.channels;
    const int64_t channels = heads * problem_.channels;
    A* grad_value = clear(corner, channels);
    grad_stride_ = std::is_same_v<T, A> ? problem_.token_stride() : channels;
    for (int64_t first = 0; first < problem_.queries; first += kQueries) {
      const int64_t queries = std::min(kQueries, problem_.queries - first);
      const int64_t row = (b * problem_.queries + first) * problem_.heads + h;
      for (int64_t i = 0; i < heads; ++i) {
        const int64_t channel = i * problem_.channels;
        run_tile(row + i, queries, inputs_.value + corner + channel, grad_value + channel);
      }
    }
    if constexpr (!std::is_same_v<T, A>) narrow(corner, channels);
  }

 private:
  // Small enough for the first-level cache; the three steps are apart so that none waits for what
  // the one before has just stored.
  static constexpr int64_t kQueries = 8;

  void run_tile(int64_t row, int64_t queries, const T* value, A* grad_value) {
    for (int64_t q = 0; q < queries; ++q) {
      const int64_t sample = sample_of(row, q);
      prepare(table_, inputs_.locations + 2 * sample, inputs_.attention + sample, q * count_,
              count_, samples_);
    }
    std::fill(dot_.begin(), dot_.end(), A(0));
    for (int64_t q = 0; q < queries; ++q) {
      const int64_t offset = (row + q * problem_.heads) * problem_.channels;
      scatter(q, gradients_.output + offset, value, grad_value);
    }
    for (int64_t q = 0; q < queries; ++q) {
      const int64_t sample = sample_of(row, q);
      finish(table_, inputs_.locations + 2 * sample, inputs_.attention + sample,
             dot_.data() + 4 * q * count_, count_, gradients_.locations + 2 * sample,
             gradients_.attention + sample);
    }
  }

  // Rows of consecutive queries of a head lie `heads` rows apart.
  int64_t sample_of(int64_t row, int64_t q) const {
    return (row + q * problem_.heads) * problem_.samples() + first_sample_;
  }

  // Zeros where the gradient of the value is summed: in the output, or in a float buffer.
  A* clear(int64_t corner, int64_t channels) {
    if constexpr (std::is_same_v<T, A>) {
      A* grad = gradients_.value + corner;
      for (int64_t i = 0; i < tokens_; ++i) {
        std::fill_n(grad + i * problem_.token_stride(), channels, A(0));
      }
      return grad;
    } else {
      wide_.assign(tokens_ * channels, A(0));
      return wide_.data();
    }
  }

  void scatter(int64_t q, const T* grad_output, const T* value, A* grad_value) {
    for_channel_blocks<A>(problem_.channels, [&](auto block, int64_t c) {
      using B = decltype(block);
      scatter_block<typename B::vector, B::size>(grad_output + c, value + c,
                                                 problem_.token_stride(), grad_value + c,
                                                 grad_stride_, samples_, q * count_,
                                                 (q + 1) * count_, dot_.data());
    });
  }

  void narrow(int64_t corner, int64_t channels) {
    for (int64_t i = 0; i < tokens_; ++i) {
      T* grad = gradients_.value + corner + i * problem_.token_stride();
      for (int64_t c = 0; c < channels; ++c) grad[c] = static_cast<T>(wide_[i * channels + c]);
    }
  }

  const Problem& problem_;
  const Inputs<T>& inputs_;
  const Gradients<T>& gradients_;
  const int64_t first_sample_;
  const int64_t count_;
  int64_t first_token_ = 0;
  int64_t tokens_ = 0;
  int64_t grad_stride_ = 0;
  SampleTable table_;
  Samples<A> samples_;
  std::vector<A> dot_;
  std::vector<A> wide_;
};

// Fewer (image, head) pairs than this are split further, by levels, to have work for all cores.
constexpr int64_t kFewHeads = 8;

}  // namespace

template <typename T>
void backward(const Problem& problem, const std::vector<Level>& levels, const Inputs<T>& inputs,
              const Gradients<T>& gradients) {
  const int64_t heads = problem.batch * problem.heads;
  // Not by the number of threads: rounding depends on how many samples a task holds.
  const int64_t ranges = heads < kFewHeads ? problem.levels : 1;
  const int64_t together = std::is_same_v<T, accumulation_t<T>> ? problem.heads : kWideHeads;
  at::parallel_for(0, heads * ranges, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end;) {
      const int64_t range = task / heads;
      const int64_t head = task % heads;
      const int64_t h = head % problem.heads;
      const int64_t count = std::min({together, problem.heads - h, end - task});
      const int64_t first = ranges == 1 ? 0 : range;
      const int64_t last = ranges == 1 ? problem.levels : range + 1;
      LevelsBackward<T>(problem, levels, inputs, gradients, first, last)
          .run(head / problem.heads, h, count);
      task += count;
    }
  });
}

#define UNIPHD_BACKWARD(T)                                                              \
  template void backward<T>(const Problem&, const std::vector<Level>&, const Inputs<T>&, \
                            const Gradients<T>&);

UNIPHD_BACKWARD(float)
UNIPHD_BACKWARD(double)
UNIPHD_BACKWARD(c10::Half)
UNIPHD_BACKWARD(c10::BFloat16)

}  // namespace uniphd::cpu
