// Tools in a request and calls in an answer: what the template is given, and what OpenAI's clients read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "coordinator/api/http/choice.h"
#include "tests/coordinator/fake_tokenizer.h"

namespace atl::coordinator {
namespace {

using testing::HasSubstr;

constexpr const char* kTools = R"([{"type":"function","function":{"name":"add"}}])";

struct Served {
  explicit Served(const std::string& source) : chat_template(*MakeChatTemplate(source, "<s>", "</s>", {})) {
    service.tokenizer = &tokenizer;
    service.chat_template = chat_template.get();
  }
  absl::StatusOr<std::string> Render(const std::string& body, const std::string& arguments = "") {
    ATOLL_ASSIGN_OR_RETURN(const OpenAiRequest request, ParseOpenAiRequest(body, /*chat=*/true));
    return service.Render(request.generate, request.template_arguments + arguments);
  }
  std::string Error(const std::string& body) { return ToString(Render(body).status().message()); }

  FakeTokenizer tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;
  Service service;
};

std::string Body(const std::string& fields) { return R"({"messages":[{"role":"user","content":"q"}])" + fields + "}"; }

constexpr const char* kHistory = R"({"messages":[{"role":"user","content":"q"},
    {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"add","arguments":"{\"a\": 1}"}}]},
    {"role":"tool","tool_call_id":"c1","name":"add","content":[{"type":"text","text":"2"}]}]})";

TEST(Tools, ReachTheTemplate) {
  Served tools("{% if tools %}{{ tools | tojson }}{% endif %}|{{ messages[0].content }}");
  EXPECT_EQ(*tools.Render(Body("")), "|q");
  EXPECT_EQ(*tools.Render(Body(",\"tools\":" + std::string(kTools))),
            R"([{"type": "function", "function": {"name": "add"}}]|q)");
  EXPECT_EQ(*tools.Render(Body(",\"tool_choice\":\"none\",\"tools\":" + std::string(kTools))), "|q");
  Served xml("{% for t in xml_tools or [] %}{{ t.function.name }}{% endfor %}");
  EXPECT_EQ(*xml.Render(Body(",\"tools\":" + std::string(kTools))), "add");
  Served none("{{ messages[0].content }}");
  EXPECT_THAT(none.Error(Body(",\"tools\":" + std::string(kTools))), HasSubstr("has no place for them"));
  Served thinking("{{ enable_thinking }} {{ effort }}");
  EXPECT_EQ(*thinking.Render(Body(R"(,"chat_template_kwargs":{"enable_thinking":false,"effort":"low"})")), "False low");
}

// Whatever a template wants of a history of calls: arguments as object or text, no content as null or as a text.
TEST(Tools, HistoriesAreWhatTheTemplateWants) {
  const std::string call = "{% set f = messages[1].tool_calls[0].function %}";
  const std::string tail = "{{ messages[2].role + messages[2].tool_call_id + messages[2].name + messages[2].content }}";
  EXPECT_EQ(*Served(call + "{{ f.name }}{{ f.arguments.a }}" + tail).Render(kHistory), "add1toolc1add2");
  EXPECT_EQ(*Served(call + "{{ f.name + f.arguments }}" + tail).Render(kHistory), "add{\"a\": 1}toolc1add2");
  EXPECT_EQ(
      *Served(call + "{{ messages[1].content.strip() + f.name }}{{ f.arguments | tojson }}" + tail).Render(kHistory),
      "add{\"a\": 1}toolc1add2");
  EXPECT_EQ(*Served("{{ messages[1].content is none }}").Render(kHistory), "True");
  EXPECT_THAT(Served("{{ raise_exception('no calls here') }}").Error(kHistory), HasSubstr("no calls here"));
}

// Over gRPC these are texts that nobody has looked into yet.
TEST(Tools, TextsThatAreNoJsonAreRefused) {
  Served served("{{ tools }}{{ messages }}");
  for (const std::string& text : {std::string("{"), std::string("5"), std::string(200000, '[')}) {
    v1::GenerateRequest request;
    request.add_messages()->set_role("user");
    request.set_tools(text);
    EXPECT_EQ(FieldOf(served.service.Render(request, "").status()), "tools");
    request.clear_tools();
    request.mutable_messages(0)->add_tool_calls()->set_arguments(text);
    EXPECT_EQ(FieldOf(served.service.Render(request, "").status()), "messages");
  }
}

