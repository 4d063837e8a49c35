// The slow plain reference of Dispatch and Combine: everyone gathers everything and picks what is theirs. It shares no
// arithmetic of slots, lists or counts with dispatch.cc; tests compare bits.
//
//   ATOLL_ASSIGN_OR_RETURN(const ReferenceRows in, ReferenceDispatch(context, placement, x, width, routing));
//   // results: for local expert e, one row for each of in.expert_rows[e], expert after expert
//   ATOLL_RETURN_IF_ERROR(ReferenceCombine(context, placement, in, results, width, routing, out));
#pragma once

#include "parallel/dispatch.h"

namespace atl::parallel {

struct ReferenceRows {
  struct Source {
    int home;
    int64_t row;
    bool operator==(const Source&) const = default;
  };
  DType wire = DType::kF32;
  std::vector<std::byte> rows;                    // [sources.size(), width], in order of home, then row
  std::vector<Source> sources;                    // where each came from
  std::vector<std::vector<int32_t>> expert_rows;  // [local experts]: which of `rows` it must see, ascending
  std::vector<int64_t> rows_to, pairs_to;         // [world] what routing demands of this rank
};

absl::StatusOr<ReferenceRows> ReferenceDispatch(const ParallelContext& context, const ExpertPlacement& placement,
                                                ConstBuffer x, int64_t width, const Routing& routing);

absl::Status ReferenceCombine(const ParallelContext& context, const ExpertPlacement& placement,
                              const ReferenceRows& rows, ConstBuffer results, int64_t width, const Routing& routing,
                              std::span<float> out);

}  // namespace atl::parallel
