// One step of the whole decoder in one parallel region: new tokens of any number of sequences.
//
// Compiled once for each instruction set, as CAMELID_PATH. Between matrices that stream from memory, small operations
// run with cold caches: as calls from Python they took a tenth of a layer of Scout's size. With few rows every thread
// does the small things for itself, which is cheaper than to wait for others.

#include "attention.h"
#include "matrix.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace {

constexpr int64_t kFewRows = 8, kSerialProducts = 1 << 19;

// What all threads share.
struct Task {
  const Model& model;
  const Step& step;
  float* temperatures;   // [rows]
  float* qkv;            // [rows, (heads + 2 kv_heads) head_dim]
  float* partials;       // [rows, heads, splits, head_dim + 2]
  bf16* attended;        // [rows, heads head_dim]
  bf16* normed;          // [rows, hidden]
  bf16* scaled;          // [rows top_k, hidden]: experts' inputs, ordered by expert
  bf16* shared;          // [rows, shared_ffn]: activations between a feed-forward layer's matrices
  bf16* activations;     // [rows top_k, ffn]
  float* router_logits;  // [rows, experts]
  float* weights;        // [rows top_k]
  int32_t* routed;       // [rows top_k]
  int64_t* taken;        // [products]: counters for `Thread`
  int64_t most_splits;
  bool has_prompts;      // some run has several rows
};

// One thread: its place, its buffers, and where it works on its own and where on shared ones.
struct Worker {
  Thread thread;
  Barrier* barrier;
  Scratch scratch;
  bf16 *normed, *scaled, *attended;
  float* weights;
  int32_t *routed, *order, *ends;  // [rows top_k], [rows top_k], [experts + 1]
  bool is_alone;                   // few rows

  Share mine(int64_t size) const { return thread.share_of(size); }
  Share small(int64_t size) const { return is_alone ? Share{0, size} : mine(size); }  // of small things
  void wait() const { barrier->wait(thread.count); }
  void wait_for_small() const {
    if (!is_alone) wait();
  }
  // For the next product: all threads come to the same ones in the same order.
  Thread next() {
    const Thread now = thread;
    ++thread.taken;
    return now;
  }
};

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

void rms_norm(const float* x, const bf16* weight, int64_t width, float eps, bf16* out) {
  const float scale = 1.0f / std::sqrt(mean_square(x, width) + eps);
  for (int64_t i = 0; i < width; ++i) out[i] = narrow(x[i] * scale * widen(weight[i]));
}

void norm_rows(const Task& task, const Worker& worker, const bf16* weight) {
  const int64_t hidden = task.model.hidden;
  const Share share = worker.small(task.step.rows);
  for (int64_t row = share.begin; row < share.end; ++row)
    rms_norm(task.step.x + row * hidden, weight, hidden, task.model.eps, worker.normed + row * hidden);
  worker.wait_for_small();
}

void attention(const Task& task, Worker& worker, const Layer& layer) {
  const Model& model = task.model;
  const int64_t width = model.heads * model.head_dim, rows = task.step.rows;
  const Attention a{model, layer, task.step, task.qkv, task.temperatures, task.partials, task.attended, task.most_splits};
  int64_t item = 0;
  auto is_mine = [&] { return item++ % worker.thread.count == worker.thread.index; };
  auto for_each_run = [&](const auto& body) {
    for (int64_t i = 0; i < task.step.num_runs; ++i) body(task.step.runs[i]);
  };
  if (task.has_prompts) {  // a row's key is seen by the rows after it, which other threads may have
    for_each_run([&](const Run& run) {
      for (int64_t row = run.first_row; row < run.first_row + run.rows; ++row)
        for (int64_t kv_head = 0; kv_head < model.kv_heads; ++kv_head)
          if (is_mine()) store_new(a, worker.scratch, run, row, kv_head);
    });
    worker.wait();
    item = 0;
  }
  for_each_run([&](const Run& run) {
    const int64_t splits = num_splits(a.num_keys(run, run.first_row));
    for (int64_t first = 0; first < run.rows; first += kQueryRows)
      for (int64_t kv_head = 0; kv_head < model.kv_heads; ++kv_head) {
        if (run.rows > 1) {
          if (is_mine())
            attend_rows(a, worker.scratch, run, run.first_row + first, smaller(run.rows - first, kQueryRows), kv_head);
          continue;
        }
        for (int64_t split = 0; split < splits; ++split) {
          if (!is_mine()) continue;
          if (!task.has_prompts && split == splits - 1)
            store_new(a, worker.scratch, run, run.first_row, kv_head);  // only this split reads it
          attend_split(a, worker.scratch, run, kv_head, split);
        }
      }
  });
  worker.wait();
  // Rows of prompts are in the shared buffer already.
  for_each_run([&](const Run& run) {
    if (run.rows > 1) {
      if (worker.is_alone)
        std::memcpy(worker.attended + run.first_row * width, task.attended + run.first_row * width,
                    run.rows * width * sizeof(bf16));
      return;
    }
    const Share heads = worker.small(model.heads);
    for (int64_t head = heads.begin; head < heads.end; ++head)
      join_splits(a, worker.scratch, run, head, worker.attended + run.first_row * width + head * model.head_dim);
  });
  worker.wait_for_small();
  project(worker.next(), layer.o, width, model.hidden, worker.attended, rows, add_to(task));
}

