// int8 and int4 in panels, and their products with rows of signed bytes.
//
// A panel has blocks of 64 inputs, each of two groups of 32. A block begins with its scales, bf16 [2, 16]; then come
// values without sign, v + 128 or v + 8. Of int8 a group has [8, 16, 4]: four inputs of each output side by side. Of int4
// it has [4, 16, 4] bytes, whose low halves are the first sixteen inputs. Widths are filled up with zeros to whole blocks.
//
// Rows are bf16; each group of 32 of their values gets a scale of its own.
#pragma once
#include "numbers.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t kGroup = 32, kBlock = 2 * kGroup;

// Rows as signed bytes, in groups. Weights of kBits.
template <int kBits>
class Quantized {
 public:
  Quantized(const bf16* x, int64_t rows, int64_t width)
      : blocks_((width + kBlock - 1) / kBlock),
        memory_(Workspace::size_of<int8_t>(rows * blocks_ * kBlock) + Workspace::size_of<float>(rows * blocks_ * 2) +
                Workspace::size_of<int32_t>(rows * blocks_ * 2)),
        values_(memory_.take<int8_t>(rows * blocks_ * kBlock)),
        scales_(memory_.take<float>(rows * blocks_ * 2)),
        offsets_(memory_.take<int32_t>(rows * blocks_ * 2)) {
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t group = 0; group < 2 * blocks_; ++group)
        quantize(x + row * width + group * kGroup, width - group * kGroup, row * 2 * blocks_ + group);
  }

  static int64_t panel_bytes(int64_t width) { return (width + kBlock - 1) / kBlock * kBlockBytes; }

  template <int T>
  void multiply_rows(int64_t first, int64_t count, const char* panels, float* sums, int64_t sum_stride) const {
    switch (count) {
      case 1: return multiply<1, T>(first, panels, sums, sum_stride);
      case 2: return multiply<2, T>(first, panels, sums, sum_stride);
      case 3: return multiply<3, T>(first, panels, sums, sum_stride);
      case 4: return multiply<4, T>(first, panels, sums, sum_stride);
      case 5: return multiply<5, T>(first, panels, sums, sum_stride);
      default: return multiply<6, T>(first, panels, sums, sum_stride);
    }
  }

 private:
  static constexpr int64_t kScaleBytes = 2 * kLanes * sizeof(bf16), kGroupBytes = kGroup * kLanes * kBits / 8;
  static constexpr int64_t kBlockBytes = kScaleBytes + 2 * kGroupBytes;
  static constexpr int32_t kZero = 1 << (kBits - 1);  // what stands for a weight of zero

  int64_t blocks_;
  Workspace memory_;
  int8_t* values_;    // [rows, blocks, 64]
  float* scales_;     // [rows, blocks, 2]
  int32_t* offsets_;  // [rows, blocks, 2]: takes back what kZero adds to a group's sum

  void quantize(const bf16* x, int64_t left, int64_t group) {
    float wide[kGroup] = {};
    if (left >= kGroup)
      for (int i = 0; i < kGroup; ++i) wide[i] = widen(x[i]);
    else
      for (int64_t i = 0; i < left; ++i) wide[i] = widen(x[i]);
    float lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const float a = wide[i] < 0 ? -wide[i] : wide[i], b = wide[i + kLanes] < 0 ? -wide[i + kLanes] : wide[i + kLanes];
      lanes[i] = a > b ? a : b;
    }
    for (int step = kLanes / 2; step; step /= 2)
      for (int i = 0; i < step; ++i) lanes[i] = lanes[i] > lanes[i + step] ? lanes[i] : lanes[i + step];
    const float most = lanes[0], inverse = most > 0 ? 127.0f / most : 0.0f;
    int8_t* values = values_ + group * kGroup;
    int32_t sum = 0;
    for (int i = 0; i < kGroup; ++i) {
      const int32_t value = nearest(wide[i] * inverse);
      values[i] = static_cast<int8_t>(value);
      sum += value;
    }
    scales_[group] = most / 127.0f;
    offsets_[group] = -kZero * sum;
  }

  // sums [R, T, 16] of R rows with T panels, which follow each other.
  template <int R, int T>
  inline __attribute__((always_inline)) void multiply(int64_t first, const char* panels, float* sums,
                                                      int64_t sum_stride) const {
    const int64_t panel = blocks_ * kBlockBytes;
#if defined(__AVX512VNNI__)
    __m512 sum[R][T];
    for (int r = 0; r < R; ++r)
      for (int t = 0; t < T; ++t) sum[r][t] = _mm512_setzero_ps();
    for (int64_t block = 0; block < blocks_; ++block)
      for (int half = 0; half < 2; ++half) {
        const int64_t group = first * 2 * blocks_ + 2 * block + half;
        // A row alone would wait for its sums: it has two.
        constexpr int kSums = R == 1 ? 2 : 1;
        __m512i dots[kSums][R][T];
        for (int r = 0; r < R; ++r)
          for (int t = 0; t < T; ++t) {
            dots[kSums - 1][r][t] = _mm512_setzero_si512();
            dots[0][r][t] = _mm512_set1_epi32(offsets_[group + r * 2 * blocks_]);
          }
        const char* values = panels + block * kBlockBytes + kScaleBytes + half * kGroupBytes;
        auto add = [&](int quad, const __m512i* weights) __attribute__((always_inline)) {
          for (int r = 0; r < R; ++r) {
            int32_t four;
            std::memcpy(&four, values_ + (group + r * 2 * blocks_) * kGroup + 4 * quad, sizeof four);
            const __m512i value = _mm512_set1_epi32(four);
            __m512i* sums_of = dots[quad % 2 * (kSums - 1)][r];
            for (int t = 0; t < T; ++t) sums_of[t] = _mm512_dpbusd_epi32(sums_of[t], weights[t], value);
          }
        };
        if constexpr (kBits == 8) {
          for (int quad = 0; quad < 8; ++quad) {
            __m512i weights[T];
            for (int t = 0; t < T; ++t) weights[t] = _mm512_loadu_si512(values + t * panel + quad * 64);
            add(quad, weights);
          }
        } else {
          const __m512i low = _mm512_set1_epi8(15);
          for (int quad = 0; quad < 4; ++quad) {
            __m512i both[T], weights[T];
            for (int t = 0; t < T; ++t) both[t] = _mm512_loadu_si512(values + t * panel + quad * 64);
            for (int t = 0; t < T; ++t) weights[t] = _mm512_and_si512(both[t], low);
            add(quad, weights);
            for (int t = 0; t < T; ++t) weights[t] = _mm512_and_si512(_mm512_srli_epi16(both[t], 4), low);
            add(quad + 4, weights);
          }
        }
        for (int t = 0; t < T; ++t) {
          const char* from = panels + t * panel + block * kBlockBytes + half * kScaleBytes / 2;
          const __m256i narrow_scales = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
          const __m512 scale = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow_scales), 16));
          for (int r = 0; r < R; ++r) {
            const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(scales_[group + r * 2 * blocks_]));
            const __m512i all = kSums == 1 ? dots[0][r][t] : _mm512_add_epi32(dots[0][r][t], dots[kSums - 1][r][t]);
            sum[r][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(all), both, sum[r][t]);
          }
        }
      }
    for (int r = 0; r < R; ++r)
      for (int t = 0; t < T; ++t) _mm512_storeu_ps(sums + r * sum_stride + t * kLanes, sum[r][t]);
