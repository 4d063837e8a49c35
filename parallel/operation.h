// What every backend checks and says about an operation, so that errors read the same on all of them; and how it keeps
// operations that are over.
#pragma once

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "parallel/communicator.h"

namespace atl::parallel {

enum class OpKind : uint8_t { kAllToAllV, kAllGatherV, kBroadcast, kBarrier };

constexpr const char* Name(OpKind kind) {
  switch (kind) {
    case OpKind::kAllToAllV:
      return "AllToAllV";
    case OpKind::kAllGatherV:
      return "AllGatherV";
    case OpKind::kBroadcast:
      return "Broadcast";
    case OpKind::kBarrier:
      return "Barrier";
  }
  return "?";
}

struct OpInfo {
  OpKind kind = OpKind::kBarrier;
  uint64_t number = 0;  // of this communicator
  OpTag tag;
  int rank = 0;
  int size = 1;
  uint64_t epoch = 0;

  // "AllToAllV #12 (dispatch, layer 3) on rank 2 of 4, epoch 1"
  std::string Text() const {
    const std::string layer = tag.layer < 0 ? "" : fmt::format(", layer {}", tag.layer);
    return fmt::format("{} #{} ({}{}) on rank {} of {}, epoch {}", Name(kind), number, tag.phase, layer, rank, size,
                       epoch);
  }
};

// An operation that its communicator starts anew once it is over, with the memory of its lists: who exchanges the same
// again and again allocates nothing. Op has End(), called when nobody waits for it any more.
template <typename Op>
class ReusedOp : public PendingOp {
 public:
  // Those of one communicator that are over. They may outlive it, as long as one of them is under way.
  using Spare = std::vector<std::unique_ptr<Op>>;

  static OpHandle<Op> Reuse(const std::shared_ptr<Spare>& spare) {
    if (spare->empty()) spare->push_back(std::make_unique<Op>());
    OpHandle<Op> op(spare->back().release());
    spare->pop_back();
    op->spare_ = spare;
    return op;
  }
  void Release() final {
    auto* const op = static_cast<Op*>(this);
    op->End();
    const std::shared_ptr<Spare> spare = std::move(spare_);
    spare->emplace_back(op);
  }

 private:
  std::shared_ptr<Spare> spare_;  // while it is under way
};

// Whether an epoch has been ended: shared by all its communicators and the operations they started.
class Verdict {
 public:
  void Revoke(const std::string& reason) {
    std::lock_guard lock(mutex_);
    if (revoked_) return;
    reason_ = reason;
    revoked_.store(true, std::memory_order_release);
  }
  bool revoked() const { return revoked_.load(std::memory_order_acquire); }
  absl::Status Check(const OpInfo& info) const {
    if (!revoked()) return absl::OkStatus();
    return Aborted("{}: revoked: {}", info.Text(), reason_);
  }

 private:
  std::mutex mutex_;
  std::atomic<bool> revoked_{false};
  std::string reason_;  // final once revoked_ is set
};

inline int64_t Total(std::span<const int64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

// The counts of one side of an operation against its buffer.
inline absl::Status CheckCounts(const OpInfo& info, const char* side, std::span<const int64_t> counts,
                                int64_t buffer_count) {
  if (static_cast<int>(counts.size()) != info.size) {
    return InvalidArgument("{}: {} {} counts for {} ranks", info.Text(), counts.size(), side, info.size);
  }
  for (const int64_t count : counts) {
    if (count < 0) return InvalidArgument("{}: a {} count is {}", info.Text(), side, count);
  }
  if (Total(counts) > buffer_count) {
    return InvalidArgument("{}: {} counts add up to {}, the buffer holds {}", info.Text(), side, Total(counts),
                           buffer_count);
  }
  return absl::OkStatus();
}

inline absl::Status CheckGatherSend(const OpInfo& info, int64_t count, int64_t announced) {
  if (count >= announced) return absl::OkStatus();
  return InvalidArgument("{}: {} elements to send, {} were announced", info.Text(), count, announced);
}

inline absl::Status CheckRoot(const OpInfo& info, int root) {
  if (root >= 0 && root < info.size) return absl::OkStatus();
  return InvalidArgument("{}: there is no rank {}", info.Text(), root);
}

inline absl::Status CheckMembers(const std::vector<int>& members, int rank, int size) {
  const bool ascending = std::adjacent_find(members.begin(), members.end(), std::greater_equal<int>()) == members.end();
  if (members.empty() || !ascending || members.front() < 0 || members.back() >= size) {
    return InvalidArgument("members [{}] are not ascending ranks of a group of {}", fmt::join(members, ", "), size);
  }
  if (!std::binary_search(members.begin(), members.end(), rank)) {
    return InvalidArgument("rank {} is not among the members [{}] of its subgroup", rank, fmt::join(members, ", "));
  }
  return absl::OkStatus();
}

// What a peer sent is not what this rank was told to expect: the members have lost count of each other.
inline absl::Status SizeMismatch(const OpInfo& info, int peer, int64_t got, int64_t expected) {
  return Internal("{}: rank {} sends {} bytes, {} were expected", info.Text(), peer, got, expected);
}

}  // namespace atl::parallel