// Chooses experts by the largest logits; a choice weighs the sigmoid of its own.
void choose_experts(const Task& task, const Worker& worker, const Layer& layer) {
  const int64_t top_k = task.model.top_k;
  const Share share = worker.small(task.step.rows);
  for (int64_t row = share.begin; row < share.end; ++row) {
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
  worker.wait_for_small();
}

// Orders choices by expert, so that each expert is read once: expert e's end at ends[e].
void order_choices(const Worker& worker, int64_t num_experts, int64_t num_choices) {
  std::memset(worker.ends, 0, (num_experts + 1) * sizeof(int32_t));
  for (int64_t choice = 0; choice < num_choices; ++choice) ++worker.ends[worker.routed[choice] + 1];
  for (int64_t expert = 0; expert < num_experts; ++expert) worker.ends[expert + 1] += worker.ends[expert];
  for (int32_t choice = 0; choice < num_choices; ++choice) worker.order[worker.ends[worker.routed[choice]]++] = choice;
}

template <class Body>  // body(expert, first place in the order, number of choices)
void for_each_expert(const Worker& worker, int64_t num_experts, const Body& body) {
  int64_t first = 0;
  for (int64_t expert = 0; expert < num_experts; ++expert) {
    const int64_t count = worker.ends[expert] - first;
    if (count) body(expert, first, count);
    first += count;
  }
}

void feed_forward(const Task& task, Worker& worker, const Layer& layer, int32_t* routed) {
  const Model& model = task.model;
  const int64_t rows = task.step.rows, hidden = model.hidden, num_choices = rows * model.top_k;
  if (layer.num_experts)
    project(worker.next(), layer.router, hidden, layer.num_experts, worker.normed, rows,
            store_in(task.router_logits, layer.num_experts));
  project_swiglu(worker.next(), layer.shared_gate_up, hidden, layer.shared_ffn, worker.normed, rows,
                 task.shared);
  worker.wait();
  if (layer.num_experts) {
    choose_experts(task, worker, layer);
    order_choices(worker, layer.num_experts, num_choices);
    const Share places = worker.small(num_choices);
    for (int64_t place = places.begin; place < places.end; ++place) {
      const int32_t choice = worker.order[place];
      const bf16* normed = worker.normed + choice / model.top_k * hidden;
      const float weight = widen(narrow(worker.weights[choice]));
      for (int64_t i = 0; i < hidden; ++i) worker.scaled[place * hidden + i] = narrow(widen(normed[i]) * weight);
    }
    worker.wait_for_small();
    for_each_expert(worker, layer.num_experts, [&](int64_t expert, int64_t first, int64_t count) {
      project_swiglu(worker.next(), layer.gate_up[expert], hidden, layer.ffn,
                     worker.scaled + first * hidden, count, task.activations + first * layer.ffn);
    });
    worker.wait();
  }
  project(worker.next(), layer.shared_down, layer.shared_ffn, hidden, task.shared, rows, add_to(task));
  if (layer.num_experts)
    for_each_expert(worker, layer.num_experts, [&](int64_t expert, int64_t first, int64_t count) {
      auto add = add_to(task);
      project(worker.next(), layer.down[expert], layer.ffn, hidden, task.activations + first * layer.ffn, count,
              [&](int64_t row, int64_t output, const float* sums) {
                add(worker.order[first + row] / model.top_k, output, sums);
              });
    });
  if (worker.thread.index == 0)
    for (int64_t choice = 0; choice < num_choices; ++choice)
      routed[choice] = layer.num_experts ? worker.routed[choice] : -1;
}

void logits(const Task& task, Worker& worker) {
  const Model& model = task.model;
  const int64_t count = task.step.num_logits, hidden = model.hidden;
  // Alone, a thread normed all rows in its own buffer; here rows are picked, into the shared one.
  const Share share = worker.mine(count);
  for (int64_t i = share.begin; i < share.end; ++i)
    rms_norm(task.step.x + task.step.logit_rows[i] * hidden, model.final_norm, hidden, model.eps,
             task.normed + i * hidden);
  worker.wait();
  project(worker.next(), model.head, hidden, model.vocab, task.normed, count, store_in(task.step.logits, model.vocab));
}

// Embeddings of this thread's rows, and their temperatures.
void begin(const Task& task, const Worker& worker) {
  const Model& model = task.model;
  const Share share = worker.mine(task.step.rows);
  for (int64_t i = 0; i < task.step.num_runs; ++i) {
    const Run& run = task.step.runs[i];
    for (int64_t row = larger(run.first_row, share.begin); row < smaller(run.first_row + run.rows, share.end); ++row) {
      const bf16* from = run.embeddings ? run.embeddings + (row - run.first_row) * model.hidden
                                        : model.embeddings + task.step.token_ids[row] * model.hidden;
      for (int64_t j = 0; j < model.hidden; ++j) task.step.x[row * model.hidden + j] = widen(from[j]);
      const int64_t floors = (run.position + row - run.first_row + 1) / model.floor_scale;
      task.temperatures[row] = floors ? 1.0 + model.attn_scale * std::log1p(static_cast<double>(floors)) : 1.0;
    }
  }
}

// Buffers of one kind, reserved before they are taken.
struct Sizes {
  int64_t rows, choices, qkv, attended, hidden, shared_ffn = 0, ffn = 0, experts = 0, splits = 1, queries, products;
  bool has_prompts = false;

  Sizes(const Model& model, const Step& step)
      : rows(step.rows),
        choices(rows * model.top_k),
        qkv((model.heads + 2 * model.kv_heads) * model.head_dim),
        attended(model.heads * model.head_dim),
        hidden(model.hidden),
        queries(model.heads / model.kv_heads) {
    for (int64_t i = 0; i < model.num_layers; ++i) {
      shared_ffn = larger(shared_ffn, model.layers[i].shared_ffn);
      ffn = larger(ffn, model.layers[i].ffn);
      experts = larger(experts, model.layers[i].num_experts);
    }
    for (int64_t i = 0; i < step.num_runs; ++i) {
      has_prompts |= step.runs[i].rows > 1;
      if (step.runs[i].rows == 1) splits = larger(splits, num_splits(step.runs[i].position + 1));
    }
    if (has_prompts) queries *= kQueryRows;
    // Of a layer qkv, o, router, shared gate_up and down, two for each expert; and the logits.
    products = model.num_layers * (5 + 2 * smaller(choices, experts)) + 1;
  }
};

}  // namespace

