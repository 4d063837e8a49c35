// `atoll-worker --measure`: what this machine and the exchanges between ranks can do, as one JSON object on stdout.
//
//   MeasureRank({.threads = 2}, *world);          // every rank of the world calls; rank 0 prints
//
// {"threads", "ranks", "transport", "kernels", "read_bytes_per_s": {"one", "all"},
//  "operations_per_s": {"f32", "bf16", "int8"}, "exchanges": [{"name", "bytes", "seconds"}, ...]}
// bytes: what one rank sends to all others; seconds: the median of many, from start to the end of the wait.
#pragma once

#include <string>

#include "parallel/communicator.h"

namespace atl::worker {

struct MeasureOptions {
  int threads = 1;
  int64_t memory_bytes = int64_t{4} << 30;
  std::string transport;
};

absl::Status MeasureRank(const MeasureOptions& options, parallel::Communicator& world);

}  // namespace atl::worker
