// A packed matrix times any number of rows, for what is not a step of the decoder.
//
// Compiled once for each instruction set, as CAMELID_PATH.

#include "kernels.h"
#include "matrix.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace {

template <class Body>  // body(thread)
void in_parallel(int num_threads, const Body& body) {
  [[maybe_unused]] int64_t taken = 0;
#pragma omp parallel num_threads(num_threads)
  {
#if defined(_OPENMP)
    body(Thread{omp_get_thread_num(), omp_get_num_threads(), &taken});
#else
    body(Thread{0, 1});
#endif
  }
}

}  // namespace

// out [rows, height] = x [rows, width] times the matrix.
void CAMELID_NAME(linear)(const Matrix& matrix, const bf16* x, bf16* out, int64_t rows, int64_t width, int64_t height,
                          int num_threads) {
  in_parallel(num_threads, [&](const Thread& thread) {
    project(thread, matrix, width, height, x, rows, [&](int64_t row, int64_t first, const float* sums) {
      bf16* to = out + row * height + first;
      for (int64_t lane = 0; lane < smaller(height - first, kLanes); ++lane) to[lane] = narrow(sums[lane]);
    });
  });
}

// out [rows, ffn] = silu(gate) · up, where the matrix has panels of gate and up in turn.
void CAMELID_NAME(swiglu)(const Matrix& matrix, const bf16* x, bf16* out, int64_t rows, int64_t width, int64_t ffn,
                          int num_threads) {
  in_parallel(num_threads, [&](const Thread& thread) {
    project_swiglu(thread, matrix, width, ffn, x, rows, out);
  });
}
