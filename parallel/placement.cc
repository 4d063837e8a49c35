#include "parallel/placement.h"

#include <algorithm>

#include "parallel/base/partition.h"

namespace atl::parallel {

ExpertPlacement ExpertPlacement::Contiguous(int experts, int world, int slices) {
  std::vector<std::vector<int>> ranks_of;
  for (int64_t e = 0; e < experts; ++e) {
    const auto first = static_cast<int>(e * (world / slices) / experts) * slices;
    for (int slice = 0; slice < slices; ++slice) ranks_of.push_back({first + slice});
  }
  return std::move(FromTable(std::move(ranks_of), world, /*epoch=*/0, slices)).value();
}

absl::StatusOr<ExpertPlacement> ExpertPlacement::FromTable(std::vector<std::vector<int>> ranks_of, int world,
                                                           uint64_t epoch, int slices) {
  if (slices < 1 || kExpertBlocks % slices != 0 || std::ssize(ranks_of) % slices != 0) {
    return InvalidArgument("{} entries of a placement cannot be experts of {} slices each; an expert has 1, 2 or 4",
                           ranks_of.size(), slices);
  }
  ExpertPlacement placement;
  placement.epoch_ = epoch;
  placement.slices_ = slices;
  placement.experts_of_.resize(world);
  placement.slices_of_.resize(world);
  for (int entry = 0; entry < std::ssize(ranks_of); ++entry) {
    const int e = entry / slices, slice = entry % slices;
    std::vector<int> sorted = ranks_of[entry];
    std::sort(sorted.begin(), sorted.end());
    if (sorted.empty()) return InvalidArgument("expert {} is on no rank; give it at least one", e);
    if (sorted.front() < 0 || sorted.back() >= world) {
      return InvalidArgument("expert {} is placed on rank {}, but ranks are 0 to {}", e,
                             sorted.front() < 0 ? sorted.front() : sorted.back(), world - 1);
    }
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
      return InvalidArgument("expert {} is placed twice on one rank", e);
    }
    for (const int rank : sorted) {
      std::vector<int>& local = placement.experts_of_[rank];
      if (!local.empty() && local.back() == e) {
        return InvalidArgument("two slices of expert {} are on rank {}; each wants a rank of its own", e, rank);
      }
      local.push_back(e);
      placement.slices_of_[rank].push_back(slice);
    }
  }
  placement.ranks_of_ = std::move(ranks_of);
  return placement;
}

int ExpertPlacement::RankFor(int expert, int slice, int source) const {
  const std::span<const int> ranks = RanksOf(expert, slice);
  return ranks[source % ranks.size()];
}

int ExpertPlacement::LocalIndex(int rank, int expert) const {
  const std::vector<int>& local = experts_of_[rank];
  const auto found = std::lower_bound(local.begin(), local.end(), expert);
  return found != local.end() && *found == expert ? static_cast<int>(found - local.begin()) : -1;
}

}  // namespace atl::parallel
