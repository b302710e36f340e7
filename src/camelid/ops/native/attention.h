// Attention of new tokens over paged keys and values.
//
// Every row's sums are made in the same order whether it comes alone or among others: page by page within splits,
// whose length depends on nothing but the number of keys, and split by split.
#pragma once
#include "kernels.h"
#include "panels.h"

#include <cmath>

namespace {

constexpr int64_t kSplitKeys = 1024, kMaxSplits = 64;
constexpr int64_t kQueryRows = 12;  // tokens of a prompt that meet a page together

inline int64_t split_length(int64_t num_keys) {
  int64_t length = kSplitKeys;
  while (length * kMaxSplits < num_keys) length *= 2;
  return length;
}

inline int64_t num_splits(int64_t num_keys) {
  const int64_t length = split_length(num_keys);
  return (num_keys + length - 1) / length;
}

// One layer's attention, for all threads. A sum is head_dim values, the largest score and the sum of weights.
struct Attention {
  const Model& model;
  const Layer& layer;
  const Step& step;
  const float* qkv;           // [rows, (heads + 2 kv_heads) head_dim]
  const float* temperatures;  // [rows]
  float* partials;   // of runs of one row: [rows, heads, splits, sum]
  bf16* out;         // [rows, heads head_dim]
  int64_t most_splits;

