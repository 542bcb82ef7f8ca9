// The sizes of one call.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace uniphd {

// The type in which samples of T are summed, and of the locations and weights.
template <typename T>
struct Accumulation {
  using type = float;
};
template <>
struct Accumulation<double> {
  using type = double;
};
template <typename T>
using accumulation_t = typename Accumulation<T>::type;

// B images, S tokens of all levels, H heads, D channels of a head, Q queries, L levels, P points.
struct Problem {
  int64_t batch;
  int64_t tokens;
  int64_t heads;
  int64_t channels;
  int64_t queries;
  int64_t levels;
  int64_t points;

  UNIPHD_HD int64_t samples() const { return levels * points; }
  UNIPHD_HD int64_t token_stride() const { return heads * channels; }
};

// One level of value: its size, and its first token.
struct Level {
  int32_t height;
  int32_t width;
  int32_t start;

  UNIPHD_HD int64_t tokens() const { return int64_t{height} * width; }
};

}  // namespace uniphd
