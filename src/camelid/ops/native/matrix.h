// Matrices in any format times rows of bf16.
#pragma once
#include "kernels.h"
#include "panels.h"
#include "quantized.h"

namespace {

inline int64_t num_panels(int64_t size) { return (size + kLanes - 1) / kLanes; }

// Rows as bf16.
struct Bf16 {
  static constexpr int64_t kAhead = 512;
  const bf16* x;
  int64_t width;

  Bf16(const bf16* rows, int64_t, int64_t size) : x(rows), width(size) {}
  static int64_t panel_bytes(int64_t width) { return width * kLanes * static_cast<int64_t>(sizeof(bf16)); }

  // sums [count, T, 16] of rows from `first` on with T panels that follow each other.
  template <int T>
  void multiply_rows(int64_t first, int64_t count, const char* panels, float* sums, int64_t sum_stride) const {
    const bf16* weights = reinterpret_cast<const bf16*>(panels);
    if (count == 1)  // which reads as fast as memory is
      ::multiply<1, T, true>(weights, width * kLanes, x + first * width, width, width, sums, sum_stride, kAhead);
    else
      ::multiply_rows<T>(count, weights, width * kLanes, x + first * width, width, width, sums, sum_stride);
  }
};

// body(first row, rows): as many rows at a time as stay in the second cache while a matrix goes by.
template <class Body>
inline void in_pieces(int64_t rows, int64_t width, const Body& body) {
  constexpr int64_t kCachedBytes = 1 << 19;
  const int64_t piece = larger(kCachedBytes / (2 * width) / kPanelRows, 4) * kPanelRows;
  for (int64_t first = 0; first < rows; first += piece) body(first, smaller(rows - first, piece));
}

// store(row, first output, sums of 16 outputs) for all rows and this thread's panels. One row reads one panel after
// the other: one stream from memory, not two. `store_two` gets the sums of two panels; an odd last one is the last
// thread's.
template <class Rows, class Store, class StoreTwo>
inline void project_as(const Thread& thread, const char* matrix, int64_t panels, int64_t width, const bf16* x,
                       int64_t rows, const Store& store, const StoreTwo& store_two) {
  const int64_t panel = Rows::panel_bytes(width);
  in_pieces(rows, width, [&](int64_t start, int64_t count) {
    const Rows inputs(x + start * width, count, width);
    float sums[2 * kPanelRows * kLanes];
    auto multiply_pairs = [&](Share pairs) {
      for (int64_t pair = pairs.begin; pair < pairs.end; ++pair)
        for (int64_t first = 0; first < count; first += kPanelRows) {
          const int64_t some = smaller(count - first, kPanelRows);
          const char* both = matrix + pair * 2 * panel;
          if (some == 1) {
            inputs.template multiply_rows<1>(first, 1, both, sums, kLanes);
            inputs.template multiply_rows<1>(first, 1, both + panel, sums + kLanes, kLanes);
          } else {
            inputs.template multiply_rows<2>(first, some, both, sums, 2 * kLanes);
          }
          for (int64_t r = 0; r < some; ++r)
            store_two(start + first + r, 2 * pair * kLanes, sums + 2 * r * kLanes, sums + (2 * r + 1) * kLanes);
        }
    };
    if (count == rows)
      thread.for_each_share(panels / 2, 2 * panel, multiply_pairs);
    else  // the counter serves one piece
      multiply_pairs(thread.share_of(panels / 2));
    if (panels % 2 && thread.index == thread.count - 1)
      for (int64_t first = 0; first < count; first += kPanelRows) {
        const int64_t some = smaller(count - first, kPanelRows);
        inputs.template multiply_rows<1>(first, some, matrix + (panels - 1) * panel, sums, kLanes);
        for (int64_t r = 0; r < some; ++r) store(start + first + r, (panels - 1) * kLanes, sums + r * kLanes);
      }
  });
}

template <class Store, class StoreTwo>
inline void project_in_format(const Thread& thread, const Matrix& matrix, int64_t panels, int64_t width, const bf16* x,
                              int64_t rows, const Store& store, const StoreTwo& store_two) {
  const char* data = static_cast<const char*>(matrix.panels);
  switch (matrix.format) {
    case kInt8: return project_as<Quantized<8>>(thread, data, panels, width, x, rows, store, store_two);
    case kInt4: return project_as<Quantized<4>>(thread, data, panels, width, x, rows, store, store_two);
    default: return project_as<Bf16>(thread, data, panels, width, x, rows, store, store_two);
  }
}

// store(row, first output, sums of 16 outputs) for all rows and this thread's part of a matrix [height, width].
template <class Store>
inline void project(const Thread& thread, const Matrix& matrix, int64_t width, int64_t height, const bf16* x,
                    int64_t rows, const Store& store) {
  project_in_format(thread, matrix, num_panels(height), width, x, rows, store,
                    [&](int64_t row, int64_t first, const float* left, const float* right) {
                      store(row, first, left);
                      store(row, first + kLanes, right);
                    });
}

// out [rows, ffn] = silu(gate) · up, this thread's part, where panels of gate and up take turns.
inline void project_swiglu(const Thread& thread, const Matrix& matrix, int64_t width, int64_t ffn, const bf16* x,
                           int64_t rows, bf16* out) {
  project_in_format(thread, matrix, 2 * num_panels(ffn), width, x, rows, [](int64_t, int64_t, const float*) {},
                    [&](int64_t row, int64_t twice_first, const float* gate, const float* up) {
                      bf16* to = out + row * ffn + twice_first / 2;
                      for (int64_t lane = 0; lane < smaller(ffn - twice_first / 2, kLanes); ++lane)
                        to[lane] = narrow(silu(gate[lane]) * up[lane]);
                    });
}

}  // namespace