#elif defined(__AVX2__)
    constexpr int kSides = R <= 2 ? 2 : 1;  // read together as long as registers suffice: memory would wait for a second pass
    for (int t = 0; t < T; ++t)
      for (int side = 0; side < 2; side += kSides)
        multiply_sides<R, kSides>(first, panels + t * panel, side, sums + t * kLanes + side * kLanes / 2, sum_stride);
#else
    for (int r = 0; r < R; ++r)
      for (int t = 0; t < T; ++t)
        multiply_one((first + r) * 2 * blocks_, panels + t * panel, sums + r * sum_stride + t * kLanes);
#endif
  }

#if defined(__AVX2__) && !defined(__AVX512VNNI__)
  // S halves of a panel from `side` on, each of eight outputs. Sums of two products of bytes have sixteen bits: of int4
  // those of a whole group fit; of int8 two fit, since the weights' signs go to the rows' values, which are never -128.
  template <int R, int S>
  inline __attribute__((always_inline)) void multiply_sides(int64_t first, const char* panel, int side, float* sums,
                                                            int64_t sum_stride) const {
    constexpr int64_t kAhead = 1152, kBlockLines = kBlockBytes / 64;
    const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15), sign = _mm256_set1_epi8(-128);
    __m256 sum[R][S];
    for (int r = 0; r < R; ++r)
      for (int s = 0; s < S; ++s) sum[r][s] = _mm256_setzero_ps();
    for (int64_t block = 0; block < blocks_; ++block)
      for (int half = 0; half < 2; ++half) {
        const int64_t group = first * 2 * blocks_ + 2 * block + half;
        const char* values = panel + block * kBlockBytes + kScaleBytes + half * kGroupBytes + side * kLanes * 2;
        if constexpr (R == 1)  // which reads as fast as memory is
          for (int64_t line = half * kBlockLines / 2; line < (half + 1) * kBlockLines / 2; ++line)
            __builtin_prefetch(panel + block * kBlockBytes + line * 64 + kAhead, 0, 2);
        auto weights = [&](int quad, int s) __attribute__((always_inline)) {
          return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + quad * 64 + s * 32));
        };
        auto four = [&](int r, int quad) __attribute__((always_inline)) {
          int32_t bytes;
          std::memcpy(&bytes, values_ + (group + r * 2 * blocks_) * kGroup + 4 * quad, sizeof bytes);
          return _mm256_set1_epi32(bytes);
        };
        __m256i dots[R][S];  // of int4 first sums of sixteen bits
        for (int r = 0; r < R; ++r)
          for (int s = 0; s < S; ++s) dots[r][s] = _mm256_setzero_si256();
        if constexpr (kBits == 8) {
          for (int quad = 0; quad < 8; ++quad)
            for (int s = 0; s < S; ++s) {
              const __m256i weight = _mm256_xor_si256(weights(quad, s), sign), size = _mm256_abs_epi8(weight);
              for (int r = 0; r < R; ++r) {
                const __m256i two = _mm256_maddubs_epi16(size, _mm256_sign_epi8(four(r, quad), weight));
                dots[r][s] = _mm256_add_epi32(dots[r][s], _mm256_madd_epi16(two, ones));
              }
            }
        } else {
          for (int quad = 0; quad < 4; ++quad)
            for (int s = 0; s < S; ++s) {
              const __m256i both = weights(quad, s), early = _mm256_and_si256(both, low);
              const __m256i late = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
              for (int r = 0; r < R; ++r) {
                dots[r][s] = _mm256_add_epi16(dots[r][s], _mm256_maddubs_epi16(early, four(r, quad)));
                dots[r][s] = _mm256_add_epi16(dots[r][s], _mm256_maddubs_epi16(late, four(r, quad + 4)));
              }
            }
          for (int r = 0; r < R; ++r)
            for (int s = 0; s < S; ++s)
              dots[r][s] = _mm256_add_epi32(_mm256_madd_epi16(dots[r][s], ones),
                                            _mm256_set1_epi32(offsets_[group + r * 2 * blocks_]));
        }
        for (int s = 0; s < S; ++s) {
          const char* from = panel + block * kBlockBytes + half * kScaleBytes / 2 + (side + s) * kLanes;
          const __m128i scales = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
          const __m256 scale = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(scales), 16));
          for (int r = 0; r < R; ++r) {
            const __m256 both = _mm256_mul_ps(scale, _mm256_set1_ps(scales_[group + r * 2 * blocks_]));
            sum[r][s] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[r][s]), both, sum[r][s]);
          }
        }
      }
    for (int r = 0; r < R; ++r)
      for (int s = 0; s < S; ++s) _mm256_storeu_ps(sums + r * sum_stride + s * kLanes / 2, sum[r][s]);
  }
