// Ranks as processes under any MPI launcher (Open MPI). Every operation is a set of non-blocking byte messages between
// pairs, started at once and polled by Test; no MPI collective is used. So a deadline's error can name the peers that
// are missing, a revoked operation is simply left alone, and a small exchange costs no schedule of the library's.
//
// Every member sends every peer a message, an empty one too: an operation is complete only when all peers have arrived,
// and a peer that counts differently shows at once. Messages of a pair are matched in order within a tag, so the pieces
// of a slice above the limit of one message (MPI counts are int) need no numbers of their own.
//
// After a failure no MPI call is made any more and nothing is freed: requests may still point into a dead peer's
// traffic. The process leaves by _exit. For the same reason communicators stay until MPI_Finalize.
#include <mpi.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "parallel/backends.h"
#include "parallel/operation.h"

namespace atl::parallel {
namespace {

absl::Status MpiError(const std::string& what, int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  return Internal("{}: MPI error {}: {}", what, code, std::string(text, length));
}

class MpiOp : public ReusedOp<MpiOp> {
 public:
  void Begin(MPI_Comm comm, std::shared_ptr<const Verdict> verdict, const OpInfo& info, int64_t max_message_bytes) {
    comm_ = comm;
    verdict_ = std::move(verdict);
    info_ = info;
    max_message_bytes_ = max_message_bytes;
  }

  void End() {
    messages_.clear();
    requests_.clear();
    complete_ = 0;
  }

  absl::Status Send(int peer, const std::byte* data, int64_t bytes) {
    return InPieces(bytes, [&](int64_t offset, int piece) {
      messages_.push_back({peer, /*incoming=*/false, piece});
      return MPI_Isend(data + offset, piece, MPI_BYTE, peer, Tag(), comm_, &requests_.emplace_back(MPI_REQUEST_NULL));
    });
  }

  absl::Status Receive(int peer, std::byte* data, int64_t bytes) {
    return InPieces(bytes, [&](int64_t offset, int piece) {
      messages_.push_back({peer, /*incoming=*/true, piece});
      return MPI_Irecv(data + offset, piece, MPI_BYTE, peer, Tag(), comm_, &requests_.emplace_back(MPI_REQUEST_NULL));
    });
  }

  absl::StatusOr<bool> Test() override {
    ATOLL_RETURN_IF_ERROR(verdict_->Check(info_));
    if (requests_.empty()) return true;
    indices_.resize(requests_.size());
    statuses_.resize(requests_.size());
    int done = 0;
    const int error =
        MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &done, indices_.data(), statuses_.data());
    if (error != MPI_SUCCESS && error != MPI_ERR_IN_STATUS) return MpiError(info_.Text(), error);
    if (done == MPI_UNDEFINED) return true;  // none is left
    for (int i = 0; i < done; ++i) {
      ATOLL_RETURN_IF_ERROR(Complete(messages_[indices_[i]], statuses_[i], error));
    }
    complete_ += static_cast<size_t>(done);
    return complete_ == requests_.size();
  }

  std::string Describe() const override {
    std::string missing;
    int last_peer[2] = {-1, -1};  // pieces of one slice are named once
    for (size_t i = 0; i < requests_.size(); ++i) {
      const Message& message = messages_[i];
      if (requests_[i] == MPI_REQUEST_NULL || last_peer[message.incoming] == message.peer) continue;
      last_peer[message.incoming] = message.peer;
      missing += fmt::format("{}rank {} has not {}", missing.empty() ? "" : ", ", message.peer,
                             message.incoming ? "arrived" : "taken its part");
    }
    return fmt::format("{} is not complete ({} of {} messages): {}", info_.Text(), complete_, requests_.size(),
                       missing.empty() ? "all arrived" : missing);
  }

 private:
  struct Message {
    int peer;
    bool incoming;
    int bytes;
  };

  // The standard promises tags to 32767. Two operations under way at once never differ by that many.
  int Tag() const { return static_cast<int>(info_.number % 32768); }

  template <typename Start>
  absl::Status InPieces(int64_t bytes, Start start) {
    int64_t offset = 0;
    do {
      const int64_t piece = std::min(bytes - offset, max_message_bytes_);
      const int error = start(offset, static_cast<int>(piece));
      if (error != MPI_SUCCESS) return MpiError(info_.Text(), error);
      offset += piece;
    } while (offset < bytes);
    return absl::OkStatus();
  }

