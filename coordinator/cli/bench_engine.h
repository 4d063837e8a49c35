// `atoll bench engine`: tokens a second of the real scheduler, ranks and step loop, beside what the machine allows.
//
//   ATOLL_RETURN_IF_ERROR(RunBenchEngine({.cluster = ..., .prompts = {128}, .batches = {1, 16}, .decode = 32}));
//
// Ranks are processes as in `atoll serve`, by default with weights made in memory from config.json. A client inside
// this process submits requests of made-up ids to the engine and watches the results of steps as they come:
//   prompt P     one request; P tokens over the time from submission to its first token, the best of some
//   decode B     B requests with the first P; steps in which each of them gets one token, B over the mean time between
//                such steps (results that come, so planning, the wire and sampling are in it)
// The limits come from `bench machine` in the same run, before the ranks start. Of decoding it is the time to read the
// bytes of weights that the steps touched (each expert once a step); of prompts, the products' multiply-adds at the
// peak of 8 bits (packed weights) or f32.
#pragma once

#include <array>

#include "coordinator/cli/flags.h"

namespace atl::coordinator {

struct BenchEngineFlags {
  ClusterFlags cluster;
  std::string config;  // instead of cluster.model
  std::vector<int64_t> prompts = {128, 512};
  std::vector<int64_t> batches = {1, 4, 16, 64};
  int64_t decode = 32;    // steps
  int64_t repeats = 3;    // of a prompt
  double memory_gib = 1;  // that the limit is measured over; 0: no limits
  bool json = false;
};

inline constexpr std::array<const char*, 9> kPhaseNames = {"attention", "router", "dispatch", "experts", "combine",
                                                           "mlp",       "head",   "sampling", "other"};

struct BenchRow {
  std::string name;  // "decode 16"
  int64_t tokens = 0;
  double seconds = 0;                     // for them
  double step_seconds = 0;                // mean, on the leader
  std::array<double, 9> phase_seconds{};  // likewise, by kPhaseNames
  double weight_bytes = 0;                // of a step on the leader
  double operations = 0;
  double limit_seconds = 0;  // for the tokens, as the machine's limit allows; 0: not known
};

struct BenchReport {
  std::string model, weights, profile;
  int ranks = 1, tp = 1, expert_slices = 1, threads = 1;
  int64_t bytes_on_rank_0 = 0;
  double read_bytes_per_s = 0, int8_per_s = 0, f32_per_s = 0;
  std::vector<BenchRow> rows;
};
std::string ToText(const BenchReport& report);
std::string ToJson(const BenchReport& report);

absl::Status RunBenchEngine(BenchEngineFlags flags);

}  // namespace atl::coordinator
