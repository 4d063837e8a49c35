// The streams of one request's choices, read as one.
//
//   ATOLL_ASSIGN_OR_RETURN(std::unique_ptr<Answers> answers, Answers::Submit(service, request, n));
//   std::optional<Answers::Next> next = answers->Pop(Deadline::After(...));   // nothing: none came in time
//   ... until answers->done()
//
// Choice i is the request with sampling.choice i. Clients need choices to appear in ascending order: a choice's first
// delta comes after those of all choices before it. Leaving early closes every stream.
#pragma once

#include <condition_variable>
#include <mutex>

#include "coordinator/api/service.h"

namespace atl::coordinator {

class Answers {
 public:
  struct Next {
    int choice = 0;
    Delta delta;
  };

  static absl::StatusOr<std::unique_ptr<Answers>> Submit(const Service& service, const Request& request, int choices);
  ~Answers();
  Answers(const Answers&) = delete;
  Answers& operator=(const Answers&) = delete;

  std::optional<Next> Pop(Deadline deadline);
  bool done() const { return ended_ == static_cast<int>(streams_.size()); }
  const Usage& usage() const { return usage_; }  // of all choices, as far as they were read; the prompt counts once

 private:
  // What the engine's thread rings; it may outlive this object by a moment.
  struct Bell {
    std::mutex mutex;
    std::condition_variable rings;
    bool rung = true;
  };

  Answers() = default;
  std::optional<Next> TryPop();

  const std::shared_ptr<Bell> bell_ = std::make_shared<Bell>();
  std::vector<std::shared_ptr<TokenStream>> streams_;
  size_t seen_ = 0;  // choices [0, seen_) have appeared
  size_t turn_ = 0;  // whose delta is looked for first
  int ended_ = 0;
  Usage usage_;
};

}  // namespace atl::coordinator