#endif

  void multiply_one(int64_t group, const char* panel, float* sums) const {
    float sum[kLanes] = {};
    for (int64_t block = 0; block < blocks_; ++block)
      for (int half = 0; half < 2; ++half, ++group) {
        const char* from = panel + block * kBlockBytes;
        bf16 scales[kLanes];
        std::memcpy(scales, from + half * kScaleBytes / 2, sizeof scales);
        const uint8_t* weights = reinterpret_cast<const uint8_t*>(from + kScaleBytes + half * kGroupBytes);
        const int8_t* x = values_ + group * kGroup;
        int32_t dots[kLanes];
        for (int32_t& dot : dots) dot = offsets_[group];
        for (int quad = 0; quad < kGroup / 4; ++quad)
          for (int lane = 0; lane < kLanes; ++lane)
            for (int i = 0; i < 4; ++i) {
              const int weight = kBits == 8 ? weights[quad * 64 + lane * 4 + i]
                                            : weights[quad % 4 * 64 + lane * 4 + i] >> (quad / 4 * 4) & 15;
              dots[lane] += weight * x[4 * quad + i];
            }
        for (int lane = 0; lane < kLanes; ++lane) sum[lane] += dots[lane] * (widen(scales[lane]) * scales_[group]);
      }
    std::memcpy(sums, sum, sizeof sum);
  }
};

}  // namespace
