// The life of one rank: register, load, ready, steps, leave.
//
//   RunRank({.coordinator = "127.0.0.1:50052", .transport = "mpi", ...}, *world);
//
// Returns after an orderly shutdown. Every other end is _exit with a reason on stderr and, where the stream still
// stands, a Failure report to the coordinator: a rank that is lost has peers inside collectives, so no destructor may
// wait for them.
#pragma once

#include <string>

#include "parallel/communicator.h"

namespace atl::worker {

struct RankOptions {
  std::string coordinator;  // HOST:PORT
  std::string launch_id;    // from the coordinator that launched this rank; empty where a person did
  std::string transport;    // mpi, inproc
  int threads = 1;          // of this rank's kernels
  std::string model;        // a path that replaces the coordinator's on this host; empty: the coordinator's
};

void RunRank(const RankOptions& options, parallel::Communicator& world);

}  // namespace atl::worker
