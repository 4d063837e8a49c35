#include "coordinator/cli/conversation.h"

#include <algorithm>

namespace atl::coordinator {
namespace {

constexpr Seconds kLook{0.03};  // between looks at whether somebody interrupts

void AddMessage(v1::GenerateRequest* to, const char* role, const std::string& content) {
  v1::ChatMessage* message = to->add_messages();
  message->set_role(role);
  message->set_content(content);
}

}  // namespace

Conversation::Conversation(const Service* service, ConversationOptions options)
    : service_(service), options_(std::move(options)) {
  Clear();
}

void Conversation::Clear() {
  history_ = options_.settings;
  if (!options_.system.empty()) AddMessage(&history_, "system", options_.system);
}

// The history and one message, as a request. Its max_tokens is what the context leaves, if that is less than what was
// asked for: a long conversation goes on to its end.
absl::StatusOr<Request> Conversation::Asking(const std::string& message) const {
  v1::GenerateRequest question = history_;
  AddMessage(&question, "user", message);
  ATOLL_ASSIGN_OR_RETURN(Request request, service_->ToRequest(question));
  if (options_.max_tokens > 0) request.max_tokens = std::min(request.max_tokens, options_.max_tokens);
  return request;
}

absl::Status Conversation::Check() const { return Asking("Hello").status(); }

absl::StatusOr<Turn> Conversation::Say(const std::string& message, const std::function<void(const std::string&)>& show,
                                       const std::function<bool()>& interrupted) {
  ATOLL_ASSIGN_OR_RETURN(Request request, Asking(message));
  const int64_t room = service_->context() - static_cast<int64_t>(request.prompt_ids.size());
  const bool to_the_end_of_context = request.max_tokens == room;
  ATOLL_ASSIGN_OR_RETURN(const std::shared_ptr<TokenStream> stream, service_->Submit(std::move(request)));
  absl::StatusOr<Turn> turn = Read(stream.get(), to_the_end_of_context, show, interrupted);
  stream->Close();
  if (turn.ok() && (turn->end != TurnEnd::kInterrupted || !turn->text.empty())) {
    AddMessage(&history_, "user", message);
    AddMessage(&history_, "assistant", turn->text);
  }
  return turn;
}

absl::StatusOr<Turn> Conversation::Read(TokenStream* stream, bool to_the_end_of_context,
                                        const std::function<void(const std::string&)>& show,
                                        const std::function<bool()>& interrupted) const {
  Turn turn;
  while (true) {
    if (interrupted()) {
      turn.end = TurnEnd::kInterrupted;
      return turn;
    }
    const absl::StatusOr<Delta> delta = stream->Pop(Deadline::After(kLook));
    if (!delta.ok()) {  // nothing yet: ranks that are started again make this long, those that are given up for ever
      if (const ClusterStatus cluster = service_->cluster->status(); cluster.gave_up) {
        return Unavailable("the ranks do not come up again: {}", cluster.last_loss);
      }
      continue;
    }
    ATOLL_RETURN_IF_ERROR(delta->status);
    turn.text += delta->text;
    if (!delta->text.empty()) show(delta->text);
    if (!delta->finish) continue;
    turn.usage = delta->usage;
    if (*delta->finish == FinishReason::kLength) {
      turn.end = to_the_end_of_context ? TurnEnd::kContextFull : TurnEnd::kMaxTokens;
    }
    return turn;
  }
}

}  // namespace atl::coordinator
