#include "parallel/dispatch_lists.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace atl::parallel {

std::span<int64_t> Offsets(std::span<const int64_t> counts, ListMemory* memory) {
  const std::span<int64_t> offsets = memory->Take<int64_t>(std::ssize(counts) + 1);
  std::partial_sum(counts.begin(), counts.end(), offsets.begin() + 1);
  return offsets;
}

std::span<int64_t> Scaled(std::span<const int64_t> a, int64_t factor, std::span<const int64_t> b, ListMemory* memory) {
  const std::span<int64_t> result = memory->Take<int64_t>(std::ssize(a));
  for (size_t i = 0; i < a.size(); ++i) result[i] = factor * a[i] + (b.empty() ? 0 : b[i]);
  return result;
}

uint64_t Digest(std::span<const int32_t> words) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const int32_t word : words) hash = (hash ^ static_cast<uint32_t>(word)) * 0x100000001b3u;
  return hash;
}

Outgoing ListByDestination(const ParallelContext& context, const ExpertPlacement& placement, const Routing& routing,
                           Dispatched* d) {
  const int world = context.topology.world, slices = placement.slices();
  const int64_t of_row = int64_t{routing.top_k} * slices, pairs = routing.rows * of_row;  // (row, k, slice)
  const std::span<int32_t> destination = d->memory.Take<int32_t>(pairs);
  const std::span<int64_t> last_row = d->memory.Take<int64_t>(world);  // by destination: the row whose list is open
  std::fill(last_row.begin(), last_row.end(), -1);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const int expert = routing.experts[pair / slices];
    ATOLL_CHECK(expert >= 0 && expert < placement.experts(), "layer {}, rank {}: routed to expert {} of {}", d->layer,
                context.rank, expert, placement.experts());
    const int to = destination[pair] = placement.RankFor(expert, static_cast<int>(pair % slices), context.rank);
    ++d->pairs_to[to];
    const int64_t row = pair / of_row;
    if (std::exchange(last_row[to], row) != row) ++d->rows_to[to];
  }
  Outgoing out;
  out.list_sizes = Scaled(d->rows_to, 1, d->pairs_to, &d->memory);
  const std::span<int64_t> next_row = Offsets(d->rows_to, &d->memory), next_pair = Offsets(d->pairs_to, &d->memory);
  const std::span<int64_t> next_entry = Offsets(out.list_sizes, &d->memory);
  const std::span<int64_t> length_at = d->memory.Take<int64_t>(world);
  out.rows = d->memory.Take<int32_t>(next_row.back());
  out.lists = d->memory.Take<int32_t>(next_entry.back());
  d->home_slot = d->memory.Take<int32_t>(pairs);
  std::fill(last_row.begin(), last_row.end(), -1);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const int to = destination[pair];
    const int64_t row = pair / of_row;
    if (std::exchange(last_row[to], row) != row) {
      out.rows[next_row[to]++] = static_cast<int32_t>(row);
      length_at[to] = next_entry[to]++;
    }
    ++out.lists[length_at[to]];
    out.lists[next_entry[to]++] = placement.LocalIndex(to, routing.experts[pair / slices]);
    d->home_slot[pair] = static_cast<int32_t>(next_pair[to]++);  // results return in the order of the lists
  }
  return out;
}

// A counting sort, so pairs of one expert keep the order in which they came.
absl::Status GroupByExpert(const ParallelContext& context, int64_t local_experts, std::span<const int32_t> lists,
                           std::span<const uint64_t> digests, Dispatched* d) {
  // In the order they came.
  const std::span<int32_t> expert_of = d->memory.Take<int32_t>(d->num_pairs);
  const std::span<int32_t> row_of = d->memory.Take<int32_t>(d->num_pairs);
  d->pair_begin = d->memory.Take<int32_t>(local_experts + 1);
  int64_t at = 0, pair = 0, row = 0;
  for (int peer = 0; peer < context.topology.world; ++peer) {
    const uint64_t digest = Digest(lists.subspan(at, d->rows_from[peer] + d->pairs_from[peer]));
    if (digest != digests[peer]) return Mismatch(context, d->layer, peer, "the lists' digest", digest, digests[peer]);
    const int64_t rows_end = row + d->rows_from[peer];
    const int64_t pairs_end = pair + d->pairs_from[peer];
    for (; row < rows_end; ++row) {
      const int64_t experts = lists[at++];
      if (experts < 1 || pair + experts > pairs_end) {
        return Mismatch(context, d->layer, peer, "the number of a row's experts", experts, pairs_end - pair);
      }
      for (int64_t i = 0; i < experts; ++i, ++pair) {
        const int32_t expert = lists[at++];
        if (expert < 0 || expert >= local_experts) {
          return Mismatch(context, d->layer, peer, "a local expert's index", int64_t{expert}, local_experts - 1);
        }
        expert_of[pair] = expert;
        row_of[pair] = static_cast<int32_t>(row);
        ++d->pair_begin[expert + 1];
      }
    }
    if (pair != pairs_end) return Mismatch(context, d->layer, peer, "pairs received", pair, pairs_end);
  }
  std::partial_sum(d->pair_begin.begin(), d->pair_begin.end(), d->pair_begin.begin());
  const std::span<int32_t> next = d->memory.Take<int32_t>(local_experts);
  std::copy_n(d->pair_begin.begin(), local_experts, next.begin());
  d->pair_row = d->memory.Take<int32_t>(d->num_pairs);
  d->return_order = d->memory.Take<int32_t>(d->num_pairs);
  for (int64_t i = 0; i < d->num_pairs; ++i) {
    const int32_t place = next[expert_of[i]]++;
    d->pair_row[place] = row_of[i];
    d->return_order[i] = place;
  }
  return absl::OkStatus();
}

}  // namespace atl::parallel