  absl::Status Complete(const Message& message, const MPI_Status& status, int error) const {
    if (error == MPI_ERR_IN_STATUS && status.MPI_ERROR != MPI_SUCCESS) {
      return MpiError(fmt::format("{}: {} rank {}, {} bytes", info_.Text(), message.incoming ? "from" : "to",
                                  message.peer, message.bytes),
                      status.MPI_ERROR);
    }
    if (!message.incoming) return absl::OkStatus();
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    return bytes == message.bytes ? absl::OkStatus() : SizeMismatch(info_, message.peer, bytes, message.bytes);
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  std::shared_ptr<const Verdict> verdict_;
  OpInfo info_;
  int64_t max_message_bytes_ = 0;
  std::vector<Message> messages_;      // of each request
  std::vector<MPI_Request> requests_;  // MPI_REQUEST_NULL once complete
  std::vector<int> indices_;           // what one MPI_Testsome found complete
  std::vector<MPI_Status> statuses_;
  size_t complete_ = 0;
};

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(MPI_Comm comm, std::shared_ptr<Verdict> verdict, uint64_t epoch, int64_t max_message_bytes)
      : comm_(comm), verdict_(std::move(verdict)), epoch_(epoch), max_message_bytes_(max_message_bytes) {
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  uint64_t epoch() const override { return epoch_; }
  uint64_t operations() const override { return operations_; }

  absl::StatusOr<Pending> StartAllToAllV(ConstBuffer send, std::span<const int64_t> send_counts, Buffer recv,
                                         std::span<const int64_t> recv_counts, OpTag tag) override {
    const OpInfo info = NextOp(OpKind::kAllToAllV, tag);
    ATOLL_RETURN_IF_ERROR(CheckCounts(info, "send", send_counts, send.count));
    ATOLL_RETURN_IF_ERROR(CheckCounts(info, "recv", recv_counts, recv.count));
    const auto* from = static_cast<const std::byte*>(send.data);
    return Exchange(
        info,
        [&](int peer) {
          const int64_t bytes = send_counts[peer] * SizeOf(send.type);
          const std::span slice(from, static_cast<size_t>(bytes));
          from += bytes;
          return slice;
        },
        recv, recv_counts);
  }

  absl::StatusOr<Pending> StartAllGatherV(ConstBuffer send, Buffer recv, std::span<const int64_t> recv_counts,
                                          OpTag tag) override {
    const OpInfo info = NextOp(OpKind::kAllGatherV, tag);
    ATOLL_RETURN_IF_ERROR(CheckCounts(info, "recv", recv_counts, recv.count));
    ATOLL_RETURN_IF_ERROR(CheckGatherSend(info, send.count, recv_counts[rank_]));
    const std::span mine(static_cast<const std::byte*>(send.data),
                         static_cast<size_t>(recv_counts[rank_] * SizeOf(send.type)));
    return Exchange(
        info, [&](int) { return mine; }, recv, recv_counts);
  }

  absl::StatusOr<Pending> StartBroadcast(Buffer buffer, int root, OpTag tag) override {
    const OpInfo info = NextOp(OpKind::kBroadcast, tag);
    ATOLL_RETURN_IF_ERROR(CheckRoot(info, root));
    ATOLL_RETURN_IF_ERROR(verdict_->Check(info));
    OpHandle<MpiOp> op = Begin(info);
    auto* data = static_cast<std::byte*>(buffer.data);
    if (rank_ != root) {
      ATOLL_RETURN_IF_ERROR(op->Receive(root, data, buffer.bytes()));
    } else {
      for (int peer = 0; peer < size_; ++peer) {
        if (peer != rank_) ATOLL_RETURN_IF_ERROR(op->Send(peer, data, buffer.bytes()));
      }
    }
    return Pending(std::move(op));
  }

  absl::StatusOr<Pending> StartBarrier(OpTag tag) override {
    const std::vector<int64_t> nothing(size_, 0);
    return Exchange(
        NextOp(OpKind::kBarrier, tag), [](int) { return std::span<const std::byte>(); }, Buffer{}, nothing);
  }

  void Revoke(const std::string& reason) override { verdict_->Revoke(reason); }

  // Collective creation has no non-blocking form in MPI 3: this blocks until all members have come, whatever `deadline`
  // says. It happens while a rank joins, where whoever started the ranks watches over them.
  absl::StatusOr<std::unique_ptr<Communicator>> Subgroup(const std::vector<int>& members, Deadline) override {
    ATOLL_RETURN_IF_ERROR(CheckMembers(members, rank_, size_));
    MPI_Group all = MPI_GROUP_NULL, some = MPI_GROUP_NULL;
    MPI_Comm comm = MPI_COMM_NULL;
    int error = MPI_Comm_group(comm_, &all);
    if (error == MPI_SUCCESS) error = MPI_Group_incl(all, static_cast<int>(members.size()), members.data(), &some);
    if (error == MPI_SUCCESS) error = MPI_Comm_create_group(comm_, some, /*tag=*/0, &comm);
    if (error != MPI_SUCCESS) return MpiError(fmt::format("a subgroup of {} ranks", members.size()), error);
    MPI_Group_free(&some);
    MPI_Group_free(&all);
    return std::make_unique<MpiCommunicator>(comm, verdict_, epoch_, max_message_bytes_);
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Rebuild(const std::vector<int>&, uint64_t, Deadline) override {
    return Unimplemented("the mpi backend cannot go on with the survivors; end the job's ranks and start them again");
  }

 private:
  OpInfo NextOp(OpKind kind, OpTag tag) { return {kind, operations_++, tag, rank_, size_, epoch_}; }

  OpHandle<MpiOp> Begin(const OpInfo& info) {
    OpHandle<MpiOp> op = MpiOp::Reuse(spare_);
    op->Begin(comm_, verdict_, info, max_message_bytes_);
    return op;
  }

  // slice_for(peer) is called once a peer, in rank order. Receives are posted first, so that no message is unexpected.
  template <typename SliceFor>
  absl::StatusOr<Pending> Exchange(const OpInfo& info, SliceFor slice_for, Buffer recv,
                                   std::span<const int64_t> recv_counts) {
    ATOLL_RETURN_IF_ERROR(verdict_->Check(info));
    OpHandle<MpiOp> op = Begin(info);
    auto* to = static_cast<std::byte*>(recv.data);
    std::byte* own = nullptr;
    for (int peer = 0; peer < size_; ++peer) {
      const int64_t bytes = recv_counts[peer] * SizeOf(recv.type);
      if (peer == rank_) {
        own = to;
      } else {
        ATOLL_RETURN_IF_ERROR(op->Receive(peer, to, bytes));
      }
      to += bytes;
    }
    for (int peer = 0; peer < size_; ++peer) {
      const std::span<const std::byte> slice = slice_for(peer);
      const auto bytes = static_cast<int64_t>(slice.size());
      if (peer != rank_) {
        ATOLL_RETURN_IF_ERROR(op->Send(peer, slice.data(), bytes));
      } else if (bytes != recv_counts[peer] * SizeOf(recv.type)) {
        return SizeMismatch(info, peer, bytes, recv_counts[peer] * SizeOf(recv.type));
      } else if (bytes > 0 && own != slice.data()) {
        std::memcpy(own, slice.data(), slice.size());
      }
    }
    return Pending(std::move(op));
  }

  const MPI_Comm comm_;
  const std::shared_ptr<Verdict> verdict_;
  const std::shared_ptr<MpiOp::Spare> spare_ = std::make_shared<MpiOp::Spare>();
  const uint64_t epoch_;
  const int64_t max_message_bytes_;
  int rank_ = 0, size_ = 1;
  uint64_t operations_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> MpiWorld(int* argc, char*** argv, uint64_t epoch,
                                                       int64_t max_message_bytes) {
  if (max_message_bytes < 1 || max_message_bytes > kMaxMpiMessageBytes) {
    return InvalidArgument("an MPI message of at most {} bytes; give 1 to {}", max_message_bytes, kMaxMpiMessageBytes);
  }
  int provided = 0;
  const int error = MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
  if (error != MPI_SUCCESS) return MpiError("MPI_Init_thread", error);
  if (provided < MPI_THREAD_FUNNELED) {
    return FailedPrecondition("this MPI gives thread level {}, {} is needed", provided, MPI_THREAD_FUNNELED);
  }
  return std::make_unique<MpiCommunicator>(MPI_COMM_WORLD, std::make_shared<Verdict>(), epoch, max_message_bytes);
}

void MpiFinish() { MPI_Finalize(); }

}  // namespace atl::parallel
