#include "parallel/communicator.h"

#include <algorithm>
#include <thread>

namespace atl::parallel {

absl::StatusOr<bool> Pending::Test() {
  if (!op_) return true;
  ATOLL_ASSIGN_OR_RETURN(const bool done, op_->Test());
  if (done) op_.reset();
  return done;
}

absl::Status Pending::Wait(Deadline deadline) {
  // Most waits of a busy step end within the spins. Yielding lets ranks that share a core go on; sleeping makes an idle
  // rank cheap: at 2 ms a poll of some microseconds is well below 1 % of a core.
  constexpr int kSpins = 200, kYields = 2000;
  auto sleep = std::chrono::microseconds(20);
  for (int64_t polls = 0;; ++polls) {
    ATOLL_ASSIGN_OR_RETURN(const bool done, Test());
    if (done) return absl::OkStatus();
    if (polls < kSpins) continue;
    if (deadline.Expired()) {
      return DeadlineExceeded("{}, after {:.3g} s", op_->Describe(), deadline.budget.count());
    }
    if (polls < kSpins + kYields) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(sleep);
      sleep = std::min(sleep * 2, std::chrono::microseconds(2000));
    }
  }
}

namespace {

absl::StatusOr<std::vector<int64_t>> EvenCounts(int64_t count, int size, const char* operation) {
  if (count % size != 0) {
    return InvalidArgument("{} of {} elements over {} ranks: not even; use the V form", operation, count, size);
  }
  return std::vector<int64_t>(size, count / size);
}

}  // namespace

absl::StatusOr<Pending> Communicator::StartAllToAll(ConstBuffer send, Buffer recv, OpTag tag) {
  ATOLL_ASSIGN_OR_RETURN(const std::vector<int64_t> counts, EvenCounts(send.count, size(), "AllToAll"));
  return StartAllToAllV(send, counts, recv, counts, tag);
}

absl::StatusOr<Pending> Communicator::StartAllGather(ConstBuffer send, Buffer recv, OpTag tag) {
  ATOLL_ASSIGN_OR_RETURN(const std::vector<int64_t> counts, EvenCounts(recv.count, size(), "AllGather"));
  return StartAllGatherV(send, recv, counts, tag);
}

}  // namespace atl::parallel
