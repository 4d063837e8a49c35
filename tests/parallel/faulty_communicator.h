// A communicator that loses or alters what its rank sends, on purpose: conservation must notice (law 3).
//
//   FaultyCommunicator faulty(std::move(world[1]), [](OpTag tag, Sent* sent) {
//     if (std::string_view(tag.phase) == "dispatch") sent->counts[0] -= width;
//   });
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/communicator.h"

namespace atl::parallel {

// What one rank sends in one operation, free to be changed.
struct Sent {
  std::vector<std::byte> data;
  std::vector<int64_t> counts;  // of elements, by destination
  int64_t element_bytes;

  template <typename T>
  T* Word(int64_t index) {
    return reinterpret_cast<T*>(data.data()) + index;
  }
};

// Passes everything on to `inner`, except that an AllToAllV sends what `fault` makes of it.
class FaultyCommunicator : public Communicator {
 public:
  using Fault = std::function<void(OpTag tag, Sent* sent)>;
  FaultyCommunicator(std::unique_ptr<Communicator> inner, Fault fault)
      : inner_(std::move(inner)), fault_(std::move(fault)) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  uint64_t epoch() const override { return inner_->epoch(); }
  uint64_t operations() const override { return inner_->operations(); }

  absl::StatusOr<Pending> StartAllToAllV(ConstBuffer send, std::span<const int64_t> send_counts, Buffer recv,
                                         std::span<const int64_t> recv_counts, OpTag tag) override {
    const auto* bytes = static_cast<const std::byte*>(send.data);
    Sent& sent = sent_.emplace_back(
        Sent{{bytes, bytes + send.bytes()}, {send_counts.begin(), send_counts.end()}, SizeOf(send.type)});
    fault_(tag, &sent);
    const ConstBuffer altered(sent.data.data(), static_cast<int64_t>(sent.data.size()) / sent.element_bytes, send.type);
    return inner_->StartAllToAllV(altered, sent.counts, recv, recv_counts, tag);
  }
  absl::StatusOr<Pending> StartAllGatherV(ConstBuffer send, Buffer recv, std::span<const int64_t> counts,
                                          OpTag tag) override {
    return inner_->StartAllGatherV(send, recv, counts, tag);
  }
  absl::StatusOr<Pending> StartBroadcast(Buffer buffer, int root, OpTag tag) override {
    return inner_->StartBroadcast(buffer, root, tag);
  }
  absl::StatusOr<Pending> StartBarrier(OpTag tag) override { return inner_->StartBarrier(tag); }
  void Revoke(const std::string& reason) override { inner_->Revoke(reason); }
  absl::StatusOr<std::unique_ptr<Communicator>> Subgroup(const std::vector<int>& members, Deadline deadline) override {
    return inner_->Subgroup(members, deadline);
  }
  absl::StatusOr<std::unique_ptr<Communicator>> Rebuild(const std::vector<int>& members, uint64_t epoch,
                                                        Deadline deadline) override {
    return inner_->Rebuild(members, epoch, deadline);
  }

 private:
  const std::unique_ptr<Communicator> inner_;
  const Fault fault_;
  std::deque<Sent> sent_;  // alive until the operations that send them are over
};

}  // namespace atl::parallel
