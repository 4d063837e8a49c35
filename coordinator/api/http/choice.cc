#include "coordinator/api/http/choice.h"

#include <algorithm>

namespace atl::coordinator {
namespace {

constexpr float kFloor = -9999;  // JSON has no infinity

// Ids that every template takes: Mistral's wants nine letters and digits.
std::string MakeCallId() {
  constexpr char kLetters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::string id;
  for (int i = 0; i < 9; ++i) id += kLetters[RandomSeed() % (sizeof(kLetters) - 1)];
  return id;
}

int64_t Characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

float Floored(float logprob) { return logprob >= kFloor ? logprob : kFloor; }

}  // namespace

std::vector<int32_t> ToolMarks(const Service& service) {
  std::vector<int32_t> ids;
  if (service.chat_template == nullptr) return ids;
  for (const ToolForm* form : ToolFormsOf(service.chat_template->source())) {
    for (const char* mark : form->specials) {
      if (const int32_t id = service.tokenizer->Find(mark); id >= 0) ids.push_back(id);
    }
  }
  return ids;
}

Choice::Choice(int index, const OpenAiRequest& asked, const Service& service)
    : index_(index),
      chat_(asked.chat),
      wants_logprobs_(asked.logprobs),
      tokenizer_(*service.tokenizer),
      offsets_(service.tokenizer) {
  if (!asked.tools.empty()) parser_.emplace(ToolFormsOf(service.chat_template->source()), asked.tools);
}

Json Choice::Part(Json delta, Json logprobs) {
  Json part = {{"index", index_}};
  if (chat_) {
    Json& content = part["delta"] = Json::object();
    if (first_) content["role"] = "assistant";  // with the first token, so that TTFT is what it says
    content.update(delta);
  } else {
    part["text"] = delta["content"];
  }
  part["logprobs"] = std::move(logprobs);
  part["finish_reason"] = nullptr;
  first_ = false;
  return part;
}

void Choice::AddCalls(const std::vector<ToolCall>& calls, std::vector<Json>* parts) {
  for (const ToolCall& call : calls) {
    const auto number = static_cast<int64_t>(calls_.size());
    calls_.push_back({{"id", call.id.empty() ? MakeCallId() : call.id},
                      {"type", "function"},
                      {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
    Json begin = calls_.back();
    begin["index"] = number;
    begin["function"]["arguments"] = "";
    const Json rest = {{"index", number}, {"function", {{"arguments", call.arguments}}}};
    parts->push_back(Part({{"tool_calls", Json::array({begin})}}, nullptr));
    parts->push_back(Part({{"tool_calls", Json::array({rest})}}, nullptr));
  }
}

std::vector<Json> Choice::Take(const Delta& delta) {
  std::vector<Json> parts;
  ToolParser::Piece piece{delta.text, {}};
  if (parser_) {
    piece = parser_->Push(delta.text);
    if (delta.finish) {
      ToolParser::Piece rest = parser_->Finish();
      piece.content += rest.content;
      piece.calls.insert(piece.calls.end(), rest.calls.begin(), rest.calls.end());
    }
  }
  text_ += piece.content;
  Json logprobs = Logprobs(delta);
  KeepLogprobs(logprobs);
  if (!parser_ || !piece.content.empty() || !logprobs.is_null()) {
    parts.push_back(Part({{"content", piece.content}}, std::move(logprobs)));
  }
  AddCalls(piece.calls, &parts);
  if (delta.finish) {
    const bool called = !calls_.empty() && *delta.finish == FinishReason::kStop;
    finish_ = called ? "tool_calls" : Name(*delta.finish);
    if (parts.empty() || !calls_.empty()) parts.push_back(Part(Json::object(), nullptr));
    parts.back()["finish_reason"] = finish_;
  }
  return parts;
}

Json Choice::Whole() const {
  Json choice = {{"index", index_}};
  if (chat_) {
    Json& message = choice["message"] = {{"role", "assistant"}, {"content", text_}};
    if (!calls_.empty()) {
      if (text_.empty()) message["content"] = nullptr;
      message["tool_calls"] = calls_;
    }
  } else {
    choice["text"] = text_;
  }
  choice["logprobs"] = logprobs_;
  choice["finish_reason"] = finish_;
  return choice;
}

Json Choice::Logprobs(const Delta& delta) {
  if (!wants_logprobs_ || delta.tokens.empty() || delta.logprobs.size() != delta.tokens.size()) return nullptr;
  return chat_ ? ChatLogprobs(delta) : TextLogprobs(delta);
}

Json Choice::ChatLogprobs(const Delta& delta) const {
  const auto entry = [&](int32_t token, float logprob) {
    const std::string text = tokenizer_.TokenBytes(token);
    Json bytes = Json::array();
    for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
    return Json{{"token", text}, {"logprob", Floored(logprob)}, {"bytes", std::move(bytes)}};
  };
  Json content = Json::array();
  for (size_t i = 0; i < delta.tokens.size(); ++i) {
    Json one = entry(delta.tokens[i], delta.logprobs[i]);
    Json& top = one["top_logprobs"] = Json::array();
    for (int k = 0; i < delta.top.size() && k < delta.top[i].tokens_size(); ++k) {
      top.push_back(entry(delta.top[i].tokens(k), delta.top[i].logprobs(k)));
    }
    content.push_back(std::move(one));
  }
  return {{"content", std::move(content)}};
}

Json Choice::TextLogprobs(const Delta& delta) {
  Json tokens = Json::array(), logprobs = Json::array(), tops = Json::array(), offsets = Json::array();
  for (size_t i = 0; i < delta.tokens.size(); ++i) {
    const std::string text = tokenizer_.TokenBytes(delta.tokens[i]);
    tokens.push_back(text);
    logprobs.push_back(Floored(delta.logprobs[i]));
    Json top = Json::object();  // of tokens that read alike the most likely one stands
    for (int k = 0; i < delta.top.size() && k < delta.top[i].tokens_size(); ++k) {
      top.emplace(tokenizer_.TokenBytes(delta.top[i].tokens(k)), Floored(delta.top[i].logprobs(k)));
    }
    top.emplace(text, Floored(delta.logprobs[i]));
    tops.push_back(std::move(top));
    offsets.push_back(characters_);
    characters_ += Characters(offsets_.Push(delta.tokens[i]));
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

void Choice::KeepLogprobs(const Json& logprobs) {
  if (logprobs.is_null()) return;
  if (logprobs_.is_null()) {
    logprobs_ = logprobs;
    return;
  }
  for (const auto& [key, list] : logprobs.items()) {
    for (const Json& one : list) logprobs_[key].push_back(one);
  }
}

}  // namespace atl::coordinator
