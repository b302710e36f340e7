// One decode step of a whole model in one parallel region.
//
// Compiled once for each instruction set, as CAMELID_PATH. Between matrices that stream from memory, small operations run with cold caches: as calls from Python they took a
// tenth of a layer of Scout's size. Here every thread norms all rows for itself, which is cheaper than to wait.

#include "attention.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace {

void rms_norm(const float* x, const bf16* weight, int64_t width, float eps, bf16* out) {
  const float scale = 1.0f / std::sqrt(mean_square(x, width) + eps);
  for (int64_t i = 0; i < width; ++i) out[i] = narrow(x[i] * scale * widen(weight[i]));
}

auto store_in(float* out, int64_t height) {
  return [=](int64_t row, int64_t first, const float* sums) {
    std::memcpy(out + row * height + first, sums, smaller(height - first, kLanes) * sizeof(float));
  };
}

auto add_to(const Task& task) {  // the residual stream
  return [&](int64_t row, int64_t first, const float* sums) {
    float* x = task.step.x + row * task.model.hidden + first;
    for (int64_t lane = 0; lane < smaller(task.model.hidden - first, kLanes); ++lane) x[lane] += sums[lane];
  };
}

void attention(const Task& task, const Layer& layer, const Worker& worker) {
  const Model& model = task.model;
  const int64_t width = model.heads * model.head_dim;
  int64_t items = 0;
  for (int64_t row = 0; row < task.step.rows; ++row) items += num_splits(task.num_keys(layer, row)) * model.kv_heads;
  const Share share = worker.share(items);
  int64_t item = 0;
  for (int64_t row = 0; row < task.step.rows; ++row) {
    const int64_t splits = num_splits(task.num_keys(layer, row));
    for (int64_t kv_head = 0; kv_head < model.kv_heads; ++kv_head)
      for (int64_t split = 0; split < splits; ++split, ++item)
        if (item >= share.begin && item < share.end) attend(task, layer, worker, row, kv_head, split);
  }
#pragma omp barrier
  const int64_t rows = task.step.rows;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t head = 0; head < model.heads; ++head)
      join_splits(task, layer, row, head, worker.wide + row * width + head * model.head_dim);
  project(worker.share(num_tiles(model.hidden)), layer.o, width, worker.wide, rows, add_to(task));
}

// Chooses experts by the largest logits; a choice weighs the sigmoid of its own.
void choose_experts(const Task& task, const Layer& layer, const Worker& worker) {
  const int64_t top_k = task.model.top_k;
  for (int64_t row = 0; row < task.step.rows; ++row) {
    const float* logits = task.router_logits + row * layer.num_experts;
    int32_t* routed = worker.routed + row * top_k;
    for (int64_t choice = 0; choice < top_k; ++choice) {
      int32_t best = -1;
      float most = 0;
      for (int32_t expert = 0; expert < layer.num_experts; ++expert) {
        const float value = logits[expert] + layer.selection_bias[expert];
        bool is_taken = false;
        for (int64_t before = 0; before < choice; ++before) is_taken |= routed[before] == expert;
        if (!is_taken && (best < 0 || value > most)) best = expert, most = value;
      }
      routed[choice] = best;
      worker.weights[row * top_k + choice] = 1.0f / (1.0f + exp_fast(-logits[best]));
    }
  }
}

// Choices ordered by expert, so that each expert is read once.
void order_choices(const Worker& worker, int64_t num_choices) {
  for (int32_t choice = 0; choice < num_choices; ++choice) {
    int64_t place = choice;
    for (; place > 0 && worker.routed[worker.order[place - 1]] > worker.routed[choice]; --place)
      worker.order[place] = worker.order[place - 1];
    worker.order[place] = choice;
  }
}

template <class Body>  // body(expert, first place in the order, number of choices)
void for_each_expert(const Worker& worker, int64_t num_choices, const Body& body) {
  for (int64_t first = 0, last; first < num_choices; first = last) {
    const int32_t expert = worker.routed[worker.order[first]];
    for (last = first + 1; last < num_choices && worker.routed[worker.order[last]] == expert;) ++last;
    body(expert, first, last - first);
  }
}

auto store_swiglu(bf16* out, int64_t ffn) {
  return [=](int64_t row, int64_t first, const float* gate, const float* up) {
    for (int64_t lane = 0; lane < smaller(ffn - first, kLanes); ++lane)
      out[row * ffn + first + lane] = narrow(silu(gate[lane]) * up[lane]);
  };
}

