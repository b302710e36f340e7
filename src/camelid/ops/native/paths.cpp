// Picks the instruction set at run time and is all that Python calls.

#include "kernels.h"

#define DECLARE(path)                                                                                       \
  void advance_##path(const Model&, const Step&, int);                                                      \
  void linear_##path(const Matrix&, const bf16*, bf16*, int64_t, int64_t, int64_t, int);                      \
  void swiglu_##path(const Matrix&, const bf16*, bf16*, int64_t, int64_t, int64_t, int);
#define PATH(path) {#path, advance_##path, linear_##path, swiglu_##path}

DECLARE(baseline)
#if defined(__x86_64__)
DECLARE(avx2)
DECLARE(avx512_bf16)
#endif

namespace {

struct Path {
  const char* name;
  Advance advance;
  Linear linear, swiglu;
};

constexpr Path kPaths[] = {
#if defined(__x86_64__)
    PATH(avx512_bf16),
    PATH(avx2),
#endif
    PATH(baseline),
};
constexpr int kNumPaths = sizeof kPaths / sizeof kPaths[0];

bool runs_here(int path) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool is_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (path == 1) return is_avx2;
  if (path == 0)
    return is_avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512bf16");
#endif
  return path < kNumPaths;
}

}  // namespace

extern "C" {

// The name of a path, best first; null behind the last, empty where this processor cannot run it.
const char* camelid_path(int path) {
  if (path >= kNumPaths) return nullptr;
  return runs_here(path) ? kPaths[path].name : "";
}

void camelid_advance(int path, const Model* model, const Step* step, int num_threads) {
  kPaths[path].advance(*model, *step, num_threads);
}

void camelid_linear(int path, const Matrix* matrix, const bf16* x, bf16* out, int64_t rows, int64_t width,
                    int64_t height, int num_threads) {
  kPaths[path].linear(*matrix, x, out, rows, width, height, num_threads);
}

void camelid_swiglu(int path, const Matrix* matrix, const bf16* x, bf16* out, int64_t rows, int64_t width, int64_t ffn,
                    int num_threads) {
  kPaths[path].swiglu(*matrix, x, out, rows, width, ffn, num_threads);
}

}  // extern "C"
