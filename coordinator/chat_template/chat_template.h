// Renders a conversation through a model's chat template (Jinja).
//
//   ATOLL_ASSIGN_OR_RETURN(std::unique_ptr<ChatTemplate> t, LoadChatTemplate(model_directory, {}));
//   ATOLL_ASSIGN_OR_RETURN(std::string prompt, t->Render(R"({"messages": [...], "add_generation_prompt": true})"));
//
// The real one is a python3-jinja2 child process in a sandboxed environment with Hugging Face's settings, started at
// the first use, killed at the deadline and started again at the next. Thread-safe; renders one at a time. Errors:
// InvalidArgument (the template raised: its own words), DeadlineExceeded, Unavailable (python3 or jinja2 missing).
#pragma once

#include <memory>
#include <string>

#include "parallel/base/deadline.h"
#include "parallel/base/status.h"

namespace atl::coordinator {

class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;
  // variables_json: an object with messages, add_generation_prompt, tools, ...; bos_token and eos_token are added.
  virtual absl::StatusOr<std::string> Render(const std::string& variables_json) = 0;
  virtual const std::string& source() const = 0;  // the template itself
};

struct ChatTemplateOptions {
  Seconds deadline{5};
  std::string date = {};  // strftime_now's fixed date, YYYY-MM-DD; empty: today
  std::string file = {};  // a Jinja file to use instead of the model's own template
};

// The model directory's template: chat_template.jinja, or chat_template in tokenizer_config.json or chat_template.json,
// or ours for its family (builtin.h); bos_token and eos_token are tokenizer_config.json's. NotFound when the model has
// none.
absl::StatusOr<std::unique_ptr<ChatTemplate>> LoadChatTemplate(const std::string& model_directory,
                                                               const ChatTemplateOptions& options);
// From its text alone; options.file is not read.
absl::StatusOr<std::unique_ptr<ChatTemplate>> MakeChatTemplate(const std::string& source, const std::string& bos,
                                                               const std::string& eos,
                                                               const ChatTemplateOptions& options);

// A Jinja file's text. NotFound: it cannot be opened or is empty.
absl::StatusOr<std::string> ReadTemplateFile(const std::string& path);

}  // namespace atl::coordinator
