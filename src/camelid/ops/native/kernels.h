// The structs that Python fills.
//
// step.py has the same, field by field.
#pragma once
#include "numbers.h"

constexpr int64_t kPageSize = 64;  // positions; PAGE_SIZE in panels.py

#define CAMELID_JOIN_(name, path) name##_##path
#define CAMELID_JOIN(name, path) CAMELID_JOIN_(name, path)
#define CAMELID_NAME(name) CAMELID_JOIN(name, CAMELID_PATH)

enum Format : int64_t { kBf16, kInt8, kInt4 };  // FORMATS in panels.py

// In panels: of bf16 as panels.h says, of integers as quantized.h does.
struct Matrix {
  const void* panels;
  int64_t format;
};

// Matrices are given here as [out, in]; in `gate_up` panels of gate and up take turns.
struct Layer {
  const bf16* input_norm;       // [hidden]
  Matrix qkv;                   // [(heads + 2 kv_heads) head_dim, hidden]
  Matrix o;                     // [hidden, heads head_dim]
  const bf16* post_norm;        // [hidden]
  Matrix shared_gate_up;        // [2 shared_ffn, hidden]; of a dense layer, its only feed-forward
  Matrix shared_down;           // [hidden, shared_ffn]
  Matrix router;                // [experts, hidden]
  const float* selection_bias;  // [experts]
  const Matrix* gate_up;        // of each expert [2 ffn, hidden]
  const Matrix* down;           // of each expert [hidden, ffn]
  void* keys;                   // [pages, kv_heads, kPageSize / 16, head_dim / 2, 16, 2]: panels of positions
  void* values;                 // [pages, kv_heads, head_dim / 16, kPageSize / 2, 16, 2]: panels of features
  float* key_scales;            // [pages, kv_heads, kPageSize], of keys in int8; null if they are bf16
  float* value_scales;          // the same of values
  int64_t shared_ffn, ffn, num_experts, is_chunked, use_qk_norm;
};

struct Model {
  const Layer* layers;
  const bf16* embeddings;  // [vocab, hidden]
  const bf16* final_norm;  // [hidden]
  Matrix head;             // [vocab, hidden]
  const float* turns;      // [chunk_size, head_dim]: cosine and sine of every pair at a place in its chunk
  int64_t num_layers, hidden, heads, kv_heads, head_dim, vocab, top_k, chunk_size;
  int64_t floor_scale;  // of attention's temperature
  float attn_scale;     // 0: it stays 1
  float eps;
};

// Consecutive tokens of one sequence, all in the same chunk.
struct Run {
  const int32_t* chunked_pages;  // of the current chunk, in order
  const int32_t* global_pages;   // of the whole context
  const bf16* embeddings;        // [rows, hidden]; null: those of token_ids
  int64_t first_row, rows, position;
};

struct Step {
  const Run* runs;
  const int64_t* token_ids;   // [rows]
  float* x;                   // [rows, hidden]: hidden states come out, before the final norm
  const int64_t* logit_rows;  // [num_logits]: which rows' logits are wanted
  float* logits;              // [num_logits, vocab]
  int32_t* routed;            // [layers, rows, top_k]: the experts chosen, -1 in dense layers
  int64_t num_runs, rows, num_logits;
};

using Advance = void (*)(const Model&, const Step&, int num_threads);
using Linear = void (*)(const Matrix& matrix, const bf16* x, bf16* out, int64_t rows, int64_t width, int64_t height,
                        int num_threads);
