// Expert parallelism's two moves: rows go to the ranks that hold their experts, results come home.
//
//   Routing routing = Route(...);                                        // [rows, top_k] experts and weights
//   ATOLL_ASSIGN_OR_RETURN(Dispatched in, Dispatch(context, placement, layer, x, width, routing, scratch));
//   // in.rows: [in.num_rows, width] of x's type; in.ExpertRows(e): which of them local expert e must see
//   Experts(in, results);                                                // results: [in.num_pairs, width], wire type
//   ATOLL_RETURN_IF_ERROR(Combine(context, in, results, width, routing, out, scratch));
//   // out[row] = sum over k in the router's order of weights[row, k] * result(row, k), in f32
//
// A row crosses to a destination rank once, with the list of its experts there; counts travel first. One result row per
// (row, expert) pair returns, in the wire type even when it never left its rank, so no placement changes a bit (law 1).
// Where the placement has slices, one for each (row, expert, slice) returns: sums over a part of the expert's inner
// axis, in f32; their sum at home is what a whole expert would have made, and is rounded to the wire type as that is.
// The handle is the layout of one exchange, a value whose lists lie in the scratch until the next Dispatch; nothing is
// kept between exchanges.
// Always checked, cheaply: every exchange carries (epoch, layer, sequence number, rows, pairs), and the pairs that come
// home are counted; a mismatch is an Internal error that names layer and rank (law 3).
// The plain reference is parallel/dispatch_reference.h.
#pragma once

#include <cstdint>
#include <span>

#include "parallel/base/buffer.h"
#include "parallel/base/status.h"
#include "parallel/base/thread_pool.h"
#include "parallel/context.h"
#include "parallel/exchange_size.h"
#include "parallel/list_memory.h"
#include "parallel/placement.h"

namespace atl::parallel {

struct Routing {
  int64_t rows = 0;
  int top_k = 0;
  std::span<const int32_t> experts;  // [rows, top_k], distinct in a row
  std::span<const float> weights;    // [rows, top_k]
};

// Memory that an exchange needs, given by the caller so that a step allocates nothing. Sizes: parallel/exchange_size.h.
struct ExchangeScratch {
  std::span<std::byte> send;   // rows to send, or results to return
  std::span<std::byte> recv;   // rows received, or results come home
  std::span<std::byte> lists;  // what goes where, from Dispatch to Combine
};

struct Dispatched {
  ConstBuffer rows;  // [num_rows, width], rank-major by source, in ExchangeScratch::recv (of one rank: x)
  int64_t num_rows = 0;
  int64_t num_pairs = 0;  // (row, local expert) pairs, = sum over e of pair_begin[e + 1] - pair_begin[e]
  // Pairs grouped by local expert: pairs [pair_begin[e], pair_begin[e + 1]) are expert e's, pair_row[p] is the row of
  // `rows` it reads; the expert writes its result to row p of `results`.
  std::span<int32_t> pair_begin;  // [local experts + 1]
  std::span<int32_t> pair_row;    // [num_pairs]

  // The way back. For the return, results are sent in the order the pairs came (by source, row, then the list's order).
  std::span<int32_t> return_order;  // [num_pairs]: which result row goes at this place
  std::span<int64_t> rows_to;       // [world] rows this rank sent to each destination
  std::span<int64_t> rows_from;     // [world]
  std::span<int64_t> pairs_to;      // [world] pairs this rank sent, so results it expects back
  std::span<int64_t> pairs_from;    // [world]
  std::span<int32_t> home_slot;     // [rows * top_k * slices]: where (row, k, slice)'s result stands among those home
  int slices = 1;                   // of an expert
  int layer = -1;
  uint64_t sequence = 0;  // of this exchange, the same number on every rank
  ListMemory memory;      // what these lists leave of ExchangeScratch::lists: Combine's
};

// x: [routing.rows, width] in the wire type; in a world of one rank it is not copied, and must last as long as what is
// returned. Every rank of the world must call, also with zero rows. pool: copies and sums of many rows are shared by
// its threads.
absl::StatusOr<Dispatched> Dispatch(const ParallelContext& context, const ExpertPlacement& placement, int layer,
                                    ConstBuffer x, int64_t width, const Routing& routing, ExchangeScratch scratch,
                                    ThreadPool* pool = nullptr);

// results: [num_pairs, width] of ResultType (exchange_size.h), by local expert as pair_begin says; out: [routing.rows,
// width] f32.
absl::Status Combine(const ParallelContext& context, const Dispatched& dispatched, ConstBuffer results, int64_t width,
                     const Routing& routing, std::span<float> out, ExchangeScratch scratch, ThreadPool* pool = nullptr);

}  // namespace atl::parallel