  int64_t size() const { return model.head_dim; }
  int64_t group() const { return model.heads / model.kv_heads; }
  int64_t sum_size() const { return size() + 2; }
  const float* head(int64_t row, int64_t index) const {
    return qkv + (row * (model.heads + 2 * model.kv_heads) + index) * size();
  }
  int64_t num_keys(const Run& run, int64_t row) const {  // of a row of the run
    const int64_t position = run.position + row - run.first_row;
    return (layer.is_chunked ? position % model.chunk_size : position) + 1;
  }
  int64_t page(const Run& run, int64_t key, int64_t kv_head) const {  // the number of a head's part of a key's page
    const int32_t* pages = layer.is_chunked ? run.chunked_pages : run.global_pages;
    return pages[key / kPageSize] * model.kv_heads + kv_head;
  }
  bool is_int8() const { return layer.key_scales; }
  float* partial(int64_t row, int64_t index, int64_t split) const {
    return partials + ((row * model.heads + index) * most_splits + split) * sum_size();
  }
};

// A thread's own buffers.
struct Scratch {
  bf16* queries;  // [kQueryRows, heads per kv head, head_dim]
  float* sums;    // [kQueryRows, heads per kv head, sum]
  float* folded;  // the same
  float* head;    // [head_dim]
  bf16* rounded;  // [head_dim]
  bf16* keys;     // [head_dim, kPageSize]: a page in bf16 that is not so in memory
  bf16* values;   // the same
};

// One head's part of a page, as attention reads it.
struct Page {
  const bf16 *keys, *values;
  const float *key_scales, *value_scales;  // null: all one
  int64_t ahead;                           // where the next page lies, from here; 0 for the last
};

// Whole numbers up to 127 are exact in bf16.
inline void widen_bytes(const int8_t* from, int64_t count, int64_t ahead, bf16* to) {
  for (int64_t line = 0; line < count; line += 64) {
    __builtin_prefetch(from + line + ahead, 0, 2);
    for (int64_t i = line; i < line + 64; ++i) to[i] = float_to_bits(static_cast<float>(from[i])) >> 16;
  }
}

// Pages lie anywhere: the next is called for while this one is worked on.
inline Page load_page(const Attention& a, const Scratch& scratch, const Run& run, int64_t key, int64_t end,
                      int64_t kv_head) {
  const int64_t number = a.page(run, key, kv_head), page_size = kPageSize * a.size(), start = number * page_size;
  const int64_t ahead = key + kPageSize < end ? a.page(run, key + kPageSize, kv_head) * page_size - start : 0;
  if (!a.is_int8())
    return {static_cast<bf16*>(a.layer.keys) + start, static_cast<bf16*>(a.layer.values) + start, nullptr, nullptr,
            ahead};
  const int64_t lanes = smaller((end - key + 2 * kLanes - 1) / (2 * kLanes) * 2 * kLanes, kPageSize);
  widen_bytes(static_cast<int8_t*>(a.layer.keys) + start, lanes * a.size(), ahead, scratch.keys);
  for (int64_t panel = 0; panel < page_size; panel += kPageSize * kLanes)
    widen_bytes(static_cast<int8_t*>(a.layer.values) + start + panel, lanes * kLanes, ahead, scratch.values + panel);
  return {scratch.keys, scratch.values, a.layer.key_scales + number * kPageSize,
          a.layer.value_scales + number * kPageSize, 0};
}

// Turns pairs, norms, scales: one head's query or key as attention meets it.
inline void prepare_head(const Attention& a, float* head, const Run& run, int64_t row, const float* in, bool is_query,
                         bf16* out) {
  const int64_t size = a.size();
  float scale = 1.0f;
  if (a.layer.is_chunked) {
    const float* turns = a.model.turns + (run.position + row - run.first_row) % a.model.chunk_size * size;
    for (int64_t i = 0; i < size; i += 2) {
      head[i] = in[i] * turns[i] - in[i + 1] * turns[i + 1];
      head[i + 1] = in[i] * turns[i + 1] + in[i + 1] * turns[i];
    }
    if (a.layer.use_qk_norm) scale = 1.0f / std::sqrt(mean_square(head, size) + a.model.eps);
  } else {
    std::memcpy(head, in, size * sizeof(float));
    if (is_query) scale = a.temperatures[row];
  }
  for (int64_t i = 0; i < size; ++i) out[i] = narrow(head[i] * scale);
}

// One key or value as bytes; place(i) is where feature i goes. Returns its scale.
template <class Place>
inline float store_bytes(const bf16* from, int64_t size, int8_t* to, const Place& place) {
  float most = 0;
  for (int64_t i = 0; i < size; ++i) {
    const float value = widen(from[i]);
    most = value > most ? value : -value > most ? -value : most;
  }
  const float inverse = most > 0 ? 127.0f / most : 0.0f;
  for (int64_t i = 0; i < size; ++i) to[place(i)] = static_cast<int8_t>(nearest(widen(from[i]) * inverse));
  return most / 127.0f;
}

// Writes a row's key and value among the panels of their pages.
inline void store_new(const Attention& a, const Scratch& scratch, const Run& run, int64_t row, int64_t kv_head) {
  const int64_t size = a.size(), key = a.num_keys(run, row) - 1, slot = key % kPageSize;
  const int64_t page = a.page(run, key, kv_head), start = page * kPageSize * size;
  auto key_place = [=](int64_t i) {
    return start + slot / kLanes * kLanes * size + slot % kLanes * 2 + i / 2 * 2 * kLanes + i % 2;
  };
  auto value_place = [=](int64_t i) {
    return start + i / kLanes * kPageSize * kLanes + slot / 2 * 2 * kLanes + i % kLanes * 2 + slot % 2;
  };
  const float* value = a.head(row, a.model.heads + a.model.kv_heads + kv_head);
  prepare_head(a, scratch.head, run, row, a.head(row, a.model.heads + kv_head), false, scratch.rounded);
  if (a.is_int8()) {
    auto* keys = static_cast<int8_t*>(a.layer.keys);
    auto* values = static_cast<int8_t*>(a.layer.values);
    a.layer.key_scales[page * kPageSize + slot] = store_bytes(scratch.rounded, size, keys, key_place);
    for (int64_t i = 0; i < size; ++i) scratch.rounded[i] = narrow(value[i]);
    a.layer.value_scales[page * kPageSize + slot] = store_bytes(scratch.rounded, size, values, value_place);
    return;
  }
  auto* keys = static_cast<bf16*>(a.layer.keys);
  auto* values = static_cast<bf16*>(a.layer.values);
  // Values are read in pairs: behind the last one must not lie what a former owner left, perhaps an infinity.
  const bool is_last = row == run.first_row + run.rows - 1 && slot % 2 == 0;
  for (int64_t i = 0; i < size; ++i) {
    keys[key_place(i)] = scratch.rounded[i];
    values[value_place(i)] = narrow(value[i]);
    if (is_last) values[value_place(i) + 1] = 0;
  }
}

// Scores of one query become weights, zero behind `num_keys`. Returns by how much earlier sums shrink, since a larger
// score may have come.
inline float weigh(const Page& page, float* scores, int64_t num_keys, float scale, bf16* weights, float& most,
                   float& total) {
  float lanes[kLanes], scaled[kPageSize];
  if (page.key_scales)
    for (int64_t j = 0; j < num_keys; ++j) scores[j] *= page.key_scales[j];
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = -INFINITY;
  for (int64_t j = 0; j < kPageSize; j += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) {
      const float value = scores[j + lane] * scale, score = j + lane < num_keys ? value : -INFINITY;
      scaled[j + lane] = score;
      lanes[lane] = score > lanes[lane] ? score : lanes[lane];
    }
  float largest = most;
  for (int lane = 0; lane < kLanes; ++lane) largest = lanes[lane] > largest ? lanes[lane] : largest;
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = 0;
  for (int64_t j = 0; j < kPageSize; j += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) {
      const float value = exp_fast(scaled[j + lane] - largest), weight = j + lane < num_keys ? value : 0.0f;
      scaled[j + lane] = weight;
      lanes[lane] += weight;
    }
  if (page.value_scales)
    for (int64_t j = 0; j < num_keys; ++j) scaled[j] *= page.value_scales[j];
  for (int64_t j = 0; j < kPageSize; ++j) weights[j] = narrow(scaled[j]);
  const float shrink = exp_fast(most - largest);
  most = largest;
  total = total * shrink + sum_of(lanes);
  return shrink;
}

// Up to kPanelRows queries over one page, of which each sees its own number of keys (perhaps none).
inline void attend_page(const Attention& a, const Page& page, const bf16* queries, const int64_t* visible, int64_t count,
                        float* sums) {
  const int64_t size = a.size(), stride = a.sum_size(), panel = kPageSize * kLanes;
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  int64_t most = 0;
  for (int64_t g = 0; g < count; ++g) most = larger(most, visible[g]);
  if (!most) return;
  float scores[kPanelRows * kPageSize] = {}, products[kPanelRows * 2 * kLanes], shrink[kPanelRows];
  bf16 weights[kPanelRows * kPageSize];
  for (int64_t first = 0; first < most; first += 2 * kLanes)  // what lies behind the last key is not looked at
    multiply_rows<2, true>(count, page.keys + first * size, size * kLanes, queries, size, size, scores + first, kPageSize,
                           page.ahead);
  for (int64_t g = 0; g < count; ++g) {
    float* sum = sums + g * stride;
    shrink[g] = 1.0f;
    if (visible[g])
      shrink[g] = weigh(page, scores + g * kPageSize, visible[g], scale, weights + g * kPageSize, sum[size],
                        sum[size + 1]);
    else
      std::memset(weights + g * kPageSize, 0, kPageSize * sizeof(bf16));
  }
  const int64_t width = (most + 1) / 2 * 2;
  for (int64_t d = 0; d < size; d += 2 * kLanes) {
    const bf16* values = page.values + d * kPageSize;
    if (size - d > kLanes)
      multiply_rows<2, true>(count, values, panel, weights, width, kPageSize, products, 2 * kLanes, page.ahead);
    else
      multiply_rows<1, true>(count, values, panel, weights, width, kPageSize, products, 2 * kLanes, page.ahead);
    for (int64_t g = 0; g < count; ++g)
      for (int64_t i = 0; i < smaller(size - d, 2 * kLanes); ++i) {
        float& sum = sums[g * stride + d + i];
        sum = sum * shrink[g] + products[g * 2 * kLanes + i];
      }
  }
}

inline void clear(float* sum, int64_t size) {
  std::memset(sum, 0, (size + 2) * sizeof(float));
  sum[size] = -INFINITY;
}

// Adds a split's sum to those of the splits before it.
inline void fold(float* folded, const float* sum, int64_t size) {
  const float most = folded[size] > sum[size] ? folded[size] : sum[size];
  const float before = exp_fast(folded[size] - most), now = exp_fast(sum[size] - most);
  for (int64_t i = 0; i < size; ++i) folded[i] = folded[i] * before + sum[i] * now;
  folded[size] = most;
  folded[size + 1] = folded[size + 1] * before + sum[size + 1] * now;
}

inline void finish(const float* folded, int64_t size, bf16* out) {
  for (int64_t i = 0; i < size; ++i) out[i] = narrow(folded[i] / folded[size + 1]);
}

// Flash decoding: one row's queries of a kv head over one split of the keys; the new key is in the last.
inline void attend_split(const Attention& a, const Scratch& scratch, const Run& run, int64_t kv_head, int64_t split) {
  const int64_t row = run.first_row, size = a.size(), group = a.group(), num_keys = a.num_keys(run, row);
  const int64_t length = split_length(num_keys), begin = split * length, end = smaller(begin + length, num_keys);
  for (int64_t g = 0; g < group; ++g) {
    prepare_head(a, scratch.head, run, row, a.head(row, kv_head * group + g), true, scratch.queries + g * size);
    clear(scratch.sums + g * a.sum_size(), size);
  }
  int64_t visible[kPanelRows];
  for (int64_t key = begin; key < end; key += kPageSize) {
    const Page page = load_page(a, scratch, run, key, end, kv_head);
    for (int64_t& count : visible) count = smaller(end - key, kPageSize);
    for (int64_t g = 0; g < group; g += kPanelRows)
      attend_page(a, page, scratch.queries + g * size, visible, smaller(group - g, kPanelRows),
                  scratch.sums + g * a.sum_size());
  }
  for (int64_t g = 0; g < group; ++g)
    std::memcpy(a.partial(row, kv_head * group + g, split), scratch.sums + g * a.sum_size(),
                a.sum_size() * sizeof(float));
}

inline void join_splits(const Attention& a, const Scratch& scratch, const Run& run, int64_t head, bf16* out) {
  clear(scratch.folded, a.size());
  for (int64_t split = 0; split < num_splits(a.num_keys(run, run.first_row)); ++split)
    fold(scratch.folded, a.partial(run.first_row, head, split), a.size());
  finish(scratch.folded, a.size(), out);
}

// Some rows of a prompt, queries of one kv head, over all their keys.
inline void attend_rows(const Attention& a, const Scratch& scratch, const Run& run, int64_t first_row, int64_t rows,
                        int64_t kv_head) {
  const int64_t size = a.size(), group = a.group(), queries = rows * group, stride = a.sum_size();
  for (int64_t q = 0; q < queries; ++q) {
    const int64_t row = first_row + q / group;
    prepare_head(a, scratch.head, run, row, a.head(row, kv_head * group + q % group), true, scratch.queries + q * size);
    clear(scratch.sums + q * stride, size);
    clear(scratch.folded + q * stride, size);
  }
  const int64_t last = a.num_keys(run, first_row + rows - 1);
  for (int64_t key = 0; key < last; key += kPageSize) {
    const Page page = load_page(a, scratch, run, key, last, kv_head);
    for (int64_t q = 0; q < queries; q += kPanelRows) {
      const int64_t count = smaller(queries - q, kPanelRows);
      int64_t visible[kPanelRows];
      for (int64_t g = 0; g < count; ++g) {
        const int64_t left = a.num_keys(run, first_row + (q + g) / group) - key;
        visible[g] = left < 0 ? 0 : smaller(left, kPageSize);
      }
      attend_page(a, page, scratch.queries + q * size, visible, count,
                  scratch.sums + q * stride);
    }
    for (int64_t q = 0; q < queries; ++q) {
      const int64_t num_keys = a.num_keys(run, first_row + q / group), end = key + kPageSize;
      if (key < num_keys && (end >= num_keys || end % split_length(num_keys) == 0)) {
        fold(scratch.folded + q * stride, scratch.sums + q * stride, size);
        clear(scratch.sums + q * stride, size);
      }
    }
  }
  for (int64_t q = 0; q < queries; ++q)
    finish(scratch.folded + q * stride, size,
           a.out + ((first_row + q / group) * a.model.heads + kv_head * group + q % group) * size);
}

}  // namespace
