// Ranks as threads of one process. An operation is published in a board that all members share; whoever polls next
// copies the slices meant for it straight from the senders' buffers. An operation is complete for a rank when it has
// its own slices and every peer has taken what it was sent (the sender's buffer may be reused after Wait).
// An operation that is destroyed before it is complete ends the epoch, for its buffers may be gone: no peer reads them
// any more, and every peer learns at once who left.
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "parallel/backends.h"
#include "parallel/operation.h"

namespace atl::parallel {
namespace {

// What one member brings to one operation.
struct Contribution {
  bool arrived = false;
  OpKind kind = OpKind::kBarrier;
  const std::byte* send = nullptr;
  std::vector<int64_t> send_bytes;  // [size], what each peer will find; offsets are their prefix sums
  bool taken = false;               // this member has copied all that was sent to it
};

struct Exchange {
  explicit Exchange(int size) : members(size) {
    for (Contribution& member : members) member.send_bytes.resize(size);
  }
  std::vector<Contribution> members;  // [size]
  int finished = 0;                   // members that have returned from it: the last one removes it
};

// Shared by the members of one group.
struct Board {
  Board(int size, std::shared_ptr<Verdict> verdict) : size(size), verdict(std::move(verdict)) {
    // While a slow member has not left the operations it waited for together, two of a dispatch, the others are in the
    // next one. Who waits for more than that at once makes room for it when it first happens.
    constexpr uint64_t kAtOnce = 4;
    for (uint64_t number = 0; number < kAtOnce; ++number) Open(number);
    for (uint64_t number = 0; number < kAtOnce; ++number) Close(number);
  }

  // Both with the mutex held. The first member to come opens an operation's exchange, the last to go closes it.
  Exchange& Open(uint64_t number) {
    if (!over.empty() && !exchanges.contains(number)) {
      over.back().key() = number;
      exchanges.insert(std::move(over.back()));
      over.pop_back();
    }
    return exchanges.try_emplace(number, size).first->second;
  }
  void Close(uint64_t number) {
    auto node = exchanges.extract(number);
    node.mapped().finished = 0;
    for (Contribution& member : node.mapped().members) member.arrived = member.taken = false;
    over.push_back(std::move(node));
  }

  const int size;
  const std::shared_ptr<Verdict> verdict;
  std::mutex mutex;
  std::map<uint64_t, Exchange> exchanges;                     // by operation number
  std::vector<std::map<uint64_t, Exchange>::node_type> over;  // kept, with the memory of their lists, for those to come
  // Groups under construction: one board for each (creation number, members), taken by each member once.
  std::map<std::pair<uint64_t, std::vector<int>>, std::pair<std::shared_ptr<Board>, int>> children;
};

class InprocOp : public ReusedOp<InprocOp> {
 public:
  // recv_bytes(peer): what is expected from it.
  template <typename RecvBytes>
  void Begin(std::shared_ptr<Board> board, const OpInfo& info, void* recv, const RecvBytes& recv_bytes, int root) {
    board_ = std::move(board);
    info_ = info;
    recv_ = static_cast<std::byte*>(recv);
    recv_bytes_.resize(info.size);
    for (int peer = 0; peer < info.size; ++peer) recv_bytes_[peer] = recv_bytes(peer);
    root_ = root;
    complete_ = false;
  }

  void End() {
    if (complete_) return;
    std::lock_guard lock(board_->mutex);  // whoever is copying from this rank's buffer finishes first
    board_->verdict->Revoke(fmt::format("rank {} left {} #{} early", info_.rank, Name(info_.kind), info_.number));
  }

  absl::StatusOr<bool> Test() override {
    std::lock_guard lock(board_->mutex);
    ATOLL_RETURN_IF_ERROR(board_->verdict->Check(info_));
    Exchange& exchange = board_->exchanges.at(info_.number);
    Contribution& mine = exchange.members[info_.rank];
    if (!mine.taken) {
      if (!AllArrived(exchange)) return false;
      ATOLL_RETURN_IF_ERROR(Take(exchange));
      mine.taken = true;
    }
    for (const Contribution& member : exchange.members) {
      if (!member.taken) return false;
    }
    if (++exchange.finished == info_.size) board_->Close(info_.number);
    complete_ = true;
    return true;
  }

