// A tiled matrix times any number of rows, for what is not a decode step.
//
// Compiled once for each instruction set, as CAMELID_PATH.

#include "kernels.h"
#include "tiles.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace {

constexpr int64_t kCachedBytes = 1 << 19;  // of x, so that it stays in the second cache while the matrix goes by

template <class Body>  // body(thread, threads, first row, rows): all threads see all rows, in pieces
void in_pieces(int64_t rows, int64_t width, int num_threads, const Body& body) {
  const int64_t piece = larger(kCachedBytes / (2 * width) / kTileRows, 4) * kTileRows;
#pragma omp parallel num_threads(num_threads)
  {
    int thread = 0, threads = 1;
#if defined(_OPENMP)
    thread = omp_get_thread_num(), threads = omp_get_num_threads();
#endif
    for (int64_t first = 0; first < rows; first += piece) body(thread, threads, first, smaller(rows - first, piece));
  }
}

}  // namespace

// out [rows, height] = x [rows, width] times the matrix.
void CAMELID_NAME(linear)(const bf16* matrix, const bf16* x, bf16* out, int64_t rows, int64_t width, int64_t height,
                          int num_threads) {
  in_pieces(rows, width, num_threads, [&](int thread, int threads, int64_t start, int64_t some) {
    const bf16* piece = x + start * width;
    const int64_t pairs = num_tiles(height) / 2;
    auto store = [&](int64_t row, int64_t first, const float* sums) {
      bf16* to = out + (start + row) * height + first;
      for (int64_t lane = 0; lane < smaller(height - first, kLanes); ++lane) to[lane] = narrow(sums[lane]);
    };
    project_pairs(share_of(pairs, thread, threads), matrix, width, piece, some,
                  [&](int64_t row, int64_t first, const float* left, const float* right) {
                    store(row, 2 * first, left);
                    store(row, 2 * first + kLanes, right);
                  });
    if (num_tiles(height) % 2 && thread == 0)
      project(Share{2 * pairs, 2 * pairs + 1}, matrix, width, piece, some, store);
  });
}

// out [rows, ffn] = silu(gate) · up, where the matrix has tiles of gate and up in turn.
void CAMELID_NAME(swiglu)(const bf16* matrix, const bf16* x, bf16* out, int64_t rows, int64_t width, int64_t ffn,
                          int num_threads) {
  in_pieces(rows, width, num_threads, [&](int thread, int threads, int64_t start, int64_t some) {
    project_pairs(share_of(num_tiles(ffn), thread, threads), matrix, width, x + start * width, some,
                  [&](int64_t row, int64_t first, const float* gate, const float* up) {
                    bf16* to = out + (start + row) * ffn + first;
                    for (int64_t lane = 0; lane < smaller(ffn - first, kLanes); ++lane)
                      to[lane] = narrow(silu(gate[lane]) * up[lane]);
                  });
  });
}
