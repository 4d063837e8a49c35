// Which ranks hold which routed expert: a table with an epoch. Pure arithmetic, shared with the coordinator.
//
//   const ExpertPlacement placement = ExpertPlacement::Contiguous(/*experts=*/256, /*world=*/16);
//   placement.RanksOf(17)      -> {1}
//   placement.LocalIndex(1, 17) -> 1      (the 2nd expert in rank 1's arena order)
//
// One table serves all layers of a model. Any table gives the same answers (law 1): placement is a matter of speed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/base/status.h"

namespace atl::parallel {

class ExpertPlacement {
 public:
  // Experts in runs: expert e on rank floor(e world / experts).
  static ExpertPlacement Contiguous(int experts, int world);
  // ranks_of[e] lists the ranks that hold expert e, at least one each. Refuses ranks outside the world and duplicates.
  static absl::StatusOr<ExpertPlacement> FromTable(std::vector<std::vector<int>> ranks_of, int world, uint64_t epoch);

  int experts() const { return static_cast<int>(ranks_of_.size()); }
  int world() const { return static_cast<int>(experts_of_.size()); }
  uint64_t epoch() const { return epoch_; }
  std::span<const int> RanksOf(int expert) const { return ranks_of_[expert]; }
  // The replica that serves rows whose home is `source`: fixed by the table, so that nothing has to be agreed.
  int RankFor(int expert, int source) const;
  std::span<const int> ExpertsOf(int rank) const { return experts_of_[rank]; }  // ascending
  int LocalIndex(int rank, int expert) const;  // position in ExpertsOf(rank), -1 when it is not there

 private:
  std::vector<std::vector<int>> ranks_of_;    // [experts][replicas]
  std::vector<std::vector<int>> experts_of_;  // [world][local experts]
  uint64_t epoch_ = 0;
};

}  // namespace atl::parallel