  std::string Describe() const override {
    std::lock_guard lock(board_->mutex);
    std::string missing;
    const auto found = board_->exchanges.find(info_.number);
    for (int rank = 0; found != board_->exchanges.end() && rank < info_.size; ++rank) {
      const Contribution& member = found->second.members[rank];
      if (!member.arrived) missing += fmt::format("{}rank {} has not arrived", missing.empty() ? "" : ", ", rank);
      if (member.arrived && !member.taken && rank != info_.rank) {
        missing += fmt::format("{}rank {} has not taken its part", missing.empty() ? "" : ", ", rank);
      }
    }
    return fmt::format("{} is not complete: {}", info_.Text(), missing.empty() ? "all arrived" : missing);
  }

 private:
  static bool AllArrived(const Exchange& exchange) {
    return std::all_of(exchange.members.begin(), exchange.members.end(), [](const auto& m) { return m.arrived; });
  }

  // Copies what every peer sends to this rank into recv_, rank-major.
  absl::Status Take(const Exchange& exchange) const {
    std::byte* to = recv_;
    for (int peer = 0; peer < info_.size; ++peer) {
      const Contribution& from = exchange.members[peer];
      if (from.kind != info_.kind) {
        return Internal("{}: rank {} is in {}", info_.Text(), peer, Name(from.kind));
      }
      if (info_.kind == OpKind::kBarrier || (info_.kind == OpKind::kBroadcast && peer != root_)) continue;
      const int64_t bytes = from.send_bytes[info_.rank];
      if (bytes != recv_bytes_[peer]) {
        return SizeMismatch(info_, peer, bytes, recv_bytes_[peer]);
      }
      int64_t offset = 0;
      // A gather or broadcast sends everyone the same slice; an all-to-all one slice after the other.
      if (info_.kind == OpKind::kAllToAllV) {
        for (int before = 0; before < info_.rank; ++before) offset += from.send_bytes[before];
      }
      if (bytes > 0 && to != from.send + offset) std::memcpy(to, from.send + offset, bytes);
      to += bytes;
    }
    return absl::OkStatus();
  }

  std::shared_ptr<Board> board_;
  OpInfo info_;
  std::byte* recv_ = nullptr;
  std::vector<int64_t> recv_bytes_;  // [size]
  int root_ = 0;
  bool complete_ = true;
};

// What goes to or comes from a peer, as Publish asks for it.
auto Bytes(std::span<const int64_t> counts, DType type) {
  return [=](int peer) { return counts[peer] * SizeOf(type); };
}

class InprocCommunicator : public Communicator {
 public:
  InprocCommunicator(std::shared_ptr<Board> board, int rank, uint64_t epoch)
      : board_(std::move(board)), rank_(rank), epoch_(epoch) {}

  int rank() const override { return rank_; }
  int size() const override { return board_->size; }
  uint64_t epoch() const override { return epoch_; }
  uint64_t operations() const override { return operations_; }

  absl::StatusOr<Pending> StartAllToAllV(ConstBuffer send, std::span<const int64_t> send_counts, Buffer recv,
                                         std::span<const int64_t> recv_counts, OpTag tag) override {
    const OpInfo info = NextOp(OpKind::kAllToAllV, tag);
    ATOLL_RETURN_IF_ERROR(CheckCounts(info, "send", send_counts, send.count));
    ATOLL_RETURN_IF_ERROR(CheckCounts(info, "recv", recv_counts, recv.count));
    return Publish(info, send.data, Bytes(send_counts, send.type), recv.data, Bytes(recv_counts, recv.type));
  }

  absl::StatusOr<Pending> StartAllGatherV(ConstBuffer send, Buffer recv, std::span<const int64_t> recv_counts,
                                          OpTag tag) override {
    const OpInfo info = NextOp(OpKind::kAllGatherV, tag);
    ATOLL_RETURN_IF_ERROR(CheckCounts(info, "recv", recv_counts, recv.count));
    ATOLL_RETURN_IF_ERROR(CheckGatherSend(info, send.count, recv_counts[rank_]));
    const int64_t mine = recv_counts[rank_] * SizeOf(send.type);
    return Publish(
        info, send.data, [=](int) { return mine; }, recv.data, Bytes(recv_counts, recv.type));
  }

