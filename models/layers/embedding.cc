#include "models/layers/embedding.h"

#include <algorithm>

#include "parallel/communicator.h"

namespace atl::models {

absl::Status Embed(const Step& step, const Embedding& embedding, std::span<float> out) {
  if (step.rows == 0) return absl::OkStatus();
  const int tp = step.context.topology.tp, me = step.context.tp_rank();
  const int64_t width = embedding.width();
  const auto id_of = [&](int64_t row) -> int64_t {
    const int64_t id = step.batch.ids[row];
    if (embedding.beyond_is_zero && id >= embedding.vocab) return 0;
    ATOLL_CHECK(id >= 0 && id < embedding.vocab, "row {} has id {}, the vocabulary has {}", row, id, embedding.vocab);
    return id;
  };
  const auto owner = [&](int64_t row) { return PartOf(id_of(row), embedding.vocab, tp); };

  // To each home, the rows that I own, in the batch's order; from each owner, my home rows likewise.
  const std::span<float> send = step.workspace.Take<float>("embedding.send", step.rows * width);
  GroupCounts send_counts(tp), recv_counts(tp);
  const int64_t first = EvenPart(embedding.vocab, me, tp).begin;
  float* to = send.data();
  for (int64_t row = 0; row < step.rows; ++row) {
    if (owner(row) != me) continue;
    for (const kernels::Matrix& table : embedding.tables) {
      kernels::WidenRow(table, id_of(row) - first, to);
      to += table.cols;
    }
    send_counts[PartOf(row, step.rows, tp)] += width;
  }
  for (int64_t row = step.home.begin; row < step.home.end; ++row) recv_counts[owner(row)] += width;
  const std::span<float> recv = step.workspace.Take<float>("embedding.recv", step.home.size() * width);
  ATOLL_ASSIGN_OR_RETURN(parallel::Pending move, step.context.tp_group->StartAllToAllV(
                                                     ConstBuffer::Of(std::span<const float>(send)), send_counts,
                                                     Buffer::Of(recv), recv_counts, {"embedding", -1}));
  ATOLL_RETURN_IF_ERROR(move.Wait(step.context.NextDeadline()));

  GroupCounts next(tp);  // of each owner's rows, where the next one stands
  for (int rank = 1; rank < tp; ++rank) next[rank] = next[rank - 1] + recv_counts[rank - 1];
  for (int64_t row = step.home.begin; row < step.home.end; ++row) {
    int64_t& from = next[owner(row)];
    std::copy_n(recv.data() + from, width, out.data() + (row - step.home.begin) * width);
    from += width;
  }
  return absl::OkStatus();
}

}  // namespace atl::models
