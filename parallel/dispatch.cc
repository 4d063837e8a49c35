#include "parallel/dispatch.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "parallel/base/partition.h"
#include "parallel/communicator.h"
#include "parallel/dispatch_lists.h"
#include "parallel/weighted_results.h"

namespace atl::parallel {
namespace {

// What each rank tells each other one before rows travel.
struct Announcement {
  int64_t epoch, layer, sequence, rows, pairs;
  uint64_t digest;  // of the lists that follow
};
constexpr int64_t kAnnouncementWords = sizeof(Announcement) / sizeof(int64_t);

// Stands before the results that one rank returns to another.
struct ReturnHeader {
  int64_t sequence, pairs;
};
constexpr int64_t kReturnHeaderBytes = sizeof(ReturnHeader);

absl::Status CheckFits(const ParallelContext& context, int layer, const char* what, int64_t bytes, size_t scratch) {
  if (bytes <= static_cast<int64_t>(scratch)) return absl::OkStatus();
  return Internal("layer {}, rank {}: {} of {} bytes do not fit the scratch of {}", layer, context.rank, what, bytes,
                  scratch);
}

// Fills d->rows_from and pairs_from; returns each peer's digest of its lists.
absl::StatusOr<std::span<const uint64_t>> ExchangeCounts(const ParallelContext& context, const Outgoing& outgoing,
                                                         int64_t most_rows, int64_t local_experts, Dispatched* d) {
  const int world = context.topology.world;
  const std::span<Announcement> send = d->memory.Take<Announcement>(world), recv = d->memory.Take<Announcement>(world);
  std::span<const int32_t> lists = outgoing.lists;
  for (int peer = 0; peer < world; ++peer) {
    send[peer] = {static_cast<int64_t>(context.world->epoch()),
                  d->layer,
                  static_cast<int64_t>(d->sequence),
                  d->rows_to[peer],
                  d->pairs_to[peer],
                  Digest(lists.first(outgoing.list_sizes[peer]))};
    lists = lists.subspan(outgoing.list_sizes[peer]);
  }
  const ConstBuffer out(send.data(), world * kAnnouncementWords, DType::kI64);
  const Buffer in{recv.data(), world * kAnnouncementWords, DType::kI64};
  const std::span<int64_t> words = d->memory.Take<int64_t>(world);
  std::fill(words.begin(), words.end(), kAnnouncementWords);
  ATOLL_ASSIGN_OR_RETURN(Pending counts,
                         context.world->StartAllToAllV(out, words, in, words, {"dispatch counts", d->layer}));
  ATOLL_RETURN_IF_ERROR(counts.Wait(context.NextDeadline()));
  const std::span<uint64_t> digests = d->memory.Take<uint64_t>(world);
  for (int peer = 0; peer < world; ++peer) {
    const Announcement& said = recv[peer];
    const Announcement& mine = send[peer];
    const auto mismatch = [&](const char* what, int64_t got, int64_t expected) {
      return Mismatch(context, d->layer, peer, what, got, expected);
    };
    if (said.epoch != mine.epoch) return mismatch("the epoch", said.epoch, mine.epoch);
    if (said.layer != mine.layer) return mismatch("the layer", said.layer, mine.layer);
    if (said.sequence != mine.sequence) return mismatch("the exchange", said.sequence, mine.sequence);
    if (said.rows < 0 || said.rows > most_rows) return mismatch("the number of rows", said.rows, most_rows);
    if (said.pairs < said.rows || said.pairs > said.rows * local_experts) {
      return mismatch("the number of pairs", said.pairs, said.rows);
    }
    d->rows_from[peer] = said.rows;
    d->pairs_from[peer] = said.pairs;
    digests[peer] = said.digest;
  }
  return digests;
}

}  // namespace

absl::StatusOr<Dispatched> Dispatch(const ParallelContext& context, const ExpertPlacement& placement, int layer,
                                    ConstBuffer x, int64_t width, const Routing& routing, ExchangeScratch scratch,
                                    ThreadPool* pool) {
  const int world = context.topology.world;
  const int64_t row_bytes = width * SizeOf(x.type);
  const auto local_experts = static_cast<int64_t>(placement.ExpertsOf(context.rank).size());
  ListedExchange listed{.world = world,
                        .local_experts = local_experts,
                        .rows_out = routing.rows * std::min(routing.top_k * placement.slices(), world),
                        .pairs_out = routing.rows * routing.top_k * placement.slices()};
  ATOLL_RETURN_IF_ERROR(CheckFits(context, layer, "lists", ExchangeListBytes(listed), scratch.lists.size()));
  Dispatched d;
  d.layer = layer;
  d.slices = placement.slices();
  d.sequence = context.world->operations();
  d.memory = ListMemory(scratch.lists);
  for (auto* list : {&d.rows_to, &d.rows_from, &d.pairs_to, &d.pairs_from}) *list = d.memory.Take<int64_t>(world);
  const Outgoing outgoing = ListByDestination(context, placement, routing, &d);
  ATOLL_RETURN_IF_ERROR(CheckFits(context, layer, "rows to send",
                                  static_cast<int64_t>(outgoing.rows.size()) * row_bytes, scratch.send.size()));
  const int64_t most_rows = static_cast<int64_t>(scratch.recv.size()) / row_bytes;
  ATOLL_ASSIGN_OR_RETURN(const std::span<const uint64_t> digests,
                         ExchangeCounts(context, outgoing, most_rows, local_experts, &d));
  listed.rows_in = d.num_rows = Offsets(d.rows_from, &d.memory).back();
  listed.pairs_in = d.num_pairs = Offsets(d.pairs_from, &d.memory).back();
  ATOLL_RETURN_IF_ERROR(CheckFits(context, layer, "rows to receive", d.num_rows * row_bytes, scratch.recv.size()));
  ATOLL_RETURN_IF_ERROR(CheckFits(context, layer, "lists received", ExchangeListBytes(listed), scratch.lists.size()));

  const bool alone = world == 1;  // every row is for this rank, in its own order
  Pending rows;
  d.rows = ConstBuffer(x.data, d.num_rows * width, x.type);
  if (!alone) {
    const auto count = static_cast<int64_t>(outgoing.rows.size());
    ParallelRows(pool, count, row_bytes, [&](int64_t i, int64_t end) {
      for (; i < end; ++i) {
        std::memcpy(scratch.send.data() + i * row_bytes,
                    static_cast<const std::byte*>(x.data) + outgoing.rows[i] * row_bytes, row_bytes);
      }
    });
    const ConstBuffer send(scratch.send.data(), count * width, x.type);
    const Buffer recv{scratch.recv.data(), d.num_rows * width, x.type};
    ATOLL_ASSIGN_OR_RETURN(
        rows, context.world->StartAllToAllV(send, Scaled(d.rows_to, width, {}, &d.memory), recv,
                                            Scaled(d.rows_from, width, {}, &d.memory), {"dispatch", layer}));
    d.rows = recv;
  }
  const std::span<int32_t> lists_in = d.memory.Take<int32_t>(d.num_rows + d.num_pairs);
  ATOLL_ASSIGN_OR_RETURN(
      Pending lists,
      context.world->StartAllToAllV(Buffer::Of(outgoing.lists), outgoing.list_sizes, Buffer::Of(lists_in),
                                    Scaled(d.rows_from, 1, d.pairs_from, &d.memory), {"dispatch lists", layer}));
  const Deadline deadline = context.NextDeadline();
  ATOLL_RETURN_IF_ERROR(lists.Wait(deadline));
  ATOLL_RETURN_IF_ERROR(GroupByExpert(context, local_experts, lists_in, digests, &d));
  ATOLL_RETURN_IF_ERROR(rows.Wait(deadline));
  return d;
}

absl::Status Combine(const ParallelContext& context, const Dispatched& d, ConstBuffer results, int64_t width,
                     const Routing& routing, std::span<float> out, ExchangeScratch scratch, ThreadPool* pool) {
  const int world = context.topology.world;
  const int64_t row_bytes = width * SizeOf(results.type);
  ListMemory memory = d.memory;
  const std::span<int64_t> bytes_to = memory.Take<int64_t>(world), bytes_from = memory.Take<int64_t>(world);
  for (int peer = 0; peer < world; ++peer) {
    const int64_t travels = peer == context.rank ? 0 : row_bytes;  // its own results are read where they are
    bytes_to[peer] = d.pairs_from[peer] * travels + kReturnHeaderBytes;
    bytes_from[peer] = d.pairs_to[peer] * travels + kReturnHeaderBytes;
  }
  const std::span<const int64_t> begin_from = Offsets(bytes_from, &memory);
  ATOLL_RETURN_IF_ERROR(
      CheckFits(context, d.layer, "results to return", Offsets(bytes_to, &memory).back(), scratch.send.size()));
  ATOLL_RETURN_IF_ERROR(CheckFits(context, d.layer, "results to receive", begin_from.back(), scratch.recv.size()));
  const auto* result_rows = static_cast<const std::byte*>(results.data);
  const int32_t* order = d.return_order.data();
  const int32_t* own_order = nullptr;
  std::byte* to = scratch.send.data();
  for (int peer = 0; peer < world; ++peer) {
    const ReturnHeader header{static_cast<int64_t>(d.sequence), d.pairs_from[peer]};
    std::memcpy(to, &header, sizeof(header));
    to += sizeof(header);
    if (peer == context.rank) {
      own_order = order;
    } else {
      const int64_t pairs = d.pairs_from[peer];
      ParallelRows(pool, pairs, row_bytes, [&](int64_t i, int64_t end) {
        for (; i < end; ++i) std::memcpy(to + i * row_bytes, result_rows + order[i] * row_bytes, row_bytes);
      });
      to += pairs * row_bytes;
    }
    order += d.pairs_from[peer];
  }
  const ConstBuffer send(scratch.send.data(), to - scratch.send.data(), DType::kU8);
  const Buffer recv{scratch.recv.data(), begin_from.back(), DType::kU8};
  ATOLL_ASSIGN_OR_RETURN(Pending home,
                         context.world->StartAllToAllV(send, bytes_to, recv, bytes_from, {"combine", d.layer}));
  ATOLL_RETURN_IF_ERROR(home.Wait(context.NextDeadline()));

  for (int peer = 0; peer < world; ++peer) {
    ReturnHeader header;
    std::memcpy(&header, scratch.recv.data() + begin_from[peer], sizeof(header));
    const auto sequence = static_cast<int64_t>(d.sequence);
    if (header.sequence != sequence) {
      return Mismatch(context, d.layer, peer, "the returned exchange", header.sequence, sequence);
    }
    if (header.pairs != d.pairs_to[peer]) {
      return Mismatch(context, d.layer, peer, "pairs returned", header.pairs, d.pairs_to[peer]);
    }
  }
  const std::span<const int64_t> pairs_begin = Offsets(d.pairs_to, &memory);
  const auto result_in = [&](int64_t slot) -> const std::byte* {
    const int64_t peer = std::upper_bound(pairs_begin.begin(), pairs_begin.end(), slot) - pairs_begin.begin() - 1;
    const int64_t place = slot - pairs_begin[peer];
    if (peer == context.rank) return result_rows + own_order[place] * row_bytes;
    return scratch.recv.data() + begin_from[peer] + kReturnHeaderBytes + place * row_bytes;
  };
  ParallelRows(pool, routing.rows, routing.top_k * d.slices * row_bytes, [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      float* sum = out.data() + row * width;
      for (int64_t pair = row * routing.top_k; pair < (row + 1) * routing.top_k; ++pair) {
        const bool first = pair == row * routing.top_k;
        const int32_t* slots = &d.home_slot[pair * d.slices];
        if (d.slices == 1) {
          AddWhole(first, routing.weights[pair], result_in(*slots), d.rows.type, width, sum);
          continue;
        }
        std::array<const std::byte*, kExpertBlocks> parts;
        for (int slice = 0; slice < d.slices; ++slice) parts[slice] = result_in(slots[slice]);
        AddSliced(first, routing.weights[pair], std::span(parts).first(d.slices), d.rows.type, width, sum);
      }
    }
  });
  return absl::OkStatus();
}

}  // namespace atl::parallel
