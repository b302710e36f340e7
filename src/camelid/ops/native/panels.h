// Matrices in panels: bf16 [out / 16, in / 2, 16, 2], the last panel filled up with zeros.
//
// A panel is read from memory in order, and an input value meets sixteen outputs at once. Row by row, the input of a
// wide matrix is fetched again for every output, falls out of the first cache, and the weights arrive a fifth slower.
#pragma once
#include "numbers.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

constexpr int kPanelRows = 6;  // rows of x that meet two panels at once: their sums fill the registers

#if defined(__AVX2__) && !defined(__AVX512BF16__)
// The same for H halves of one panel, eight outputs each: there are half as many registers, of half the size.
template <int R, int H, bool kExpects>
inline __attribute__((always_inline)) void multiply_halves(const bf16* panel, const bf16* x, int64_t pairs, int64_t stride,
                                                           float* sums, int64_t sum_stride, int64_t ahead) {
  constexpr int kUnroll = 2;
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  __m256 sum[kUnroll][R][H];
  for (int u = 0; u < kUnroll; ++u)
    for (int r = 0; r < R; ++r)
      for (int h = 0; h < H; ++h) sum[u][r][h] = _mm256_setzero_ps();
  auto add = [&](int64_t pair, int u) __attribute__((always_inline)) {
    if (kExpects) __builtin_prefetch(panel + pair * 2 * kLanes + ahead, 0, 2);
    __m256 first[H], second[H];
    for (int h = 0; h < H; ++h) {
      const bf16* from = panel + (2 * pair + h) * kLanes;
      const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      first[h] = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
      second[h] = _mm256_castsi256_ps(_mm256_and_si256(both, high));
    }
    for (int r = 0; r < R; ++r) {
      int32_t two;
      std::memcpy(&two, x + r * stride + 2 * pair, sizeof two);
      const __m256i value = _mm256_set1_epi32(two);
      const __m256 left = _mm256_castsi256_ps(_mm256_slli_epi32(value, 16));
      const __m256 right = _mm256_castsi256_ps(_mm256_and_si256(value, high));
      for (int h = 0; h < H; ++h) sum[u][r][h] = _mm256_fmadd_ps(first[h], left, sum[u][r][h]);
      for (int h = 0; h < H; ++h) sum[u][r][h] = _mm256_fmadd_ps(second[h], right, sum[u][r][h]);
    }
  };
  int64_t pair = 0;
  for (; pair + kUnroll <= pairs; pair += kUnroll)
    for (int u = 0; u < kUnroll; ++u) add(pair + u, u);
  for (; pair < pairs; ++pair) add(pair, 0);
  for (int r = 0; r < R; ++r)
    for (int h = 0; h < H; ++h)
      _mm256_storeu_ps(sums + r * sum_stride + h * kLanes / 2, _mm256_add_ps(sum[0][r][h], sum[1][r][h]));
}
#endif

// sums [R, T, 16], rows `sum_stride` apart, of R rows of x, `stride` apart, with T panels, `panel` apart.
// kExpects: what lies `ahead` of the panels is read next, and is not where a processor would look for it.
template <int R, int T, bool kExpects = false>
inline __attribute__((always_inline)) void multiply(const bf16* panels, int64_t panel, const bf16* x, int64_t width,
                                                    int64_t stride, float* sums, int64_t sum_stride,
                                                    int64_t ahead = 0) {
  const int64_t pairs = width / 2;
#if defined(__AVX512BF16__)
  // Two sums for each output, added at the end: one row alone would wait for its sums. The same for any number of
  // rows, so that a row's result does not depend on its neighbours.
  constexpr int kUnroll = 2;
  __m512 sum[kUnroll][R][T];
  for (int u = 0; u < kUnroll; ++u)
    for (int r = 0; r < R; ++r)
      for (int t = 0; t < T; ++t) sum[u][r][t] = _mm512_setzero_ps();
  auto add = [&](int64_t pair, int u) __attribute__((always_inline)) {
    __m512bh weights[T];
    if (kExpects)
      for (int t = 0; t < T; ++t) __builtin_prefetch(panels + t * panel + pair * 2 * kLanes + ahead, 0, 2);
    for (int t = 0; t < T; ++t) weights[t] = (__m512bh)_mm512_loadu_si512(panels + t * panel + pair * 2 * kLanes);
    for (int r = 0; r < R; ++r) {
      int32_t both;
      std::memcpy(&both, x + r * stride + 2 * pair, sizeof both);
      const __m512bh value = (__m512bh)_mm512_set1_epi32(both);
      for (int t = 0; t < T; ++t) sum[u][r][t] = _mm512_dpbf16_ps(sum[u][r][t], weights[t], value);
    }
  };
  int64_t pair = 0;
  for (; pair + kUnroll <= pairs; pair += kUnroll)
    for (int u = 0; u < kUnroll; ++u) add(pair + u, u);
  for (; pair < pairs; ++pair) add(pair, 0);
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) {
      __m512 total = sum[0][r][t];
      for (int u = 1; u < kUnroll; ++u) total = _mm512_add_ps(total, sum[u][r][t]);
      _mm512_storeu_ps(sums + r * sum_stride + t * kLanes, total);
    }
#elif defined(__AVX2__)
  for (int t = 0; t < T; ++t) {
    const bf16* from = panels + t * panel;
    if constexpr (R <= 2) {
      multiply_halves<R, 2, kExpects>(from, x, pairs, stride, sums + t * kLanes, sum_stride, ahead);
    } else {
      multiply_halves<R, 1, kExpects>(from, x, pairs, stride, sums + t * kLanes, sum_stride, ahead);
      multiply_halves<R, 1, false>(from + kLanes, x, pairs, stride, sums + t * kLanes + kLanes / 2, sum_stride, 0);
    }
  }
#else
  float sum[R][T][kLanes] = {};
  for (int64_t pair = 0; pair < pairs; ++pair)
    for (int t = 0; t < T; ++t) {
      uint32_t words[kLanes];
      std::memcpy(words, panels + t * panel + pair * 2 * kLanes, sizeof words);
      for (int r = 0; r < R; ++r) {
        const float first = widen(x[r * stride + 2 * pair]), second = widen(x[r * stride + 2 * pair + 1]);
        for (int lane = 0; lane < kLanes; ++lane)
          sum[r][t][lane] += bits_to_float(words[lane] << 16) * first + bits_to_float(words[lane] & 0xffff0000u) * second;
      }
    }
  for (int r = 0; r < R; ++r) std::memcpy(sums + r * sum_stride, sum[r], sizeof sum[r]);
#endif
}

// The same for up to kPanelRows rows.
template <int T, bool kExpects = false>
inline void multiply_rows(int64_t rows, const bf16* panels, int64_t panel, const bf16* x, int64_t width, int64_t stride,
                          float* sums, int64_t sum_stride, int64_t ahead = 0) {
  switch (rows) {
    case 1: return multiply<1, T, kExpects>(panels, panel, x, width, stride, sums, sum_stride, ahead);
    case 2: return multiply<2, T, kExpects>(panels, panel, x, width, stride, sums, sum_stride, ahead);
    case 3: return multiply<3, T, kExpects>(panels, panel, x, width, stride, sums, sum_stride, ahead);
    case 4: return multiply<4, T, kExpects>(panels, panel, x, width, stride, sums, sum_stride, ahead);
    case 5: return multiply<5, T, kExpects>(panels, panel, x, width, stride, sums, sum_stride, ahead);
    default: return multiply<6, T, kExpects>(panels, panel, x, width, stride, sums, sum_stride, ahead);
  }
}

}  // namespace
