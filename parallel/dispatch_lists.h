// The lists that travel beside dispatched rows: which of the destination's experts each row is for. Arithmetic of one
// rank; nothing is sent here.
//
//   const Outgoing out = ListByDestination(context, placement, routing, &d);   // lists lie in d.memory
//   ... rows and lists travel ...
//   ATOLL_RETURN_IF_ERROR(GroupByExpert(context, local_experts, lists, digests, &d));
//
// A list says for each row, in the order of the rows, how many experts it has at the destination, then their indices
// there (ExpertPlacement::LocalIndex). Results come home in the order of these entries.
#pragma once

#include <cstdint>
#include <span>

#include "parallel/dispatch.h"

namespace atl::parallel {

// What goes out, by destination.
struct Outgoing {
  std::span<int32_t> rows;        // [sum of rows_to] which row
  std::span<int32_t> lists;       // for each of those: how many experts, then their indices at the destination
  std::span<int64_t> list_sizes;  // [world] = rows_to + pairs_to
};

// Also fills d->rows_to, pairs_to (both sized [world] by the caller) and home_slot.
Outgoing ListByDestination(const ParallelContext& context, const ExpertPlacement& placement, const Routing& routing,
                           Dispatched* d);

// Reads the lists that came with d->rows_from and pairs_from rows and pairs, checks them against their senders'
// digests, and groups the pairs by local expert: fills d->pair_begin, pair_row and return_order.
absl::Status GroupByExpert(const ParallelContext& context, int64_t local_experts, std::span<const int32_t> lists,
                           std::span<const uint64_t> digests, Dispatched* d);

uint64_t Digest(std::span<const int32_t> words);  // FNV-1a over 32-bit words

std::span<int64_t> Offsets(std::span<const int64_t> counts, ListMemory* memory);  // [counts + 1], from 0
// factor * a + b, rank by rank; no b: zeros.
std::span<int64_t> Scaled(std::span<const int64_t> a, int64_t factor, std::span<const int64_t> b, ListMemory* memory);

// What every count that is wrong says: layer and ranks are named (law 3).
template <typename T>
absl::Status Mismatch(const ParallelContext& context, int layer, int peer, const char* what, T got, T expected) {
  return Internal("conservation violated: layer {}, rank {}, from rank {}: {} is {}, expected {}", layer, context.rank,
                  peer, what, got, expected);
}

}  // namespace atl::parallel
