// Which ranks hold which routed expert, or which slice of it: a table with an epoch. Pure arithmetic, shared with the
// coordinator.
//
//   const ExpertPlacement placement = ExpertPlacement::Contiguous(/*experts=*/256, /*world=*/16);
//   placement.RanksOf(17)      -> {1}
//   placement.LocalIndex(1, 17) -> 1      (the 2nd expert in rank 1's arena order)
//
//   const ExpertPlacement halves = ExpertPlacement::Contiguous(256, 16, /*slices=*/2);
//   halves.RanksOf(40, 0) -> {2}, halves.RanksOf(40, 1) -> {3}      each holds half of expert 40's inner axis
//
// With slices a row wakes more ranks, each for less time: rows that want few experts are spread evenly. What it costs
// is a result for each slice instead of each expert (parallel/dispatch.h). All slices are of one size.
// One table serves all layers of a model. Any table gives the same answers (law 1): placement is a matter of speed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/base/status.h"

namespace atl::parallel {

class ExpertPlacement {
 public:
  // Experts in runs: expert e on rank floor(e world / experts); of slices, on the next `slices` ranks side by side.
  // `slices` must divide the world.
  static ExpertPlacement Contiguous(int experts, int world, int slices = 1);
  // ranks_of[e * slices + s] lists the ranks that hold slice s of expert e, at least one each. Refuses ranks outside
  // the world, duplicates, and two slices of one expert on a rank.
  static absl::StatusOr<ExpertPlacement> FromTable(std::vector<std::vector<int>> ranks_of, int world, uint64_t epoch,
                                                   int slices = 1);

  int experts() const { return static_cast<int>(ranks_of_.size()) / slices_; }
  int slices() const { return slices_; }  // of an expert: 1, 2 or 4
  int world() const { return static_cast<int>(experts_of_.size()); }
  uint64_t epoch() const { return epoch_; }
  std::span<const int> RanksOf(int expert, int slice = 0) const { return ranks_of_[expert * slices_ + slice]; }
  // The replica that serves rows whose home is `source`: fixed by the table, so that nothing has to be agreed.
  int RankFor(int expert, int slice, int source) const;
  std::span<const int> ExpertsOf(int rank) const { return experts_of_[rank]; }  // ascending
  int LocalIndex(int rank, int expert) const;  // position in ExpertsOf(rank), -1 when it is not there
  // Which slice of ExpertsOf(rank)[local] the rank holds.
  int SliceAt(int rank, int local) const { return slices_of_[rank][local]; }

 private:
  int slices_ = 1;
  std::vector<std::vector<int>> ranks_of_;    // [experts * slices][replicas]
  std::vector<std::vector<int>> experts_of_;  // [world][local experts]
  std::vector<std::vector<int>> slices_of_;   // the same: which slice
  uint64_t epoch_ = 0;
};

}  // namespace atl::parallel
