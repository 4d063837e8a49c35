#include "coordinator/chat_template/builtin.h"

#include "coordinator/chat_template/builtin_source.h"

namespace atl::coordinator {

std::string BuiltinTemplate(const std::string& model_type) {
  if (model_type == "olmo2") return kOlmo2Template;
  if (model_type == "llama4" || model_type == "llama4_text") return kLlama4Template;
  return "";
}

}  // namespace atl::coordinator
