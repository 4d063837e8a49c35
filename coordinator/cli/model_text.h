// The tokenizer and the chat template of a model, wherever its files keep them.
//
//   ATOLL_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, LoadModelTokenizer(path));
//   ATOLL_ASSIGN_OR_RETURN(std::unique_ptr<ChatTemplate> chat, LoadModelChatTemplate(path, {}));   // NotFound: has
//   none
//
// `path` is a model directory, a GGUF file (any one of a split model's), or a tokenizer's file. A GGUF model, also the
// one of a directory without safetensors, has both in its metadata; what it lacks is looked for in the directory, if
// one was given. Elsewhere LoadTokenizer and LoadChatTemplate say which files count.
#pragma once

#include <memory>
#include <string>

#include "coordinator/chat_template/chat_template.h"
#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {

// NotFound: there is none. InvalidArgument, Unimplemented: it cannot be used.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadModelTokenizer(const std::string& path);
absl::StatusOr<std::unique_ptr<ChatTemplate>> LoadModelChatTemplate(const std::string& path,
                                                                    const ChatTemplateOptions& options);

// As clients know a model: "models/x", "models/x/" and "x.gguf", "x-00001-of-00003.gguf" all are x.
std::string ModelName(const std::string& absolute_path);

}  // namespace atl::coordinator