  absl::StatusOr<Pending> StartBroadcast(Buffer buffer, int root, OpTag tag) override {
    const OpInfo info = NextOp(OpKind::kBroadcast, tag);
    ATOLL_RETURN_IF_ERROR(CheckRoot(info, root));
    const auto bytes = [&](int) { return buffer.bytes(); };
    return Publish(info, buffer.data, bytes, buffer.data, bytes, root);
  }

  absl::StatusOr<Pending> StartBarrier(OpTag tag) override {
    const auto nothing = [](int) { return int64_t{0}; };
    return Publish(NextOp(OpKind::kBarrier, tag), nullptr, nothing, nullptr, nothing);
  }

  void Revoke(const std::string& reason) override { board_->verdict->Revoke(reason); }

  absl::StatusOr<std::unique_ptr<Communicator>> Subgroup(const std::vector<int>& members, Deadline) override {
    return Child(members, epoch_, subgroups_++, board_->verdict);
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Rebuild(const std::vector<int>& members, uint64_t epoch,
                                                        Deadline) override {
    if (epoch <= epoch_) return InvalidArgument("epoch {} does not follow {}", epoch, epoch_);
    if (!board_->verdict->revoked()) return FailedPrecondition("revoke epoch {} before it is rebuilt", epoch_);
    // Numbered by the epoch: members may have made different numbers of subgroups when they lost their peer.
    return Child(members, epoch, ~epoch, nullptr);
  }

 private:
  OpInfo NextOp(OpKind kind, OpTag tag) { return {kind, operations_++, tag, rank_, size(), epoch_}; }

  // send_bytes(peer), recv_bytes(peer): what goes to each member and comes from it.
  template <typename SendBytes, typename RecvBytes>
  absl::StatusOr<Pending> Publish(const OpInfo& info, const void* send, const SendBytes& send_bytes, void* recv,
                                  const RecvBytes& recv_bytes, int root = 0) {
    {
      std::lock_guard lock(board_->mutex);
      ATOLL_RETURN_IF_ERROR(board_->verdict->Check(info));
      Contribution& mine = board_->Open(info.number).members[rank_];
      mine.arrived = true;
      mine.kind = info.kind;
      mine.send = static_cast<const std::byte*>(send);
      for (int peer = 0; peer < info.size; ++peer) mine.send_bytes[peer] = send_bytes(peer);
    }
    OpHandle<InprocOp> op = InprocOp::Reuse(spare_);
    op->Begin(board_, info, recv, recv_bytes, root);
    return Pending(std::move(op));
  }

  // The first member to come makes the board; without a verdict to share it opens an epoch of its own.
  absl::StatusOr<std::unique_ptr<Communicator>> Child(const std::vector<int>& members, uint64_t epoch, uint64_t number,
                                                      const std::shared_ptr<Verdict>& verdict) {
    ATOLL_RETURN_IF_ERROR(CheckMembers(members, rank_, size()));
    const int count = static_cast<int>(members.size());
    std::lock_guard lock(board_->mutex);
    auto& [board, taken] = board_->children[{number, members}];
    if (!board) board = std::make_shared<Board>(count, verdict ? verdict : std::make_shared<Verdict>());
    const auto place = std::lower_bound(members.begin(), members.end(), rank_) - members.begin();
    auto child = std::make_unique<InprocCommunicator>(board, static_cast<int>(place), epoch);
    if (++taken == count) board_->children.erase({number, members});
    return child;
  }

  const std::shared_ptr<Board> board_;
  const std::shared_ptr<InprocOp::Spare> spare_ = std::make_shared<InprocOp::Spare>();
  const int rank_;
  const uint64_t epoch_;
  uint64_t operations_ = 0;
  uint64_t subgroups_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> InprocWorld(int size, uint64_t epoch) {
  auto board = std::make_shared<Board>(size, std::make_shared<Verdict>());
  std::vector<std::unique_ptr<Communicator>> world;
  world.reserve(size);
  for (int rank = 0; rank < size; ++rank) world.push_back(std::make_unique<InprocCommunicator>(board, rank, epoch));
  return world;
}

}  // namespace atl::parallel
