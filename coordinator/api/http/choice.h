// One choice of an answer, from the engine's deltas to the JSON that clients read.
//
//   Choice choice(index, request, service);
//   for (Json& part : choice.Take(delta)) Send(Chunk(head, {part}, usage));     // streamed
//   Completion(head, {choice.Whole()}, usage)                                   // or whole, after the last delta
//
// Tool calls that the text holds (api/tools) become tool_calls: in a stream a part with index, id and name, then one
// with the arguments; they come whole, because a call that turns out to be malformed is content.
#pragma once

#include "coordinator/api/http/openai.h"
#include "coordinator/api/service.h"
#include "coordinator/api/tools/parser.h"

namespace atl::coordinator {

// Special tokens that mark tool calls in the model's answers: they must be part of the text that Choice sees.
std::vector<int32_t> ToolMarks(const Service& service);

class Choice {
 public:
  Choice(int index, const OpenAiRequest& asked, const Service& service);

  // What one delta brings: the entries of "choices" of as many chunks, none where text is held back.
  std::vector<Json> Take(const Delta& delta);
  Json Whole() const;

 private:
  void AddCalls(const std::vector<ToolCall>& calls, std::vector<Json>* parts);
  Json Part(Json delta, Json logprobs);
  Json Logprobs(const Delta& delta);
  Json ChatLogprobs(const Delta& delta) const;
  Json TextLogprobs(const Delta& delta);
  void KeepLogprobs(const Json& logprobs);

  const int index_;
  const bool chat_, wants_logprobs_;
  const Tokenizer& tokenizer_;
  std::optional<ToolParser> parser_;
  StreamDecoder offsets_;   // of completions' logprobs: where a token's text begins
  int64_t characters_ = 0;  // of the text before it
  bool first_ = true;
  std::string text_;  // so far
  Json calls_ = Json::array();
  Json logprobs_;
  std::string finish_;
};

}  // namespace atl::coordinator
