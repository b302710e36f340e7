// What a step works on, and flash decoding over paged keys and values.
#pragma once
#include "kernels.h"
#include "tiles.h"

#include <cmath>

namespace {

constexpr int64_t kSplitKeys = 1024, kMaxSplits = 64;

inline float mean_square(const float* x, int64_t width) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  float sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  for (; i < width; ++i) sum += x[i] * x[i];
  return sum / width;
}

int64_t split_length(int64_t num_keys) {  // depends on nothing but the length, so that results do not either
  int64_t length = kSplitKeys;
  while (length * kMaxSplits < num_keys) length *= 2;
  return length;
}

int64_t num_splits(int64_t num_keys) {
  const int64_t length = split_length(num_keys);
  return (num_keys + length - 1) / length;
}

struct Task {
  const Model& model;
  const Step& step;
  float* qkv;            // [rows, (heads + 2 kv_heads) head_dim]
  float* partials;       // [rows, heads, splits, head_dim + 2]: sums, then the largest score and the sum of weights
  bf16* shared;          // [rows, shared_ffn]: activations between a feed-forward layer's matrices
  bf16* activations;     // [rows top_k, ffn]
  float* router_logits;  // [rows, experts]
  int64_t most_splits;

  int64_t num_keys(const Layer& layer, int64_t row) const {
    const int64_t position = step.positions[row];
    return (layer.is_chunked ? position % model.chunk_size : position) + 1;
  }
  int64_t partial_size() const { return model.head_dim + 2; }
  float* partial(int64_t row, int64_t head, int64_t split) const {
    return partials + ((row * model.heads + head) * most_splits + split) * partial_size();
  }
};

// A thread's own buffers, and its place among the threads.
struct Worker {
  int thread, threads;
  bf16* normed;             // [rows, hidden]
  bf16* wide;               // [rows top_k, hidden] or [rows, heads head_dim]
  bf16 *queries, *key;      // [heads per kv head, head_dim], [head_dim]
  float *head, *scores;     // [head_dim], [heads per kv head, kPageSize]
  int32_t *routed, *order;  // [rows top_k]
  float* weights;           // [rows top_k]

  Share share(int64_t size) const { return share_of(size, thread, threads); }
};

// Turns pairs, norms, scales: one head's query or key as attention meets it.
inline void prepare_head(const Task& task, const Layer& layer, const Worker& worker, int64_t row, const float* in,
                         bool is_query, bf16* out) {
  const int64_t size = task.model.head_dim;
  float* head = worker.head;
  float scale = 1.0f;
  if (layer.is_chunked) {
    const float* turns = task.step.turns + row * size;
    for (int64_t i = 0; i < size; i += 2) {
      head[i] = in[i] * turns[i] - in[i + 1] * turns[i + 1];
      head[i + 1] = in[i] * turns[i + 1] + in[i + 1] * turns[i];
    }
    if (layer.use_qk_norm) scale = 1.0f / std::sqrt(mean_square(head, size) + task.model.eps);
  } else {
    std::memcpy(head, in, size * sizeof(float));
    if (is_query) scale = task.step.temperatures[row];
  }
  for (int64_t i = 0; i < size; ++i) out[i] = narrow(head[i] * scale);
}

// Writes the new key among the tiles of its page, and the new value.
inline void store_new(const Task& task, const Layer& layer, const Worker& worker, int64_t row, int64_t kv_head,
                      int64_t page, int64_t slot) {
  const Model& model = task.model;
  const int64_t size = model.head_dim;
  const float* qkv = task.qkv + row * (model.heads + 2 * model.kv_heads) * size;
  prepare_head(task, layer, worker, row, qkv + (model.heads + kv_head) * size, false, worker.key);
  bf16* tile = layer.keys + page + slot / kLanes * kLanes * size;
  for (int64_t i = 0; i < size; ++i) tile[i / 2 * 2 * kLanes + slot % kLanes * 2 + i % 2] = worker.key[i];
  const float* value = qkv + (model.heads + model.kv_heads + kv_head) * size;
  for (int64_t i = 0; i < size; ++i) layer.values[page + slot * size + i] = narrow(value[i]);
}

// sums[g, :] += weights[g, j] · values[j, :] for G query heads, `stride` apart.
template <int G>
inline void add_values(const float* weights, const bf16* values, int64_t num_keys, int64_t size, float* sums,
                       int64_t stride) {
  constexpr int kWide = G > 4 ? kLanes : 2 * kLanes;  // as many sums as there are registers
  int64_t d = 0;
  for (; d + kWide <= size; d += kWide) {
    float local[G][kWide];
    for (int g = 0; g < G; ++g)
      for (int lane = 0; lane < kWide; ++lane) local[g][lane] = sums[g * stride + d + lane];
    for (int64_t j = 0; j < num_keys; ++j) {
      float value[kWide];
      for (int lane = 0; lane < kWide; ++lane) value[lane] = widen(values[j * size + d + lane]);
      for (int g = 0; g < G; ++g)
        for (int lane = 0; lane < kWide; ++lane) local[g][lane] += weights[g * kPageSize + j] * value[lane];
    }
    for (int g = 0; g < G; ++g)
      for (int lane = 0; lane < kWide; ++lane) sums[g * stride + d + lane] = local[g][lane];
  }
  for (; d < size; ++d)
    for (int g = 0; g < G; ++g)
      for (int64_t j = 0; j < num_keys; ++j)
        sums[g * stride + d] += weights[g * kPageSize + j] * widen(values[j * size + d]);
}

