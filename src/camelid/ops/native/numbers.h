// bf16, a fast exponential, shares of work, barriers and buffers.
//
// In an unnamed namespace, as all that is compiled once for each instruction set: the linker must not take another
// path's copy. For the same reason hot loops call nothing of the standard library.
#pragma once
#include <sched.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

using bf16 = uint16_t;

namespace {

constexpr int kLanes = 16;  // outputs of a panel: one AVX-512 register of sums

inline float bits_to_float(uint32_t bits) {
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

inline int32_t float_to_bits(float value) {
  int32_t result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

inline float widen(bf16 value) { return bits_to_float(static_cast<uint32_t>(value) << 16); }

inline bf16 narrow(float value) {  // rounds to nearest even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return static_cast<bf16>(value == value ? rounded : (bits >> 16) | 0x40);
}

// exp to 2e-7 of itself, in a form that compilers turn into vectors. Below -87 it is exp(-87), next to nothing.
inline float exp_fast(float x) {
  x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504f + 12582912.0f;  // leaves the integer part in the low bits
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * bits_to_float(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
}

inline int32_t nearest(float x) {  // integer; halves to even; |x| below 2^22
  return float_to_bits(x + 12582912.0f) - 0x4b400000;
}

inline float silu(float x) { return x / (1.0f + exp_fast(-x)); }

// Adds in pairs, so that vectors can.
inline float sum_of(float* lanes) {
  for (int step = kLanes / 2; step; step /= 2)
    for (int lane = 0; lane < step; ++lane) lanes[lane] += lanes[lane + step];
  return lanes[0];
}

inline float mean_square(const float* x, int64_t width) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  for (int lane = 0; i + lane < width; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  return sum_of(lanes) / width;
}

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// A part of some interval.
struct Share {
  int64_t begin, end;
};

// One of the threads that work on one thing. Each has an equal part; of what is large each takes the next piece from
// `taken`, a counter that all share and that begins at zero: nobody waits long for one whom other programs slow down.
struct Thread {
  int index, count;
  int64_t* taken = nullptr;

  Share share_of(int64_t size) const { return {size * index / count, size * (index + 1) / count}; }

  // body(share) for what is this thread's of `size` items of so many bytes.
  template <class Body>
  void for_each_share(int64_t size, int64_t item_bytes, const Body& body) const {
    constexpr int64_t kPieceBytes = 1 << 18, kFewPieces = 8;
    const int64_t piece = larger(kPieceBytes / item_bytes, 1);
    if (!taken || size < kFewPieces * count * piece) return body(share_of(size));
    for (int64_t begin; (begin = __atomic_fetch_add(taken, piece, __ATOMIC_RELAXED)) < size;)
      body({begin, smaller(begin + piece, size)});
  }
};

// Where threads wait for each other. OpenMP's own puts them to sleep at once as soon as a program has more of its threads
// than processors, also if most of them do nothing: a server is such a program, and waking takes longer than a product.
class Barrier {
 public:
  void wait(int count) {
    constexpr int kSpins = 1 << 14;
    const int turn = __atomic_load_n(&turn_, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&arrived_, 1, __ATOMIC_ACQ_REL) == count) {
      arrived_ = 0;
      __atomic_store_n(&turn_, turn + 1, __ATOMIC_RELEASE);
      return;
    }
    for (int spins = 0; __atomic_load_n(&turn_, __ATOMIC_ACQUIRE) == turn; ++spins)
      if (spins < kSpins)
        pause();
      else
        sched_yield(), spins = kSpins;
  }

 private:
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  int arrived_ = 0, turn_ = 0;
};

// Aligned buffers, taken one after another and freed together.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : memory_(static_cast<char*>(std::aligned_alloc(64, bytes + 64))) {}
  ~Workspace() { std::free(memory_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  template <class T>
  T* take(int64_t count) {
    T* result = reinterpret_cast<T*>(memory_ + used_);
    used_ += size_of<T>(count);
    return result;
  }
  template <class T>
  static size_t size_of(int64_t count) {
    return (count * sizeof(T) + 63) / 64 * 64;
  }

 private:
  char* memory_;
  size_t used_ = 0;
};

}  // namespace
