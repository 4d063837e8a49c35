#include "coordinator/cli/tokenize.h"

#include <chrono>
#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>

#include "coordinator/chat_template/json_depth.h"
#include "coordinator/cli/model_text.h"

namespace atl::coordinator {
namespace {

using nlohmann::ordered_json;

struct Loaded {
  std::unique_ptr<Tokenizer> tokenizer;         // null: a template alone
  std::unique_ptr<ChatTemplate> chat_template;  // null: none is known
};

absl::Status CheckDate(const std::string& date) {
  const auto is_date = [&] {
    if (date.size() != 10) return false;
    for (size_t i = 0; i < date.size(); ++i) {
      if (i == 4 || i == 7 ? date[i] != '-' : date[i] < '0' || date[i] > '9') return false;
    }
    const std::chrono::year_month_day day{std::chrono::year(std::stoi(date)),
                                          std::chrono::month(std::stoi(date.substr(5, 2))),
                                          std::chrono::day(std::stoi(date.substr(8)))};
    return day.ok() && static_cast<int>(day.year()) > 0;  // Python's years begin with 1
  };
  if (date.empty() || is_date()) return absl::OkStatus();
  return InvalidArgument("--date {} is not a date; write YYYY-MM-DD", date);
}

absl::StatusOr<Loaded> Load(const TokenizeOptions& options) {
  ATOLL_RETURN_IF_ERROR(CheckDate(options.date));
  const ChatTemplateOptions rendering{.date = options.date};
  Loaded loaded;
  const std::string& tokenizer = options.tokenizer.empty() ? options.model : options.tokenizer;
  if (!tokenizer.empty()) {
    ATOLL_ASSIGN_OR_RETURN(loaded.tokenizer, LoadModelTokenizer(tokenizer));
  }
  if (!options.chat_template.empty()) {
    ATOLL_ASSIGN_OR_RETURN(const std::string source, ReadTemplateFile(options.chat_template));
    ATOLL_ASSIGN_OR_RETURN(loaded.chat_template, MakeChatTemplate(source, options.bos, options.eos, rendering));
  } else if (!options.model.empty()) {
    absl::StatusOr<std::unique_ptr<ChatTemplate>> chat = LoadModelChatTemplate(options.model, rendering);
    if (!chat.ok() && chat.status().code() != absl::StatusCode::kNotFound) return chat.status();
    if (chat.ok()) loaded.chat_template = *std::move(chat);
  }
  if (loaded.tokenizer == nullptr && loaded.chat_template == nullptr) {
    return InvalidArgument("give a model directory, --tokenizer FILE or --template FILE");
  }
  return loaded;
}

absl::StatusOr<ordered_json> TokenizeLine(const Loaded& loaded, const std::string& line) {
  if (JsonDepth(line) > kMaxJsonDepth) return InvalidArgument("the line nests more than {} deep", kMaxJsonDepth);
  ordered_json question = ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!question.is_object()) return InvalidArgument("the line is not a JSON object");
  std::string text;
  EncodeOptions encode;
  if (question.contains("messages")) {
    if (loaded.chat_template == nullptr) return FailedPrecondition("there is no chat template; give {{\"text\": ...}}");
    question.emplace("add_generation_prompt", true);
    ATOLL_ASSIGN_OR_RETURN(text, loaded.chat_template->Render(question.dump()));
    if (loaded.tokenizer == nullptr) return ordered_json{{"text", text}};
  } else if (question.contains("text") && question["text"].is_string()) {
    if (loaded.tokenizer == nullptr) return FailedPrecondition("there is no tokenizer; give {{\"messages\": ...}}");
    text = question["text"].get<std::string>();
    const ordered_json add = question.value("add_special", ordered_json(false));
    if (!add.is_boolean()) return InvalidArgument("add_special is neither true nor false");
    encode.add_special = add.get<bool>();
  } else {
    return InvalidArgument("the line has neither \"text\" (a string) nor \"messages\"");
  }
  const std::vector<int32_t> ids = loaded.tokenizer->Encode(text, encode);
  return ordered_json{{"ids", ids}, {"text", text}, {"decoded", loaded.tokenizer->Decode(ids, /*skip_special=*/false)}};
}

}  // namespace

absl::Status RunTokenize(const TokenizeOptions& options, std::istream& in, std::ostream& out) {
  ATOLL_ASSIGN_OR_RETURN(const Loaded loaded, Load(options));
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    absl::StatusOr<ordered_json> answer = TokenizeLine(loaded, line);
    if (!answer.ok()) answer = ordered_json{{"error", ToString(answer.status().message())}};
    out << answer->dump(-1, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace) << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace atl::coordinator