void feed_forward(const Task& task, const Layer& layer, const Worker& worker, int32_t* routed) {
  const Model& model = task.model;
  const int64_t rows = task.step.rows, hidden = model.hidden, num_choices = rows * model.top_k;
  if (layer.num_experts) {
    project(worker.share(num_tiles(layer.num_experts)), layer.router, hidden, worker.normed, rows,
            store_in(task.router_logits, layer.num_experts));
  }
  project_pairs(worker.share(num_tiles(layer.shared_ffn)), layer.shared_gate_up, hidden, worker.normed, rows,
                store_swiglu(task.shared, layer.shared_ffn));
#pragma omp barrier
  if (layer.num_experts) {
    choose_experts(task, layer, worker);
    order_choices(worker, num_choices);
    for (int64_t place = 0; place < num_choices; ++place) {
      const int32_t choice = worker.order[place];
      const bf16* normed = worker.normed + choice / model.top_k * hidden;
      const float weight = widen(narrow(worker.weights[choice]));
      for (int64_t i = 0; i < hidden; ++i) worker.wide[place * hidden + i] = narrow(widen(normed[i]) * weight);
    }
    for_each_expert(worker, num_choices, [&](int32_t expert, int64_t first, int64_t count) {
      project_pairs(worker.share(num_tiles(layer.ffn)), layer.gate_up[expert], hidden, worker.wide + first * hidden,
                    count, store_swiglu(task.activations + first * layer.ffn, layer.ffn));
    });
#pragma omp barrier
  }
  const Share share = worker.share(num_tiles(hidden));
  project(share, layer.shared_down, layer.shared_ffn, task.shared, rows, add_to(task));
  if (layer.num_experts)
    for_each_expert(worker, num_choices, [&](int32_t expert, int64_t first, int64_t count) {
      auto add = add_to(task);
      project(share, layer.down[expert], layer.ffn, task.activations + first * layer.ffn, count,
              [&](int64_t row, int64_t output, const float* sums) {
                add(worker.order[first + row] / model.top_k, output, sums);
              });
    });
  if (worker.thread == 0)
    for (int64_t choice = 0; choice < num_choices; ++choice)
      routed[choice] = layer.num_experts ? worker.routed[choice] : -1;
}

}  // namespace

void CAMELID_NAME(decode)(const Model& model, const Step& step, int num_threads) {
  const int64_t rows = step.rows, qkv_width = (model.heads + 2 * model.kv_heads) * model.head_dim;
  const int64_t group = model.heads / model.kv_heads, num_choices = rows * model.top_k;
  int64_t most_splits = 1, shared_ffn = 0, ffn = 0, experts = 0;
  for (int64_t row = 0; row < rows; ++row) most_splits = larger(most_splits, num_splits(step.positions[row] + 1));
  for (int64_t i = 0; i < model.num_layers; ++i) {
    shared_ffn = larger(shared_ffn, model.layers[i].shared_ffn);
    ffn = larger(ffn, model.layers[i].ffn);
    experts = larger(experts, model.layers[i].num_experts);
  }
  const int64_t num_partials = rows * model.heads * most_splits * (model.head_dim + 2);
  using W = Workspace;
  W common(W::size_of<float>(rows * qkv_width) + W::size_of<float>(num_partials) + W::size_of<bf16>(rows * shared_ffn) +
           W::size_of<bf16>(num_choices * ffn) + W::size_of<float>(rows * experts));
  const Task task{model,
                  step,
                  common.take<float>(rows * qkv_width),
                  common.take<float>(num_partials),
                  common.take<bf16>(rows * shared_ffn),
                  common.take<bf16>(num_choices * ffn),
                  common.take<float>(rows * experts),
                  most_splits};
  const int64_t wide = larger(rows * model.heads * model.head_dim, num_choices * model.hidden);

#pragma omp parallel num_threads(num_threads)
  {
    W own(W::size_of<bf16>(rows * model.hidden) + W::size_of<bf16>(wide) + W::size_of<bf16>(group * model.head_dim) +
          W::size_of<bf16>(model.head_dim) + W::size_of<float>(model.head_dim) +
          W::size_of<float>(group * kPageSize) + 3 * W::size_of<float>(num_choices));
    Worker worker{0, 1};
#if defined(_OPENMP)
    worker.thread = omp_get_thread_num(), worker.threads = omp_get_num_threads();
#endif
    worker.normed = own.take<bf16>(rows * model.hidden), worker.wide = own.take<bf16>(wide);
    worker.queries = own.take<bf16>(group * model.head_dim), worker.key = own.take<bf16>(model.head_dim);
    worker.head = own.take<float>(model.head_dim), worker.scores = own.take<float>(group * kPageSize);
    worker.routed = own.take<int32_t>(num_choices), worker.order = own.take<int32_t>(num_choices);
    worker.weights = own.take<float>(num_choices);
    auto norm_rows = [&](const bf16* weight) {
      for (int64_t row = 0; row < rows; ++row)
        rms_norm(step.x + row * model.hidden, weight, model.hidden, model.eps, worker.normed + row * model.hidden);
    };
    for (int64_t i = 0; i < model.num_layers; ++i) {
      const Layer& layer = model.layers[i];
      norm_rows(layer.input_norm);
      project(worker.share(num_tiles(qkv_width)), layer.qkv, model.hidden, worker.normed, rows,
              store_in(task.qkv, qkv_width));
#pragma omp barrier
      attention(task, layer, worker);
#pragma omp barrier
      norm_rows(layer.post_norm);
      feed_forward(task, layer, worker, step.routed + i * num_choices);
#pragma omp barrier
    }
    if (model.final_norm) {
      norm_rows(model.final_norm);
      project(worker.share(num_tiles(model.vocab)), model.head, model.hidden, worker.normed, rows,
              store_in(step.logits, model.vocab));
    }
  }
}
