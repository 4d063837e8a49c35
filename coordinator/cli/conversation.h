// A conversation with a served model: what was said, and one more turn at a time.
//
//   Conversation conversation(&service, {.system = "Answer in one word."});
//   ATOLL_RETURN_IF_ERROR(conversation.Check());               // flags and template, before any rank is started
//   ATOLL_ASSIGN_OR_RETURN(const Turn turn, conversation.Say("What is 87 + 64?", show, interrupted));
//   conversation.Clear();
//
// The history grows by the message and its answer, also one that was stopped after it had begun. A turn that fails, or
// is stopped before its first text, leaves the history as it was. Errors of Say: InvalidArgument with the code
// context_length_exceeded when the history no longer fits (both numbers), whatever the engine says, Unavailable when
// the ranks are given up.
#pragma once

#include <functional>
#include <string>

#include "coordinator/api/service.h"

namespace atl::coordinator {

struct ConversationOptions {
  std::string system;            // first message; empty: none
  v1::GenerateRequest settings;  // sampling and seed of every turn
  int64_t max_tokens = 0;        // of an answer; 0: what the context leaves
};

enum class TurnEnd { kDone, kMaxTokens, kContextFull, kInterrupted };

struct Turn {
  std::string text;
  TurnEnd end = TurnEnd::kDone;
  Usage usage;
};

class Conversation {
 public:
  Conversation(const Service* service, ConversationOptions options);

  // Whether a first message would be accepted. Needs no ranks.
  absl::Status Check() const;
  // `show` is given the answer piece by piece; `interrupted` is asked many times a second.
  absl::StatusOr<Turn> Say(const std::string& message, const std::function<void(const std::string&)>& show,
                           const std::function<bool()>& interrupted);
  void Clear();

 private:
  absl::StatusOr<Request> Asking(const std::string& message) const;
  absl::StatusOr<Turn> Read(TokenStream* stream, bool to_the_end_of_context,
                            const std::function<void(const std::string&)>& show,
                            const std::function<bool()>& interrupted) const;

  const Service* const service_;
  const ConversationOptions options_;
  v1::GenerateRequest history_;  // the settings and all messages so far
};

}  // namespace atl::coordinator
