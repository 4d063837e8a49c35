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
  // rank cheap: at 2 ms a poll of some microseconds is well below 1 % of a core. A sleep is a small share of what has
  // been waited already: MPI moves a large message only while both sides poll, several times, and a rank that had slept
  // 2 ms at a time since its slower neighbour was late held up each of these.
  constexpr int kSpins = 200, kYields = 2000, kShare = 64;
  constexpr std::chrono::nanoseconds kShortest = std::chrono::microseconds(20), kLongest = std::chrono::milliseconds(2);
  SteadyTime began;
  for (int64_t polls = 0;; ++polls) {
    ATOLL_ASSIGN_OR_RETURN(const bool done, Test());
    if (done) return absl::OkStatus();
    if (polls < kSpins) continue;
    const SteadyTime now = std::chrono::steady_clock::now();
    if (polls == kSpins) began = now;
    if (now >= deadline.at) {
      return DeadlineExceeded("{}, after {:.3g} s", op_->Describe(), deadline.budget.count());
    }
    if (polls < kSpins + kYields) {
      std::this_thread::yield();
    } else {
      const std::chrono::nanoseconds waited = now - began;
      std::this_thread::sleep_for(std::clamp(waited / kShare, kShortest, kLongest));
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
