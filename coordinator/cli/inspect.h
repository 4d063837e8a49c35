// `atoll inspect`: what a model is and what each rank of a job would hold, from config.json alone or a model directory.
// Nothing is loaded: the numbers are PlanRankMemory's, which are the worker's allocations (law 7).
//
//   ATOLL_RETURN_IF_ERROR(RunInspect({.path = "models/checkpoints/tiny-deepseek-v3", .ranks = 4, .tp = 2}));
//
// Errors: config.json cannot be read or used, the shape cannot be (CheckShape's sentence), an option is not understood.
// A memory that is too small is no error: the report says what would fit.
#pragma once

#include <cstdint>
#include <string>

#include "parallel/base/status.h"

namespace atl::coordinator {

struct InspectOptions {
  std::string path;  // a model directory or a config.json
  int ranks = 1;
  int tp = 1;
  int expert_slices = 1;  // ranks that share each expert
  std::string profile = "f32";
  int64_t kv_tokens = 8192;  // of one attention group; rounded up to whole KV blocks
  int64_t max_batch_tokens = 512;
  std::string weights{};  // what the layers' products are kept in, or a format that all are stored in; empty: as stored
  std::string head_weights{};  // likewise the head
  std::string memory{};        // of one rank, "64GB" or "60GiB": what fits in it; empty: not asked
  std::string matformer{};     // a slice of Gemma 3n (models/spec/matformer.h)
  bool json = false;
};

// The report that RunInspect prints on stdout: aligned tables, or one JSON object whose sizes are bytes.
absl::StatusOr<std::string> InspectReport(const InspectOptions& options);
absl::Status RunInspect(const InspectOptions& options);

}  // namespace atl::coordinator