// Up to kTileRows query heads over one page.
inline void attend_page(int64_t group, const bf16* keys, const bf16* values, const bf16* queries, int64_t num_keys,
                        int64_t size, float* scores, float* sums, int64_t stride) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  float products[kTileRows * 2 * kLanes];
  for (int64_t first = 0; first < num_keys; first += 2 * kLanes) {  // what lies behind the last key is not looked at
    multiply_rows<2>(group, keys + first * size, queries, size, size, products);
    for (int64_t g = 0; g < group; ++g)
      for (int lane = 0; lane < 2 * kLanes; ++lane)
        scores[g * kPageSize + first + lane] = products[g * 2 * kLanes + lane] * scale;
  }
  for (int64_t g = 0; g < group; ++g) {
    float *score = scores + g * kPageSize, *sum = sums + g * stride;
    float most = sum[size];
    for (int64_t j = 0; j < num_keys; ++j) most = score[j] > most ? score[j] : most;
    const float shrink = exp_fast(sum[size] - most);
    if (shrink != 1.0f)
      for (int64_t i = 0; i < size; ++i) sum[i] *= shrink;
    float added = 0;
    for (int64_t j = 0; j < num_keys; ++j) score[j] = exp_fast(score[j] - most);
    for (int64_t j = 0; j < num_keys; ++j) added += score[j];
    sum[size] = most;
    sum[size + 1] = sum[size + 1] * shrink + added;
  }
  switch (group) {
    case 1: return add_values<1>(scores, values, num_keys, size, sums, stride);
    case 2: return add_values<2>(scores, values, num_keys, size, sums, stride);
    case 3: return add_values<3>(scores, values, num_keys, size, sums, stride);
    case 4: return add_values<4>(scores, values, num_keys, size, sums, stride);
    case 5: return add_values<5>(scores, values, num_keys, size, sums, stride);
    default: return add_values<6>(scores, values, num_keys, size, sums, stride);
  }
}

// Flash decoding of the queries that share a kv head, over one split of the keys.
inline void attend(const Task& task, const Layer& layer, const Worker& worker, int64_t row, int64_t kv_head,
                   int64_t split) {
  const Model& model = task.model;
  const int64_t size = model.head_dim, group = model.heads / model.kv_heads;
  const int64_t num_keys = task.num_keys(layer, row), length = split_length(num_keys);
  const int64_t begin = split * length, end = smaller(begin + length, num_keys);
  const int32_t* pages = (layer.is_chunked ? task.step.chunked_pages : task.step.global_pages)[row];
  auto page_of = [&](int64_t key) { return (pages[key / kPageSize] * model.kv_heads + kv_head) * kPageSize * size; };
  if (end == num_keys)  // the new key is in this split, which no other thread reads
    store_new(task, layer, worker, row, kv_head, page_of(num_keys - 1), (num_keys - 1) % kPageSize);
  const float* queries = task.qkv + (row * (model.heads + 2 * model.kv_heads) + kv_head * group) * size;
  for (int64_t g = 0; g < group; ++g)
    prepare_head(task, layer, worker, row, queries + g * size, true, worker.queries + g * size);
  float* sums = task.partial(row, kv_head * group, split);
  const int64_t stride = task.most_splits * task.partial_size();
  for (int64_t g = 0; g < group; ++g) {
    std::memset(sums + g * stride, 0, task.partial_size() * sizeof(float));
    sums[g * stride + size] = -INFINITY;
  }
  for (int64_t key = begin; key < end; key += kPageSize)
    for (int64_t g = 0; g < group; g += kTileRows)
      attend_page(smaller(group - g, kTileRows), layer.keys + page_of(key), layer.values + page_of(key),
                  worker.queries + g * size, smaller(end - key, kPageSize), size, worker.scores, sums + g * stride,
                  stride);
}

// Joins the splits of one head.
inline void join_splits(const Task& task, const Layer& layer, int64_t row, int64_t head, bf16* out) {
  const int64_t size = task.model.head_dim, count = num_splits(task.num_keys(layer, row));
  const float* first = task.partial(row, head, 0);
  float most = -INFINITY, total = 0, weights[kMaxSplits];
  for (int64_t s = 0; s < count; ++s) {
    const float largest = first[s * task.partial_size() + size];
    most = largest > most ? largest : most;
  }
  for (int64_t s = 0; s < count; ++s) {
    const float* part = first + s * task.partial_size();
    weights[s] = exp_fast(part[size] - most);
    total += weights[s] * part[size + 1];
  }
  for (int64_t d = 0; d < size; ++d) {
    float sum = 0;
    for (int64_t s = 0; s < count; ++s) sum += weights[s] * first[s * task.partial_size() + d];
    out[d] = narrow(sum / total);
  }
}

}  // namespace
