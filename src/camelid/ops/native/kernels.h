// The structs that Python fills.
//
// step.py has the same, field by field.
#pragma once
#include "numbers.h"

constexpr int64_t kPageSize = 64;  // positions; PAGE_SIZE in panels.py

#define CAMELID_JOIN_(name, path) name##_##path
#define CAMELID_JOIN(name, path) CAMELID_JOIN_(name, path)
#define CAMELID_NAME(name) CAMELID_JOIN(name, CAMELID_PATH)

// Matrices are in panels (panels.h), given here as [out, in]; in `gate_up` panels of gate and up take turns.
struct Layer {
  const bf16* input_norm;       // [hidden]
  const bf16* qkv;              // [(heads + 2 kv_heads) head_dim, hidden]
  const bf16* o;                // [hidden, heads head_dim]
  const bf16* post_norm;        // [hidden]
  const bf16* shared_gate_up;   // [2 shared_ffn, hidden]; of a dense layer, its only feed-forward
  const bf16* shared_down;      // [hidden, shared_ffn]
  const bf16* router;           // [experts, hidden]
  const float* selection_bias;  // [experts]
  const bf16* const* gate_up;   // of each expert [2 ffn, hidden]
  const bf16* const* down;      // of each expert [hidden, ffn]
  bf16* keys;                   // [pages, kv_heads, kPageSize / 16, head_dim / 2, 16, 2]: panels of positions
  bf16* values;                 // [pages, kv_heads, head_dim / 16, kPageSize / 2, 16, 2]: panels of features
  int64_t shared_ffn, ffn, num_experts, is_chunked, use_qk_norm;
};

struct Model {
  const Layer* layers;
  const bf16* final_norm;  // [hidden]
  const bf16* head;        // [vocab, hidden]
  int64_t num_layers, hidden, heads, kv_heads, head_dim, vocab, top_k, chunk_size;
  float eps;
};

// Consecutive tokens of one sequence, all in the same chunk.
struct Run {
  const int32_t* chunked_pages;  // of the current chunk, in order
  const int32_t* global_pages;   // of the whole context
  int64_t first_row, rows, position;
};

struct Step {
  const Run* runs;
  const float* turns;         // [rows, head_dim]: cosine and sine of every pair
  const float* temperatures;  // [rows]
  float* x;                   // [rows, hidden]: embeddings in, hidden states out (before the final norm)
  const int64_t* logit_rows;  // [num_logits]: which rows' logits are wanted
  float* logits;              // [num_logits, vocab]
  int32_t* routed;            // [layers, rows, top_k]: the experts chosen, -1 in dense layers
  int64_t num_runs, rows, num_logits;
};

using Advance = void (*)(const Model&, const Step&, int num_threads);
using Linear = void (*)(const bf16* matrix, const bf16* x, bf16* out, int64_t rows, int64_t width, int64_t height,
                        int num_threads);
