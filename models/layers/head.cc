#include "models/layers/head.h"

#include <algorithm>
#include <cstring>

#include "models/layers/tensor_parallel.h"

namespace atl::models {

absl::StatusOr<LogitRows> RunHead(const Step& step, const Head& head, std::span<const float> normed) {
  const int tp = step.context.topology.tp, me = step.context.tp_rank();
  const auto count = static_cast<int64_t>(step.batch.logit_rows.size());
  const int64_t hidden = head.out.weight.cols, my_vocab = head.out.weight.rows;
  const Range mine = EvenPart(count, me, tp);
  if (count == 0) return LogitRows{};

  // Wanted rows ascend, and homes are runs of rows: gathered by rank they are in the order of logit_rows.
  GroupCounts wanted_of(tp);
  const std::span<float> rows = step.workspace.Take<float>("head.rows", count * hidden);
  int64_t at = 0;
  for (const int32_t row : step.batch.logit_rows) {
    ++wanted_of[PartOf(row, step.rows, tp)];
    if (row < step.home.begin || row >= step.home.end) continue;
    std::memcpy(rows.data() + at, normed.data() + (row - step.home.begin) * hidden, hidden * sizeof(float));
    at += hidden;
  }
  const ConstBuffer wire = ToWire(step, rows.first(at), hidden);
  ATOLL_ASSIGN_OR_RETURN(const ConstBuffer all, GatherRows(step, wire, wanted_of, hidden, {"head gather", -1}));
  kernels::Widen(all.data, all.count, all.type, rows.data());
  const std::span<float> slice = step.workspace.Take<float>("head.slice", count * my_vocab);
  head.out.Apply({step, rows, count}, slice);
  if (head.softcap > 0) {
    kernels::Scale(1.0f / head.softcap, count * my_vocab, slice.data());
    kernels::Tanh(slice.data(), count * my_vocab, slice.data());
    kernels::Scale(head.softcap, count * my_vocab, slice.data());
  }

  const std::span<float> logits = step.workspace.Take<float>("logits", mine.size() * head.vocab);
  const std::span<float> recv = tp == 1 ? logits : step.workspace.Take<float>("head.recv", mine.size() * head.vocab);
  GroupCounts send_counts(tp), recv_counts(tp);
  for (int rank = 0; rank < tp; ++rank) {
    send_counts[rank] = EvenPart(count, rank, tp).size() * my_vocab;
    recv_counts[rank] = mine.size() * EvenPart(head.vocab, rank, tp).size();
  }
  ATOLL_ASSIGN_OR_RETURN(parallel::Pending move, step.context.tp_group->StartAllToAllV(
                                                     ConstBuffer::Of(std::span<const float>(slice)), send_counts,
                                                     Buffer::Of(recv), recv_counts, {"head logits", -1}));
  ATOLL_RETURN_IF_ERROR(move.Wait(step.context.NextDeadline()));
  const float* from = recv.data();
  for (int rank = 0; rank < tp && tp > 1; ++rank) {
    const Range part = EvenPart(head.vocab, rank, tp);
    for (int64_t row = 0; row < mine.size(); ++row, from += part.size()) {
      std::copy_n(from, part.size(), logits.data() + row * head.vocab + part.begin);
    }
  }
  return LogitRows{.first = mine.begin, .count = mine.size(), .values = logits};
}

}  // namespace atl::models
