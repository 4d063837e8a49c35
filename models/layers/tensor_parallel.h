// The two moves of a tensor-parallel layer: home rows go to the whole group, partial sums come back to the homes.
//
//   ConstBuffer wire = ToWire(step, normed, hidden);                              // rounded to the wire type
//   ATOLL_ASSIGN_OR_RETURN(ConstBuffer all, GatherRows(step, wire, step.homes, hidden, {"mlp gather", layer}));
//   ... partial [rows, hidden] over this rank's canonical blocks ...
//   ATOLL_RETURN_IF_ERROR(ReduceToHomes(step, partial, hidden, out, {"mlp reduce", layer}));
//
// A group of one rank rounds too, so that the degree changes no bit.
//
// And sums of single values over a sharded axis, the same on every rank:
//   partial[row] = SumBlocks(cuts, [&](int64_t begin, int64_t end) { return kernels::Sum(x + begin, end - begin); });
//   ATOLL_RETURN_IF_ERROR(ReduceToAll(step, partial, 1, sums, {"mean", layer}));
#pragma once

#include "models/layers/step.h"
#include "parallel/communicator.h"

namespace atl::models {

// rows [n, width] f32 in the wire type, in the buffer wire.home.
ConstBuffer ToWire(const Step& step, std::span<const float> rows, int64_t width);

// Everyone's rows, in the batch's order, in the buffer wire.all (`wire` itself in a group of one); rows_of[r] of them
// come from rank r of the group.
absl::StatusOr<ConstBuffer> GatherRows(const Step& step, ConstBuffer wire, std::span<const int64_t> rows_of,
                                       int64_t width, parallel::OpTag tag);

// partial: [step.rows, width] on every rank; out: [home rows, width], complete.
absl::Status ReduceToHomes(const Step& step, std::span<const float> partial, int64_t width, std::span<float> out,
                           parallel::OpTag tag);

// partial: [step.rows, width] on every rank; sums: the same, complete, on every rank. width is at most 2.
absl::Status ReduceToAll(const Step& step, std::span<const float> partial, int64_t width, std::span<float> sums,
                         parallel::OpTag tag);

// This rank's subtree: term(begin, end) of each of its canonical blocks, added as the tree's lower levels.
template <typename Term>
float SumBlocks(std::span<const int64_t> cuts, const Term& term) {
  float terms[kCanonicalBlocks];
  const size_t blocks = cuts.size() - 1;
  for (size_t b = 0; b < blocks; ++b) terms[b] = term(cuts[b], cuts[b + 1]);
  for (size_t step = 1; step < blocks; step *= 2) {
    for (size_t b = 0; b + step < blocks; b += 2 * step) terms[b] += terms[b + step];
  }
  return terms[0];
}

// Row `row` of a buffer of rows of `width`.
inline const std::byte* RowOf(const ConstBuffer& rows, int64_t row, int64_t width) {
  return static_cast<const std::byte*>(rows.data) + row * width * SizeOf(rows.type);
}

}  // namespace atl::models
