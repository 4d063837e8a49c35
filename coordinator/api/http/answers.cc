#include "coordinator/api/http/answers.h"

#include <algorithm>

namespace atl::coordinator {

absl::StatusOr<std::unique_ptr<Answers>> Answers::Submit(const Service& service, const Request& request, int choices) {
  std::unique_ptr<Answers> answers(new Answers);
  answers->usage_.prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
  for (int i = 0; i < choices; ++i) {
    Request one = request;
    one.sampling.set_choice(static_cast<uint32_t>(i));
    if (choices > 1) one.id += fmt::format("-{}", i);
    ATOLL_ASSIGN_OR_RETURN(std::shared_ptr<TokenStream> stream, service.Submit(std::move(one)));
    stream->OnReadable([bell = answers->bell_] {
      std::lock_guard lock(bell->mutex);
      bell->rung = true;
      bell->rings.notify_one();
    });
    answers->streams_.push_back(std::move(stream));
  }
  return answers;
}

Answers::~Answers() {
  for (const auto& stream : streams_) stream->Close();  // does nothing where it has ended
}

std::optional<Answers::Next> Answers::TryPop() {
  const size_t open = std::min(seen_ + 1, streams_.size());
  for (size_t i = 0; i < open; ++i) {
    const size_t choice = (turn_ + i) % open;
    std::optional<Delta> delta = streams_[choice]->TryPop();
    if (!delta) continue;
    seen_ = std::max(seen_, choice + 1);
    turn_ = choice + 1;
    ended_ += delta->last() ? 1 : 0;
    usage_.completion_tokens += static_cast<int64_t>(delta->tokens.size());
    return Next{static_cast<int>(choice), *std::move(delta)};
  }
  return std::nullopt;
}

std::optional<Answers::Next> Answers::Pop(Deadline deadline) {
  while (true) {
    {
      std::lock_guard lock(bell_->mutex);
      bell_->rung = false;
    }
    if (std::optional<Next> next = TryPop()) return next;
    std::unique_lock lock(bell_->mutex);
    if (!bell_->rings.wait_until(lock, deadline.at, [&] { return bell_->rung; })) return std::nullopt;
  }
}

}  // namespace atl::coordinator
