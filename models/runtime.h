// What every architecture of this folder is built from: one rank's memory and threads, ready to run.
// An architecture is a file in models/arch/ that makes a Model of a Runtime and a line in models/arch/table.cc.
#pragma once

#include "models/arena.h"
#include "models/kv_cache.h"
#include "models/weight_arena.h"
#include "parallel/base/thread_pool.h"

namespace atl::models {

struct Runtime {
  ModelSpec spec;
  JobShape shape;
  parallel::ExpertPlacement placement;
  int rank = 0;  // in the world
  WeightArena weights;
  KvCache kv;
  Arena workspace, exchange;
  RankMemory memory;  // as allocated
  std::unique_ptr<ThreadPool> pool;
};

}  // namespace atl::models
