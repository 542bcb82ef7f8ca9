// Vectors of 32 bytes through the compilers' own vector types (GCC and Clang): AVX on x86,
// pairs of NEON registers on Arm. Half precision rows are widened to float as they are loaded.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>
#include <cstring>

#if defined(__AVX2__) && defined(__F16C__)
#define UNIPHD_AVX2 1
#include <immintrin.h>
#else
#define UNIPHD_AVX2 0
#endif

#define UNIPHD_INLINE inline __attribute__((always_inline))

namespace uniphd::cpu {

typedef float FloatLanes __attribute__((vector_size(32)));
typedef double DoubleLanes __attribute__((vector_size(32)));

// Vector: what one register step handles, 32 bytes of A, or one A for the channels left over.
template <typename Vector>
struct Lanes;

template <typename A, typename V>
struct WideLanes {
  using scalar = A;
  static constexpr int width = 32 / sizeof(A);

  static UNIPHD_INLINE V broadcast(A x) { return x - V{}; }
  static UNIPHD_INLINE V load(const A* p) {
    V v;
    std::memcpy(&v, p, sizeof(V));
    return v;
  }
  template <typename T>
  static UNIPHD_INLINE void store(T* p, V v) {
    for (int i = 0; i < width; ++i) p[i] = static_cast<T>(v[i]);
  }
  static UNIPHD_INLINE void store(A* p, V v) { std::memcpy(p, &v, sizeof(V)); }
};

template <>
struct Lanes<FloatLanes> : WideLanes<float, FloatLanes> {
  using WideLanes<float, FloatLanes>::load;

  static UNIPHD_INLINE FloatLanes load(const c10::BFloat16* p) {
#if UNIPHD_AVX2
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return (FloatLanes)_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16);
#else
    FloatLanes v;
    for (int i = 0; i < width; ++i) v[i] = static_cast<float>(p[i]);
    return v;
#endif
  }

  static UNIPHD_INLINE FloatLanes load(const c10::Half* p) {
#if UNIPHD_AVX2
    return (FloatLanes)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
    FloatLanes v;
    for (int i = 0; i < width; ++i) v[i] = static_cast<float>(p[i]);
    return v;
#endif
  }

  // Adds the sum of each of four vectors to out[0..3].
  static UNIPHD_INLINE void add_sums(const FloatLanes v[4], float* out) {
#if UNIPHD_AVX2
    const __m256 low = _mm256_hadd_ps((__m256)v[0], (__m256)v[1]);
    const __m256 high = _mm256_hadd_ps((__m256)v[2], (__m256)v[3]);
    const __m256 both = _mm256_hadd_ps(low, high);
    const __m128 sums =
        _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm_loadu_ps(out), sums));
#else
    for (int k = 0; k < 4; ++k) {
      out[k] += ((v[k][0] + v[k][1]) + (v[k][2] + v[k][3])) +
                ((v[k][4] + v[k][5]) + (v[k][6] + v[k][7]));
    }
#endif
  }
};

template <>
struct Lanes<DoubleLanes> : WideLanes<double, DoubleLanes> {
  static UNIPHD_INLINE void add_sums(const DoubleLanes v[4], double* out) {
    for (int k = 0; k < 4; ++k) out[k] += (v[k][0] + v[k][1]) + (v[k][2] + v[k][3]);
  }
};

template <typename A>
struct SingleLane {
  using scalar = A;
  static constexpr int width = 1;

  static UNIPHD_INLINE A broadcast(A x) { return x; }
  template <typename T>
  static UNIPHD_INLINE A load(const T* p) {
    return static_cast<A>(*p);
  }
  template <typename T>
  static UNIPHD_INLINE void store(T* p, A v) {
    *p = static_cast<T>(v);
  }
  static UNIPHD_INLINE void add_sums(const A v[4], A* out) {
    for (int k = 0; k < 4; ++k) out[k] += v[k];
  }
};

template <>
struct Lanes<float> : SingleLane<float> {};
template <>
struct Lanes<double> : SingleLane<double> {};

template <typename A>
struct Wide;
template <>
struct Wide<float> {
  using type = FloatLanes;
};
template <>
struct Wide<double> {
  using type = DoubleLanes;
};

// Covers the channels with blocks of 8, 4, 2 and 1 vectors, then single channels, and calls
// body(Block<Vector, count>{}, first_channel) for each: 32 float channels are one block of four.
template <typename Vector, int count>
struct Block {
  using vector = Vector;
  static constexpr int size = count;
};

template <typename A, typename Body>
UNIPHD_INLINE void for_channel_blocks(int64_t channels, const Body& body) {
  using Vector = typename Wide<A>::type;
  constexpr int64_t width = Lanes<Vector>::width;
  int64_t c = 0;
  for (; c + 8 * width <= channels; c += 8 * width) body(Block<Vector, 8>{}, c);
  if (c + 4 * width <= channels) body(Block<Vector, 4>{}, c), c += 4 * width;
  if (c + 2 * width <= channels) body(Block<Vector, 2>{}, c), c += 2 * width;
  if (c + width <= channels) body(Block<Vector, 1>{}, c), c += width;
  for (; c < channels; ++c) body(Block<A, 1>{}, c);
}

}  // namespace uniphd::cpu
