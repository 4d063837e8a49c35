// The bounded queue between the engine and one client.
//
//   engine:       if (!stream->Push(delta)) ...;              // full: pause this slow client's sequence, no other
//   client:       stream->OnReadable([&] { Wake(); });        // called by Push, in the engine's thread: must not block
//                 while (std::optional<Delta> delta = stream->TryPop()) Send(*delta);
//                 or, in a thread of its own: stream->Pop(Deadline::After(...))
//   client gone:  stream->Close();                            // the engine frees the sequence's blocks within a step
//
// Thread-safe. Push never drops: the bound only tells the engine to pause (a step in flight may still add a delta).
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>

#include "coordinator/engine/request.h"
#include "parallel/base/deadline.h"

namespace atl::coordinator {

class TokenStream {
 public:
  // `on_space` is called when a full queue has been drained to half; `on_close` once, when the client leaves early.
  TokenStream(uint64_t id, size_t bound, std::function<void(uint64_t)> on_space,
              std::function<void(uint64_t)> on_close);

  uint64_t id() const { return id_; }

  // Engine's side. False when the queue has reached its bound.
  bool Push(Delta delta);

  // Client's side.
  void OnReadable(const std::function<void()>& callback);  // also called at once if something is waiting
  std::optional<Delta> TryPop();
  absl::StatusOr<Delta> Pop(Deadline deadline);
  void Close();

 private:
  const uint64_t id_;
  const size_t bound_;
  std::function<void(uint64_t)> on_space_, on_close_;
  std::mutex mutex_;
  std::condition_variable readable_;
  std::function<void()> callback_;
  std::deque<Delta> queue_;
  bool full_ = false;  // the engine was told to pause
  bool closed_ = false;
  bool ended_ = false;  // the last delta was pushed
};

}  // namespace atl::coordinator