TEST(Tools, WrongFieldsAreNamed) {
  const auto error = [](const std::string& body) {
    return ToString(ParseOpenAiRequest(body, true).status().message());
  };
  EXPECT_THAT(error(Body(R"(,"tools":5)")), HasSubstr("tools must be a list"));
  EXPECT_THAT(error(Body(R"(,"tools":[{"type":"function"}])")), HasSubstr("tools[0] is none"));
  EXPECT_THAT(error(Body(R"(,"tool_choice":"required")")), HasSubstr("send \"auto\""));
  EXPECT_THAT(error(Body(R"(,"tool_choice":{"type":"function","function":{"name":"add"}})")),
              HasSubstr("send \"auto\""));
  EXPECT_THAT(error(Body(R"(,"tool_choice":"maybe")")), HasSubstr("\"none\" or \"auto\""));
  EXPECT_THAT(error(R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}]})"),
              HasSubstr("messages[0].tool_calls[0].function.arguments must be a JSON object as text"));
}

Delta Text(const std::string& text, std::optional<FinishReason> finish = std::nullopt) {
  Delta delta;
  delta.text = text;
  delta.tokens = {1};
  delta.finish = finish;
  return delta;
}

OpenAiRequest Asked() { return *ParseOpenAiRequest(Body(",\"tools\":" + std::string(kTools)), true); }

// What openai-python makes of a stream: strings of an entry are joined by index, all but index and type.
Json Accumulated(const std::vector<Json>& parts) {
  Json message = {{"content", ""}, {"tool_calls", Json::array()}};
  int roles = 0;
  for (const Json& part : parts) {
    EXPECT_EQ(part["index"], 0);
    const Json& delta = part["delta"];
    roles += delta.contains("role") ? 1 : 0;
    if (delta.contains("content")) {
      message["content"] = message["content"].get<std::string>() + delta["content"].get<std::string>();
    }
    if (!delta.contains("tool_calls")) continue;
    for (const Json& entry : delta["tool_calls"]) {
      const auto index = entry["index"].get<size_t>();
      if (index == message["tool_calls"].size()) {
        message["tool_calls"].push_back(entry);
        EXPECT_TRUE(entry.contains("id") && entry["type"] == "function" && entry["function"].contains("name"));
        message["tool_calls"][index].erase("index");
        continue;
      }
      EXPECT_FALSE(entry.contains("id") || entry.contains("type") || entry["function"].contains("name")) << entry;
      Json& arguments = message["tool_calls"][index]["function"]["arguments"];
      arguments = arguments.get<std::string>() + entry["function"]["arguments"].get<std::string>();
    }
  }
  EXPECT_EQ(roles, 1) << "the role comes once, with the first part";
  return message;
}

TEST(Tools, CallsAreStreamedAsClientsReadThem) {
  const std::string text =
      "One moment.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>\n<tool_call>\n"
      "{\"name\": \"add\", \"arguments\": {}}\n</tool_call>";
  Served served("<tool_call>{{ tools }}");
  for (const size_t step : {1u, 5u, 1000u}) {
    Choice choice(0, Asked(), served.service);
    std::vector<Json> parts;
    for (size_t at = 0; at < text.size(); at += step) {
      for (Json& part : choice.Take(Text(text.substr(at, step)))) parts.push_back(std::move(part));
    }
    for (Json& part : choice.Take(Text("", FinishReason::kStop))) parts.push_back(std::move(part));
    const Json message = Accumulated(parts), whole = choice.Whole();
    EXPECT_EQ(message["content"], "One moment.\n");
    ASSERT_EQ(message["tool_calls"].size(), 2u);
    EXPECT_EQ(message["tool_calls"][0]["function"], (Json{{"name", "add"}, {"arguments", "{\"a\": 1}"}}));
    EXPECT_EQ(message["tool_calls"][1]["function"], (Json{{"name", "add"}, {"arguments", "{}"}}));
    EXPECT_NE(message["tool_calls"][0]["id"], message["tool_calls"][1]["id"]);
    EXPECT_EQ(message["tool_calls"][0]["id"].get<std::string>().size(), 9u) << "as Mistral's template wants it";
    EXPECT_EQ(parts.back()["finish_reason"], "tool_calls");
    for (size_t i = 0; i + 1 < parts.size(); ++i) EXPECT_TRUE(parts[i]["finish_reason"].is_null());
    EXPECT_EQ(whole["message"]["tool_calls"], message["tool_calls"]);
    EXPECT_EQ(whole["message"]["content"], "One moment.\n");
    EXPECT_EQ(whole["finish_reason"], "tool_calls");
  }
}

