// Bilinear sampling of one point: the arithmetic that the CPU and the CUDA kernels share.
//
// Convention (align_corners=False): location u on an axis of n cells is pixel u * n - 0.5, and
// zeros lie outside. A point touches the two cells floor(pixel) and floor(pixel) + 1 of each axis.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace uniphd {

// The two cells of one axis. Indices are always inside [0, size), so that a load needs no branch;
// `weight` and `inside` are zero for a cell that lies outside.
template <typename A>
struct Axis {
  int32_t index[2];
  A weight[2];
  A inside[2];  // 1 or 0
  bool touches;  // at least one of the two cells is inside
};

// No branches: compilers turn the conditionals into selects and vectorise a loop over points.
// A location that is not finite ends as a point that touches nothing.
template <typename A>
UNIPHD_HD Axis<A> split_axis(A location, int32_t size) {
  const A extent = static_cast<A>(size);
  A pixel = location * extent - A(0.5);
  pixel = pixel >= A(-2) ? pixel : A(-2);  // also turns NaN into -2
  pixel = pixel <= extent + A(1) ? pixel : extent + A(1);
  const A low = std::floor(pixel);
  const A fraction = pixel - low;
  const int32_t first = static_cast<int32_t>(low);
  const int32_t last = size - 1;
  const bool first_inside = (first >= 0) & (first <= last);
  const bool second_inside = (first >= -1) & (first < last);
  Axis<A> axis;
  axis.index[0] = first < 0 ? 0 : (first > last ? last : first);
  axis.index[1] = first < -1 ? 0 : (first >= last ? last : first + 1);
  axis.inside[0] = first_inside ? A(1) : A(0);
  axis.inside[1] = second_inside ? A(1) : A(0);
  axis.weight[0] = first_inside ? A(1) - fraction : A(0);
  axis.weight[1] = second_inside ? fraction : A(0);
  axis.touches = (first >= -1) & (first <= last);
  return axis;
}

// Gradients of one sample given dot[2 * row + column] = <grad_output, value of that corner>:
// of the attention weight, and of the location (x, y) when the sample is weighted by `attention`.
template <typename A>
struct PointGradient {
  A attention;
  A x;
  A y;
};

template <typename A>
UNIPHD_HD PointGradient<A> point_gradient(const Axis<A>& x, const Axis<A>& y, const A dot[4],
                                          A attention, int32_t height, int32_t width) {
  const A top = x.weight[0] * dot[0] + x.weight[1] * dot[1];
  const A bottom = x.weight[0] * dot[2] + x.weight[1] * dot[3];
  const A top_slope = x.inside[1] * dot[1] - x.inside[0] * dot[0];
  const A bottom_slope = x.inside[1] * dot[3] - x.inside[0] * dot[2];
  PointGradient<A> gradient;
  gradient.attention = y.weight[0] * top + y.weight[1] * bottom;
  gradient.x = attention * static_cast<A>(width) *
               (y.weight[0] * top_slope + y.weight[1] * bottom_slope);
  gradient.y = attention * static_cast<A>(height) *
               (y.inside[1] * bottom - y.inside[0] * top);
  return gradient;
}

}  // namespace uniphd
