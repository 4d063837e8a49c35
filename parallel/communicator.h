// Collectives between the ranks of one group. One immutable object per membership epoch; after a failure it is revoked
// and thrown away, never repaired.
//
//   const OpTag tag{"dispatch", layer};
//   ATOLL_ASSIGN_OR_RETURN(Pending sent, comm.StartAllToAllV(send, send_counts, recv, recv_counts, tag));
//   ... other work ...
//   ATOLL_RETURN_IF_ERROR(sent.Wait(Deadline::After(timeout)));
//
// Operations only move bytes: nothing here adds numbers, so no library's reduction order is relied on. Reductions are
// parallel/reduce.h, one fixed tree over these moves.
// Counts are elements of the buffer's type; ranks are of this group (0..size-1). Every member must start the same
// operations in the same order. Buffers stay the caller's and must live until Wait returns.
// Threads: one thread drives a communicator (the engine's); Revoke alone may be called from any thread.
// Errors: DeadlineExceeded (rank, operation, phase, layer, how far it got), Aborted (revoked, with the reason),
// InvalidArgument (counts that do not fit the buffers), Internal (a peer counts differently). After any error the
// object is good for nothing but destruction.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/base/buffer.h"
#include "parallel/base/deadline.h"
#include "parallel/base/status.h"

namespace atl::parallel {

// What an operation is for, carried into its error message.
struct OpTag {
  const char* phase = "";
  int layer = -1;
};

// One operation under way, as a backend implements it.
class PendingOp {
 public:
  virtual ~PendingOp() = default;
  // Moves the operation on; true when it is complete. Never blocks. An error is final.
  virtual absl::StatusOr<bool> Test() = 0;
  // For the deadline's error: "AllToAllV #12 (dispatch, layer 3) on rank 2 of 4, epoch 1 is not complete: rank 0 has
  // not arrived".
  virtual std::string Describe() const = 0;
  // Nobody waits for it any more, complete or not: its backend may start it anew as another operation.
  virtual void Release() = 0;
};

// Who holds an operation that is under way.
struct ReleaseOp {
  void operator()(PendingOp* op) const { op->Release(); }
};
template <typename Op>
using OpHandle = std::unique_ptr<Op, ReleaseOp>;

class Pending {
 public:
  Pending() = default;  // complete from the start
  explicit Pending(OpHandle<PendingOp> op) : op_(std::move(op)) {}

  // Polls until the operation is complete, revoked, or `deadline` has passed. Spins first, then yields, then sleeps
  // for growing times (at most 2 ms), so that an idle rank costs less than 1 % of a core.
  absl::Status Wait(Deadline deadline);
  absl::StatusOr<bool> Test();
  std::string Describe() const { return op_ ? op_->Describe() : "complete"; }

 private:
  OpHandle<PendingOp> op_;  // null once complete
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual uint64_t epoch() const = 0;
  // Operations started so far: the same number on every member between operations.
  virtual uint64_t operations() const = 0;

  // Slice i of `send` (send_counts[i] elements, slices in rank order without gaps) goes to rank i; `recv` is filled
  // rank-major likewise. Both lists have size() entries; the counts must agree pairwise between ranks.
  virtual absl::StatusOr<Pending> StartAllToAllV(ConstBuffer send, std::span<const int64_t> send_counts, Buffer recv,
                                                 std::span<const int64_t> recv_counts, OpTag tag) = 0;
  // Everyone's `send` (recv_counts[rank()] elements), rank-major, to everyone. It may lie at its place in `recv`.
  virtual absl::StatusOr<Pending> StartAllGatherV(ConstBuffer send, Buffer recv, std::span<const int64_t> recv_counts,
                                                  OpTag tag) = 0;
  virtual absl::StatusOr<Pending> StartBroadcast(Buffer buffer, int root, OpTag tag) = 0;
  virtual absl::StatusOr<Pending> StartBarrier(OpTag tag) = 0;

  // The even forms: count / size() elements a rank.
  absl::StatusOr<Pending> StartAllToAll(ConstBuffer send, Buffer recv, OpTag tag);
  absl::StatusOr<Pending> StartAllGather(ConstBuffer send, Buffer recv, OpTag tag);

  // Ends the epoch: every waiter of this communicator, its subgroups and its parent, now and later, returns Aborted
  // with `reason`. Local to the process and idempotent: the coordinator's verdict reaches each rank on its own stream.
  virtual void Revoke(const std::string& reason) = 0;

  // A communicator over `members` (ranks of this one, ascending), for those members only; all of them must call it.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Subgroup(const std::vector<int>& members,
                                                                 Deadline deadline) = 0;
  // The next epoch over the surviving `members`, after Revoke.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Rebuild(const std::vector<int>& members, uint64_t epoch,
                                                                Deadline deadline) = 0;
};

}  // namespace atl::parallel
