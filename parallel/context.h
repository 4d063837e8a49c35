// Who is who in a job while an epoch lasts. Plain values, passed and never global.
//
//   ParallelContext context{.topology = {.world = 4, .tp = 2}, .rank = 3, .world = &world, .tp_group = &group};
//   context.group() == 1, context.tp_rank() == 1
#pragma once

#include "parallel/base/deadline.h"
#include "parallel/topology.h"

namespace atl::parallel {

class Communicator;

// What one rank knows of its job while an epoch lasts. The communicators belong to the worker.
struct ParallelContext {
  Topology topology;
  int rank = 0;                      // in the world
  Communicator* world = nullptr;     // expert parallelism
  Communicator* tp_group = nullptr;  // tensor parallelism: my attention group
  Seconds timeout{30};               // of any one collective

  int group() const { return topology.GroupOf(rank); }
  int tp_rank() const { return topology.TpRankOf(rank); }
  Deadline NextDeadline() const { return Deadline::After(timeout); }
};

}  // namespace atl::parallel
