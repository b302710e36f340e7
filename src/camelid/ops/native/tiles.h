// Matrices in tiles: bf16 [out / 16, in / 2, 16, 2], the last tile filled up with zeros.
//
// A tile is read from memory in order, and an input value meets sixteen outputs at once. Row by row, the input of a
// wide matrix is fetched again for every output, falls out of the first cache, and the weights arrive a fifth slower.
#pragma once
#include "numbers.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

constexpr int kTileRows = 6;  // rows of x that meet two tiles at once: their sums fill the registers

// sums [R, T, 16] of R rows of x (`stride` apart) with T tiles (one after another).
template <int R, int T>
inline __attribute__((always_inline)) void multiply(const bf16* tiles, const bf16* x, int64_t width, int64_t stride,
                                                    float* sums) {
  const int64_t pairs = width / 2, tile = width * kLanes;
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
    for (int t = 0; t < T; ++t) weights[t] = (__m512bh)_mm512_loadu_si512(tiles + t * tile + pair * 2 * kLanes);
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
      _mm512_storeu_ps(sums + (r * T + t) * kLanes, total);
    }
#else
  float sum[R][T][kLanes] = {};
  for (int64_t pair = 0; pair < pairs; ++pair)
    for (int t = 0; t < T; ++t) {
      uint32_t words[kLanes];
      std::memcpy(words, tiles + t * tile + pair * 2 * kLanes, sizeof words);
      for (int r = 0; r < R; ++r) {
        const float first = widen(x[r * stride + 2 * pair]), second = widen(x[r * stride + 2 * pair + 1]);
        for (int lane = 0; lane < kLanes; ++lane)
          sum[r][t][lane] += bits_to_float(words[lane] << 16) * first + bits_to_float(words[lane] & 0xffff0000u) * second;
      }
    }
  std::memcpy(sums, sum, sizeof sum);
#endif
}

// The same for up to kTileRows rows.
template <int T>
inline void multiply_rows(int64_t rows, const bf16* tiles, const bf16* x, int64_t width, int64_t stride, float* sums) {
  switch (rows) {
    case 1: return multiply<1, T>(tiles, x, width, stride, sums);
    case 2: return multiply<2, T>(tiles, x, width, stride, sums);
    case 3: return multiply<3, T>(tiles, x, width, stride, sums);
    case 4: return multiply<4, T>(tiles, x, width, stride, sums);
    case 5: return multiply<5, T>(tiles, x, width, stride, sums);
    default: return multiply<6, T>(tiles, x, width, stride, sums);
  }
}

// store(row, first output, sums of 16 outputs) for all rows and this thread's share of the tiles.
template <class Store>
inline void project(Share share, const bf16* matrix, int64_t width, const bf16* x, int64_t rows, const Store& store) {
  float sums[kTileRows * kLanes];
  for (int64_t tile = share.begin; tile < share.end; ++tile)
    for (int64_t first = 0; first < rows; first += kTileRows) {
      const int64_t some = smaller(rows - first, kTileRows);
      multiply_rows<1>(some, matrix + tile * width * kLanes, x + first * width, width, width, sums);
      for (int64_t r = 0; r < some; ++r) store(first + r, tile * kLanes, sums + r * kLanes);
    }
}

// store(row, first output, sums of 16 gates, sums of 16 ups): tiles of gate and up take turns in the matrix.
template <class Store>
inline void project_pairs(Share share, const bf16* matrix, int64_t width, const bf16* x, int64_t rows,
                          const Store& store) {
  float sums[2 * kTileRows * kLanes];
  for (int64_t pair = share.begin; pair < share.end; ++pair)
    for (int64_t first = 0; first < rows; first += kTileRows) {
      const int64_t some = smaller(rows - first, kTileRows);
      const bf16* tiles = matrix + pair * 2 * width * kLanes;
      if (some == 1) {  // one stream from memory, not two
        multiply<1, 1>(tiles, x + first * width, width, width, sums);
        multiply<1, 1>(tiles + width * kLanes, x + first * width, width, width, sums + kLanes);
      } else {
        multiply_rows<2>(some, tiles, x + first * width, width, width, sums);
      }
      for (int64_t r = 0; r < some; ++r)
        store(first + r, pair * kLanes, sums + 2 * r * kLanes, sums + (2 * r + 1) * kLanes);
    }
}

inline int64_t num_tiles(int64_t size) { return (size + kLanes - 1) / kLanes; }

}  // namespace
