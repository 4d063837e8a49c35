// `atoll chat`: the same cluster as serve's, and a prompt line in place of the front ends. In a terminal Ctrl-C stops
// an answer, Ctrl-D at the prompt leaves; a pipe on stdin is read line by line as a script of messages and commands,
// the answers alone go to stdout. Ranks that die are started again and the answer goes on.
//
// Lines: a message (a backslash at its end continues it on the next line), /clear, /help, /exit; "//x" sends "/x".
#pragma once

#include <optional>
#include <string>

#include "coordinator/cli/flags.h"

namespace atl::coordinator {

struct ChatFlags {
  ClusterFlags cluster;
  std::string chat_template;  // a Jinja file; empty: the model's own
  std::string system;
  std::optional<float> temperature, top_p;
  std::optional<int32_t> top_k;
  std::optional<uint64_t> seed;
  int64_t max_tokens = 0;  // of an answer; 0: what the context leaves
  bool verbose = false;    // log lines of coordinator and ranks, too
};

// An error also where a script had a message that got no answer; the others did.
absl::Status RunChat(const ChatFlags& flags);

}  // namespace atl::coordinator
