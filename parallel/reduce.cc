#include "parallel/reduce.h"

#include <algorithm>

#include "parallel/base/partition.h"

namespace atl::parallel {
namespace {

// An operation that does something with its data when the move is complete.
template <typename Finish>
class ThenOp : public PendingOp {
 public:
  ThenOp(Pending move, Finish finish) : move_(std::move(move)), finish_(std::move(finish)) {}
  absl::StatusOr<bool> Test() override {
    ATOLL_ASSIGN_OR_RETURN(const bool done, move_.Test());
    if (!done) return false;
    return finish_(&move_);
  }
  std::string Describe() const override { return move_.Describe(); }

 private:
  Pending move_;
  Finish finish_;  // StatusOr<bool>(Pending* move): true when all is complete, or sets the next move and returns false
};

template <typename Finish>
Pending Then(Pending move, Finish finish) {
  return Pending(std::make_unique<ThenOp<Finish>>(std::move(move), std::move(finish)));
}

// Elements of each rank's home rows.
std::vector<int64_t> HomeCounts(int64_t rows, int64_t width, int size) {
  std::vector<int64_t> counts(size);
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

absl::StatusOr<Pending> StartReduceScatter(Communicator& group, std::span<const float> partial, int64_t rows,
                                           int64_t width, std::span<float> scratch, std::span<float> mine, OpTag tag,
                                           ThreadPool* pool) {
  const int size = group.size();
  const std::vector<int64_t> send_counts = HomeCounts(rows, width, size);
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
    return Pending();
  }
  const std::vector<int64_t> recv_counts(size, my_count);
  ATOLL_ASSIGN_OR_RETURN(
      Pending move, group.StartAllToAllV(ConstBuffer::Of(partial), send_counts, Buffer::Of(scratch), recv_counts, tag));
  return Then(std::move(move), [=](Pending*) -> absl::StatusOr<bool> {
    float* terms[kCanonicalBlocks];
    for (int rank = 0; rank < size; ++rank) terms[rank] = scratch.data() + rank * my_count;
    SumTree({terms, static_cast<size_t>(size)}, my_count, mine.data());
    return true;
  });
}

absl::StatusOr<Pending> StartAllReduce(Communicator& group, std::span<const float> partial, int64_t rows, int64_t width,
                                       std::span<float> scratch, std::span<float> sums, OpTag tag) {
  const std::vector<int64_t> counts = HomeCounts(rows, width, group.size());
  const int64_t my_count = counts[group.rank()];
  if (static_cast<int64_t>(scratch.size()) < my_count) {
    return InvalidArgument("AllReduce of {} x {}: scratch of {} floats is too small", rows, width, scratch.size());
  }
  const std::span<float> mine = scratch.first(my_count);
  ATOLL_ASSIGN_OR_RETURN(Pending reduce,
                         StartReduceScatter(group, partial, rows, width, scratch.subspan(my_count), mine, tag));
  return Then(std::move(reduce),
              [&group, mine, sums, counts, tag, gathering = false](Pending* move) mutable -> absl::StatusOr<bool> {
                if (gathering) return true;
                gathering = true;
                ATOLL_ASSIGN_OR_RETURN(*move, group.StartAllGatherV(ConstBuffer::Of(std::span<const float>(mine)),
                                                                    Buffer::Of(sums), counts, tag));
                return false;
              });
}

}  // namespace atl::parallel
