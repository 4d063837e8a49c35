// The shape of a job: world = dp x tp. Plain values and pure arithmetic, shared with the planner.
//
//   const Topology topology{.world = 4, .tp = 2};        // two attention groups: {0,1} and {2,3}
//   topology.GroupOf(3) == 1, topology.TpRankOf(3) == 1, topology.LeaderOf(1) == 2
//
// Attention heads and dense products are sharded over the tp group; experts are spread over the whole world.
#pragma once

#include <vector>

namespace atl::parallel {

struct Topology {
  int world = 1;
  int tp = 1;  // divides world; 1, 2, 4 or 8

  int groups() const { return world / tp; }  // data-parallel attention groups
  int GroupOf(int rank) const { return rank / tp; }
  int TpRankOf(int rank) const { return rank % tp; }
  int LeaderOf(int group) const { return group * tp; }
  std::vector<int> RanksOf(int group) const {
    std::vector<int> ranks(tp);
    for (int i = 0; i < tp; ++i) ranks[i] = group * tp + i;
    return ranks;
  }
  bool operator==(const Topology&) const = default;
};

}  // namespace atl::parallel
