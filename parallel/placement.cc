#include "parallel/placement.h"

#include <algorithm>

namespace atl::parallel {

ExpertPlacement ExpertPlacement::Contiguous(int experts, int world) {
  std::vector<std::vector<int>> ranks_of(experts);
  for (int64_t e = 0; e < experts; ++e) ranks_of[e] = {static_cast<int>(e * world / experts)};
  return std::move(FromTable(std::move(ranks_of), world, /*epoch=*/0)).value();
}

absl::StatusOr<ExpertPlacement> ExpertPlacement::FromTable(std::vector<std::vector<int>> ranks_of, int world,
                                                           uint64_t epoch) {
  ExpertPlacement placement;
  placement.epoch_ = epoch;
  placement.experts_of_.resize(world);
  for (size_t e = 0; e < ranks_of.size(); ++e) {
    std::vector<int> sorted = ranks_of[e];
    std::sort(sorted.begin(), sorted.end());
    if (sorted.empty()) return InvalidArgument("expert {} is on no rank; give it at least one", e);
    if (sorted.front() < 0 || sorted.back() >= world) {
      return InvalidArgument("expert {} is placed on rank {}, but ranks are 0 to {}", e,
                             sorted.front() < 0 ? sorted.front() : sorted.back(), world - 1);
    }
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
      return InvalidArgument("expert {} is placed twice on one rank", e);
    }
    for (const int rank : sorted) placement.experts_of_[rank].push_back(static_cast<int>(e));
  }
  placement.ranks_of_ = std::move(ranks_of);
  return placement;
}

int ExpertPlacement::RankFor(int expert, int source) const {
  const std::vector<int>& ranks = ranks_of_[expert];
  return ranks[source % ranks.size()];
}

int ExpertPlacement::LocalIndex(int rank, int expert) const {
  const std::vector<int>& local = experts_of_[rank];
  const auto found = std::lower_bound(local.begin(), local.end(), expert);
  return found != local.end() && *found == expert ? static_cast<int>(found - local.begin()) : -1;
}

}  // namespace atl::parallel