void CAMELID_NAME(advance)(const Model& model, const Step& step, int num_threads) {
  const Sizes n(model, step);
  // What is done within a few microseconds is not worth waking other threads for.
  int64_t products = n.rows * n.hidden * (n.qkv + n.attended + 3 * (n.shared_ffn + n.ffn));
  for (int64_t i = 0; i < step.num_runs; ++i) products += step.runs[i].rows * step.runs[i].position * n.attended;
  if (products < kSerialProducts) num_threads = 1;
  using W = Workspace;
  const int64_t sum = model.head_dim + 2, num_partials = n.rows * model.heads * n.splits * sum;
  W common(W::size_of<float>(n.rows) + W::size_of<float>(n.rows * n.qkv) + W::size_of<float>(num_partials) + W::size_of<bf16>(n.rows * n.attended) +
           W::size_of<bf16>(n.rows * n.hidden) + W::size_of<bf16>(n.choices * n.hidden) +
           W::size_of<bf16>(n.rows * n.shared_ffn) + W::size_of<bf16>(n.choices * n.ffn) +
           W::size_of<float>(n.rows * n.experts) + W::size_of<float>(n.choices) + W::size_of<int32_t>(n.choices) +
           W::size_of<int64_t>(n.products));
  Task task{model, step};
  task.temperatures = common.take<float>(n.rows), task.qkv = common.take<float>(n.rows * n.qkv), task.partials = common.take<float>(num_partials);
  task.attended = common.take<bf16>(n.rows * n.attended), task.normed = common.take<bf16>(n.rows * n.hidden);
  task.scaled = common.take<bf16>(n.choices * n.hidden), task.shared = common.take<bf16>(n.rows * n.shared_ffn);
  task.activations = common.take<bf16>(n.choices * n.ffn);
  task.router_logits = common.take<float>(n.rows * n.experts);
  task.weights = common.take<float>(n.choices), task.routed = common.take<int32_t>(n.choices);
  task.taken = common.take<int64_t>(n.products);
  std::memset(task.taken, 0, n.products * sizeof(int64_t));
  task.most_splits = n.splits, task.has_prompts = n.has_prompts;

  Barrier barrier;
#pragma omp parallel num_threads(num_threads)
  {
    Worker worker{{0, 1, task.taken}, &barrier};
#if defined(_OPENMP)
    worker.thread.index = omp_get_thread_num(), worker.thread.count = omp_get_num_threads();
#endif
    worker.is_alone = n.rows < kFewRows;
    const int64_t few = worker.is_alone ? n.rows : 0, few_choices = few * model.top_k;
    W own(W::size_of<bf16>(n.queries * model.head_dim) + 2 * W::size_of<float>(n.queries * sum) +
          W::size_of<float>(model.head_dim) + W::size_of<bf16>(model.head_dim) +
          2 * W::size_of<bf16>(model.head_dim * kPageSize) + W::size_of<int32_t>(n.choices) + W::size_of<int32_t>(n.experts + 1) + W::size_of<bf16>(few * n.hidden) +
          W::size_of<bf16>(few_choices * n.hidden) + W::size_of<bf16>(few * n.attended) +
          W::size_of<float>(few_choices) + W::size_of<int32_t>(few_choices));
    worker.scratch = {own.take<bf16>(n.queries * model.head_dim), own.take<float>(n.queries * sum),
                      own.take<float>(n.queries * sum), own.take<float>(model.head_dim),
                      own.take<bf16>(model.head_dim), own.take<bf16>(model.head_dim * kPageSize),
                      own.take<bf16>(model.head_dim * kPageSize)};
    worker.order = own.take<int32_t>(n.choices), worker.ends = own.take<int32_t>(n.experts + 1);
    worker.normed = few ? own.take<bf16>(few * n.hidden) : task.normed;
    worker.scaled = few ? own.take<bf16>(few_choices * n.hidden) : task.scaled;
    worker.attended = few ? own.take<bf16>(few * n.attended) : task.attended;
    worker.weights = few ? own.take<float>(few_choices) : task.weights;
    worker.routed = few ? own.take<int32_t>(few_choices) : task.routed;
    begin(task, worker);
    worker.wait();
    for (int64_t i = 0; i < model.num_layers; ++i) {
      const Layer& layer = model.layers[i];
      norm_rows(task, worker, layer.input_norm);
      project(worker.next(), layer.qkv, n.hidden, n.qkv, worker.normed, n.rows, store_in(task.qkv, n.qkv));
      worker.wait();
      attention(task, worker, layer);
      worker.wait();
      norm_rows(task, worker, layer.post_norm);
      feed_forward(task, worker, layer, step.routed + i * n.choices);
      worker.wait();
    }
    if (step.num_logits) logits(task, worker);
  }
}