TEST(Tools, AnswersWithoutContentSayNull) {
  Served served("<tool_call>{{ tools }}");
  Choice choice(0, Asked(), served.service);
  choice.Take(Text("<tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call>", FinishReason::kStop));
  EXPECT_TRUE(choice.Whole()["message"]["content"].is_null());
  EXPECT_EQ(choice.Whole()["message"]["tool_calls"].size(), 1u);
}

TEST(Tools, WhatIsCutOffStaysText) {
  Served served("<tool_call>{{ tools }}");
  Choice choice(0, Asked(), served.service);
  const std::string text = "<tool_call>\n{\"name\": \"add\", \"argu";
  EXPECT_TRUE(choice.Take(Text(text)).empty()) << "it may become a call";
  const std::vector<Json> parts = choice.Take(Text("", FinishReason::kLength));
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0]["delta"]["content"], text);
  EXPECT_EQ(parts[0]["finish_reason"], "length");
  EXPECT_EQ(choice.Whole()["message"]["content"], text);
  EXPECT_FALSE(choice.Whole()["message"].contains("tool_calls"));
  // Without tools in the request nothing is looked for.
  Choice plain(0, *ParseOpenAiRequest(Body(""), true), served.service);
  plain.Take(Text("<tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call>", FinishReason::kStop));
  EXPECT_EQ(plain.Whole()["finish_reason"], "stop");
  EXPECT_THAT(plain.Whole()["message"]["content"].get<std::string>(), HasSubstr("<tool_call>"));
}

// Marks may be special tokens, which decoding hides: those that the form needs are shown, others stay hidden.
TEST(Tools, MarksThatAreSpecialTokensAreShown) {
  const FakeTokenizer tokenizer;
  StreamDecoder hidden(&tokenizer), shown(&tokenizer, true, {FakeTokenizer::kSpecial});
  EXPECT_EQ(hidden.Push(FakeTokenizer::kSpecial), "");
  EXPECT_EQ(shown.Push(FakeTokenizer::kSpecial), "<special>");
  EXPECT_EQ(shown.Push(FakeTokenizer::kEnd), "");
}

TEST(Tools, LogprobsAreWhatTheWorkerSays) {
  Served served("{{ tools }}");
  Delta delta = Text("a");
  delta.tokens = {0};
  delta.logprobs = {-0.25f};
  delta.top.resize(1);
  for (const auto& [token, logprob] : {std::pair{0, -0.25f}, {FakeTokenizer::kFirstHalf, -INFINITY}}) {
    delta.top[0].add_tokens(token);
    delta.top[0].add_logprobs(logprob);
  }
  Choice chat(0, *ParseOpenAiRequest(Body(R"(,"logprobs":true,"top_logprobs":2)"), true), served.service);
  EXPECT_EQ(chat.Take(delta)[0]["logprobs"]["content"][0],
            Json::parse(R"({"token":"a","logprob":-0.25,"bytes":[97],"top_logprobs":[
                {"token":"a","logprob":-0.25,"bytes":[97]},{"token":"\u00c3","logprob":-9999.0,"bytes":[195]}]})")
                .patch(Json::array({{{"op", "replace"}, {"path", "/top_logprobs/1/token"}, {"value", "\xC3"}}})));
  Choice text(0, *ParseOpenAiRequest(R"({"prompt":"a","logprobs":1})", false), served.service);
  delta.top[0].mutable_tokens()->Truncate(1);
  text.Take(delta);
  delta.logprobs = {-3};
  delta.tokens = {1};
  delta.finish = FinishReason::kLength;
  text.Take(delta);
  EXPECT_EQ(text.Whole()["logprobs"], Json::parse(R"({"tokens":["a","b"],"token_logprobs":[-0.25,-3.0],
                            "top_logprobs":[{"a":-0.25},{"a":-0.25,"b":-3.0}],"text_offset":[0,1]})"));
}

}  // namespace
}  // namespace atl::coordinator
