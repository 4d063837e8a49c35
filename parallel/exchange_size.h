// How large the scratch of Dispatch and Combine must be at worst. Pure arithmetic, shared with the planner.
//
//   ExchangeBytes bytes = WorstExchange({.world_rows = 1024, .home_rows = 256, .world = 4, .top_k = 8, .width = 7168,
//                                        .wire = DType::kBF16, .local_experts = 64});
#pragma once

#include <cstdint>

#include "parallel/base/dtype.h"

namespace atl::parallel {

// What experts' results are in: slices' are sums that are not whole yet.
constexpr DType ResultType(int slices, DType wire) { return slices > 1 ? DType::kF32 : wire; }

struct ExchangeShape {
  int64_t world_rows = 0;  // rows of all homes together, at most
  int64_t home_rows = 0;   // rows that this rank is home of, at most
  int64_t world = 1;
  int64_t top_k = 1;
  int64_t width = 0;
  DType wire = DType::kF32;
  int64_t local_experts = 1;
  int slices = 1;  // of an expert
};

struct ExchangeBytes {
  int64_t send = 0, recv = 0, lists = 0;  // ExchangeScratch
  int64_t pairs = 0;                      // (row, local expert) pairs at most: rows of the experts' results
  int64_t results = 0;
};

constexpr int64_t Least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t Most(int64_t a, int64_t b) { return a > b ? a : b; }

// Of one list in ExchangeScratch::lists (list_memory.h).
inline constexpr int64_t kListAlignment = 8;
constexpr int64_t ListBytes(int64_t count, int64_t element_bytes) {
  return (count * element_bytes + kListAlignment - 1) / kListAlignment * kListAlignment;
}

// How much one exchange lists: rows and pairs that leave this rank and that come to it.
struct ListedExchange {
  int64_t world = 1, local_experts = 1;
  int64_t rows_out = 0, pairs_out = 0;
  int64_t rows_in = 0, pairs_in = 0;
};
// All lists of Dispatch and Combine (dispatch.cc, dispatch_lists.cc), which take no more than this.
constexpr int64_t ExchangeListBytes(const ListedExchange& l) {
  constexpr int64_t kOfRank = 34, kFew = 16;  // counts, offsets, announcements; offsets' ends and what alignment takes
  const int64_t out = 2 * l.rows_out + 3 * l.pairs_out, in = l.rows_in + 5 * l.pairs_in;
  return ListBytes(kOfRank * l.world + kFew, 8) + ListBytes(out + in + 2 * (l.local_experts + 1), 4);
}

constexpr ExchangeBytes WorstExchange(const ExchangeShape& s) {
  const int64_t row_bytes = s.width * SizeOf(s.wire), result_bytes = s.width * SizeOf(ResultType(s.slices, s.wire));
  const int64_t headers = 16 * s.world;
  const int64_t pairs = s.world_rows * Least(s.top_k, s.local_experts), pairs_out = s.home_rows * s.top_k * s.slices;
  const int64_t rows_out = s.home_rows * Least(s.top_k * s.slices, s.world);
  return {.send = Most(rows_out * row_bytes, headers + pairs * result_bytes),
          .recv = Most(s.world_rows * row_bytes, headers + pairs_out * result_bytes),
          .lists = ExchangeListBytes({.world = s.world,
                                      .local_experts = s.local_experts,
                                      .rows_out = rows_out,
                                      .pairs_out = pairs_out,
                                      .rows_in = s.world_rows,
                                      .pairs_in = pairs}),
          .pairs = pairs,
          .results = pairs * result_bytes};
}

}  // namespace atl::parallel
