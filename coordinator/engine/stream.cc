#include "coordinator/engine/stream.h"

namespace atl::coordinator {

TokenStream::TokenStream(uint64_t id, size_t bound, std::function<void(uint64_t)> on_space,
                         std::function<void(uint64_t)> on_close)
    : id_(id), bound_(bound), on_space_(std::move(on_space)), on_close_(std::move(on_close)) {}

// Callbacks run without the lock: they may come back into the stream.
bool TokenStream::Push(Delta delta) {
  std::function<void()> callback;
  bool room = true;
  {
    std::lock_guard lock(mutex_);
    if (closed_ || ended_) return true;
    ended_ = delta.last();
    queue_.push_back(std::move(delta));
    full_ = !ended_ && (full_ || queue_.size() >= bound_);  // it stays full until half of it is read
    room = !full_;
    callback = callback_;
  }
  readable_.notify_all();
  if (callback) callback();
  return room;
}

void TokenStream::OnReadable(const std::function<void()>& callback) {
  {
    std::lock_guard lock(mutex_);
    callback_ = callback;
    if (queue_.empty()) return;
  }
  if (callback) callback();
}

std::optional<Delta> TokenStream::TryPop() {
  std::optional<Delta> delta;
  bool drained = false;
  {
    std::lock_guard lock(mutex_);
    if (queue_.empty()) return std::nullopt;
    delta = std::move(queue_.front());
    queue_.pop_front();
    drained = full_ && queue_.size() <= bound_ / 2;
    if (drained) full_ = false;
  }
  if (drained && on_space_) on_space_(id_);
  return delta;
}

absl::StatusOr<Delta> TokenStream::Pop(Deadline deadline) {
  {
    std::unique_lock lock(mutex_);
    readable_.wait_until(lock, deadline.at, [&] { return !queue_.empty() || closed_ || ended_; });
    if (queue_.empty()) {
      if (closed_) return Cancelled("stream {} was closed by its reader", id_);
      if (ended_) return FailedPrecondition("stream {} has ended; its last delta was read before", id_);
      return DeadlineExceeded("stream {} brought nothing within {:.3g} s", id_, deadline.budget.count());
    }
  }
  std::optional<Delta> delta = TryPop();
  if (!delta) return Cancelled("stream {} was closed or read by another thread", id_);
  return *std::move(delta);
}

void TokenStream::Close() {
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    queue_.clear();
    callback_ = nullptr;
    if (ended_) return;
  }
  readable_.notify_all();
  if (on_close_) on_close_(id_);
}

}  // namespace atl::coordinator
