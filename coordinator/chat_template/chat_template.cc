#include "coordinator/chat_template/chat_template.h"

#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>

#include "coordinator/chat_template/builtin.h"
#include "coordinator/chat_template/child.h"
#include "coordinator/chat_template/json_depth.h"
#include "coordinator/chat_template/renderer_source.h"

namespace atl::coordinator {
namespace {

using json = nlohmann::ordered_json;  // templates print objects in the order they came in

class JinjaTemplate : public ChatTemplate {
 public:
  JinjaTemplate(std::string source, std::string bos, std::string eos, ChatTemplateOptions options)
      : source_(std::move(source)),
        bos_(std::move(bos)),
        eos_(std::move(eos)),
        options_(std::move(options)),
        child_({"/usr/bin/python3", "-I", "-c", kRendererSource}) {}

  const std::string& source() const override { return source_; }

  absl::StatusOr<std::string> Render(const std::string& variables_json) override {
    if (const int depth = JsonDepth(variables_json); depth > kMaxJsonDepth) {
      return InvalidArgument("the template's variables nest {} deep; {} is the limit", depth, kMaxJsonDepth);
    }
    json variables = json::parse(variables_json, nullptr, /*allow_exceptions=*/false);
    if (!variables.is_object()) return InvalidArgument("the template's variables are not a JSON object");
    for (const char* optional : {"tools", "documents"}) variables.emplace(optional, nullptr);  // "is none" is true
    variables.emplace("add_generation_prompt", false);
    variables.emplace("bos_token", bos_);
    variables.emplace("eos_token", eos_);
    const json question = {{"source", source_}, {"variables", std::move(variables)}, {"date", options_.date}};
    const std::string line = question.dump(-1, ' ', true, json::error_handler_t::replace);
    std::lock_guard lock(mutex_);
    absl::StatusOr<std::string> answer = child_.Ask(line, options_.deadline);
    if (!answer.ok()) return Annotate(answer.status(), "the chat template's renderer");
    const json parsed = json::parse(*answer, nullptr, /*allow_exceptions=*/false);
    if (parsed.is_object() && parsed.contains("error")) {
      return InvalidArgument("the chat template refused: {}", parsed["error"].get<std::string>());
    }
    if (!parsed.is_object() || !parsed.contains("text")) return Internal("the renderer answered \"{}\"", *answer);
    return parsed["text"].get<std::string>();
  }

 private:
  const std::string source_, bos_, eos_;
  const ChatTemplateOptions options_;
  std::mutex mutex_;
  LineChild child_;
};

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// A file that is not there is an empty object.
absl::StatusOr<json> ReadObject(const std::filesystem::path& path) {
  const std::string text = ReadAll(path);
  if (text.empty()) return json::object();
  json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return InvalidArgument("{} is not a JSON object", path.string());
  return object;
}

// A special token is a string, or an object with its content.
std::string TokenText(const json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  return found->is_object() && found->contains("content") && (*found)["content"].is_string()
             ? (*found)["content"].get<std::string>()
             : "";
}

// chat_template is a string, or a list of named ones of which "default" is meant.
std::string TemplateText(const json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) return "";
  for (const json& named : *found) {
    if (named.is_object() && named.value("name", json()) == "default" && named.contains("template") &&
        named["template"].is_string()) {
      return named["template"].get<std::string>();
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<std::string> ReadTemplateFile(const std::string& path) {
  std::string text = ReadAll(path);
  if (text.empty()) return NotFound("the chat template {} cannot be opened or is empty", path);
  return text;
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> MakeChatTemplate(const std::string& source, const std::string& bos,
                                                               const std::string& eos,
                                                               const ChatTemplateOptions& options) {
  return std::make_unique<JinjaTemplate>(source, bos, eos, options);
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> LoadChatTemplate(const std::string& model_directory,
                                                               const ChatTemplateOptions& options) {
  const std::filesystem::path directory(model_directory);
  ATOLL_ASSIGN_OR_RETURN(const json config, ReadObject(directory / "tokenizer_config.json"));
  std::string source;
  if (!options.file.empty()) {
    ATOLL_ASSIGN_OR_RETURN(source, ReadTemplateFile(options.file));
  }
  if (source.empty()) source = ReadAll(directory / "chat_template.jinja");
  if (source.empty()) source = TemplateText(config);
  if (source.empty()) {
    ATOLL_ASSIGN_OR_RETURN(const json processor, ReadObject(directory / "chat_template.json"));  // of multimodal models
    source = TemplateText(processor);
  }
  if (source.empty()) {
    ATOLL_ASSIGN_OR_RETURN(const json model, ReadObject(directory / "config.json"));
    const auto type = model.find("model_type");
    if (type != model.end() && type->is_string()) source = BuiltinTemplate(type->get<std::string>());
  }
  if (source.empty()) {
    return NotFound(
        "{} has no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json or "
        "chat_template.json",
        model_directory);
  }
  return MakeChatTemplate(source, TokenText(config, "bos_token"), TokenText(config, "eos_token"), options);
}

}  // namespace atl::coordinator
