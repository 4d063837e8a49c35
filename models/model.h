// A model on one rank: weights, KV cache and the forward pass of one step. All of models/ that worker/ needs.
//
//   ATOLL_ASSIGN_OR_RETURN(options.spec, ReadModel(options.path));       // weights/read_model.h
//   ATOLL_ASSIGN_OR_RETURN(std::unique_ptr<Model> model, LoadModel(options, context, progress));
//   Batch batch{.ids = ids, .sequences = sequences, .logit_rows = rows};
//   ATOLL_ASSIGN_OR_RETURN(LogitRows logits, model->Forward(batch, context));
//
// Every rank of the world calls Forward for every step, in the same order, also with an empty batch: the exchange of
// experts is collective. Ranks of one attention group pass the same batch.
// State by lifetime: weights are const; the KV cache lives as long as its blocks; activations are one step's.
// Errors: Aborted and DeadlineExceeded from the communicators; Internal where conservation was violated.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "models/spec/rank_memory.h"
#include "models/step_costs.h"
#include "models/weights/read_model.h"
#include "parallel/base/thread_pool.h"
#include "parallel/context.h"

namespace atl::models {

// A run of consecutive positions of one sequence. Position p's token is in "prompt" form when p < prompt_length and in
// "emitted" form after that (MLA rounds differently in its two forms; the form belongs to the token, law 1).
struct SequenceRows {
  int64_t row_begin = 0;  // in Batch::ids
  int64_t rows = 0;
  int64_t position = 0;  // of the first row
  int64_t prompt_length = 0;
  std::span<const int32_t> blocks;  // the table of positions 0..position+rows-1 (models/spec/kv_layout.h)
};

struct Batch {
  std::span<const int32_t> ids;  // [rows]
  std::span<const SequenceRows> sequences;
  std::span<const int32_t> logit_rows;  // rows of ids whose logits are wanted, ascending
};

// The logits whose home is this rank: entries [first, first + count) of Batch::logit_rows, EvenPart over the tp group.
struct LogitRows {
  int64_t first = 0;
  int64_t count = 0;
  std::span<const float> values;  // [count, vocab]; valid until the next Forward
};

// What the exchanges of experts moved, summed over the layers of the last Forward. Tests compare it with the routing.
struct ExchangeCounters {
  std::vector<int64_t> rows_to;   // [world] rows this rank sent to each rank
  std::vector<int64_t> pairs_to;  // [world]
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelSpec& spec() const = 0;
  virtual const RankMemory& memory() const = 0;  // allocated bytes, equal to PlanRankMemory
  virtual absl::StatusOr<LogitRows> Forward(const Batch& batch, const parallel::ParallelContext& context) = 0;
  virtual const ExchangeCounters& last_exchange() const = 0;
  virtual const StepCosts& last_costs() const = 0;  // of the last Forward
  virtual ThreadPool* pool() const = 0;             // this rank's threads, idle between two calls of Forward

  // For tests: called with the input of each layer (layer == layers: after the final norm), this rank's home rows
  // [home rows, hidden] f32.
  using HiddenTap = std::function<void(int64_t layer, std::span<const float> rows)>;
  virtual void set_hidden_tap(HiddenTap tap) = 0;
};

struct LoadOptions {
  std::string path;            // model directory
  bool dummy_weights = false;  // values made from names and positions, no files; path may be a config.json
  ModelSpec spec;              // ReadModel(path), or ReadModelSpec(path) for dummy weights
  JobShape shape;
  parallel::ExpertPlacement placement = parallel::ExpertPlacement::Contiguous(1, 1);
  int threads = 1;  // of this rank's kernels
  // Where weights are kept in another format than stored, how far each matrix's values moved: the root of the mean
  // square relative to the values' own, and the largest difference. Null: not asked for.
  std::function<void(const std::string& name, WeightFormat format, double relative, float largest)> on_moved = {};
};
// Bytes read so far and in all. Called from the loading thread.
using LoadProgress = std::function<void(int64_t done, int64_t total)>;

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const LoadOptions& options, const parallel::ParallelContext& context,
                                                 const LoadProgress& progress);

// The instruction set the kernels chose on this machine ("AVX3_ZEN4"): part of the numerics profile.
std::string KernelTarget();

}  // namespace atl::models
