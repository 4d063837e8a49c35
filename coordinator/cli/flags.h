// The flags that every command with a cluster shares, and what they make.
//
//   ClusterFlags flags;
//   AddClusterFlags(command, &flags);                              // CLI11
//   ATOLL_ASSIGN_OR_RETURN(ClusterOptions options, ToClusterOptions(flags));   // reads config.json, checks the shape
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "coordinator/cluster/cluster.h"
#include "coordinator/scheduler/scheduler.h"

namespace atl::coordinator {

struct ClusterFlags {
  std::string model;
  int ranks = 1;
  int tp = 1;
  int expert_slices = 1;
  std::string profile = "f32";
  std::string transport = "mpi";
  std::string hosts;
  bool external_ranks = false;
  bool dummy_weights = false;
  std::string matformer;
  std::string weights, head_weights;
  bool weight_errors = false;
  std::string control_address = "127.0.0.1:0";
  int64_t kv_tokens = 8192;
  int64_t max_batch_tokens = 512;
  int threads = 1;
  double silence_timeout = 5;
  bool quiet = false;  // set by commands: what ranks print is not shown
};

// --model, also as the command's first argument.
void AddModelFlag(CLI::App* command, std::string* model);
// --weights and --head-weights (models/spec/kept_formats.h).
void AddWeightFlags(CLI::App* command, std::string* weights, std::string* head_weights);
// --expert-slices (parallel/placement.h).
void AddExpertSlicesFlag(CLI::App* command, int* slices);
void AddClusterFlags(CLI::App* command, ClusterFlags* flags);
absl::StatusOr<ClusterOptions> ToClusterOptions(const ClusterFlags& flags);
SchedulerOptions ToSchedulerOptions(const ClusterOptions& options);

}  // namespace atl::coordinator
