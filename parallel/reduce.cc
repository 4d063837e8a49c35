#include "parallel/reduce.h"

#include <algorithm>

#include "parallel/base/partition.h"

namespace atl::parallel {
namespace {

// Elements of each rank's home rows.
GroupCounts HomeCounts(int64_t rows, int64_t width, int size) {
  GroupCounts counts(size);
  for (int rank = 0; rank < size; ++rank) counts[rank] = EvenPart(rows, rank, size).size() * width;
  return counts;
}

}  // namespace

int64_t ReduceScatterScratch(int64_t rows, int64_t width, int rank, int size) {
  return size == 1 ? 0 : EvenPart(rows, rank, size).size() * width * size;
}

void SumTree(std::span<float* const> terms, int64_t count, float* sum) {
  for (size_t step = 1; step < terms.size(); step *= 2) {
    for (size_t i = 0; i + step < terms.size(); i += 2 * step) {
      float* left = terms[i];
      const float* right = terms[i + step];
      for (int64_t j = 0; j < count; ++j) left[j] += right[j];
    }
  }
  std::copy(terms[0], terms[0] + count, sum);
}

absl::Status ReduceScatter(Communicator& group, std::span<const float> partial, int64_t rows, int64_t width,
                           std::span<float> scratch, std::span<float> mine, OpTag tag, Deadline deadline,
                           ThreadPool* pool) {
  const int size = group.size();
  const GroupCounts send_counts = HomeCounts(rows, width, size);
  const int64_t my_count = send_counts[group.rank()];
  if (static_cast<int64_t>(mine.size()) < my_count ||
      static_cast<int64_t>(scratch.size()) < ReduceScatterScratch(rows, width, group.rank(), size)) {
    return InvalidArgument("ReduceScatter of {} x {}: output {} or scratch {} is too small", rows, width, mine.size(),
                           scratch.size());
  }
  if (size == 1) {
    ParallelRows(pool, rows, width * SizeOf(DType::kF32), [&](int64_t begin, int64_t end) {
      std::copy(partial.begin() + begin * width, partial.begin() + end * width, mine.begin() + begin * width);
    });
    return absl::OkStatus();
  }
  const GroupCounts recv_counts(size, my_count);
  ATOLL_ASSIGN_OR_RETURN(
      Pending move, group.StartAllToAllV(ConstBuffer::Of(partial), send_counts, Buffer::Of(scratch), recv_counts, tag));
  ATOLL_RETURN_IF_ERROR(move.Wait(deadline));
  float* terms[kCanonicalBlocks];
  for (int rank = 0; rank < size; ++rank) terms[rank] = scratch.data() + rank * my_count;
  SumTree({terms, static_cast<size_t>(size)}, my_count, mine.data());
  return absl::OkStatus();
}

absl::Status AllReduce(Communicator& group, std::span<const float> partial, int64_t rows, int64_t width,
                       std::span<float> scratch, std::span<float> sums, OpTag tag, Deadline deadline) {
  const GroupCounts counts = HomeCounts(rows, width, group.size());
  const int64_t my_count = counts[group.rank()];
  if (static_cast<int64_t>(scratch.size()) < my_count) {
    return InvalidArgument("AllReduce of {} x {}: scratch of {} floats is too small", rows, width, scratch.size());
  }
  const std::span<float> mine = scratch.first(my_count);
  ATOLL_RETURN_IF_ERROR(ReduceScatter(group, partial, rows, width, scratch.subspan(my_count), mine, tag, deadline));
  ATOLL_ASSIGN_OR_RETURN(Pending gather, group.StartAllGatherV(ConstBuffer::Of(std::span<const float>(mine)),
                                                               Buffer::Of(sums), counts, tag));
  return gather.Wait(deadline);
}

}  // namespace atl::parallel
