// Tool calls in the forms that the families publish, cut at every byte; whatever is no call stays content, byte for
// byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "coordinator/api/tools/parser.h"

namespace atl::coordinator {
namespace {

using testing::ElementsAre;

const ToolForm* FormNamed(const std::string& name) {
  constexpr const char* kMarks[] = {"<｜tool▁call▁begin｜>", "<tool_call>",
                                    "<|tool_call_begin|>",   "{\"name\": function name, \"parameters\":",
                                    "[TOOL_CALLS]",          "[func1(params_name"};
  for (const char* mark : kMarks) {
    for (const ToolForm* form : ToolFormsOf(mark)) {
      if (form->name == name) return form;
    }
  }
  throw std::runtime_error("no form " + name);
}

struct Parsed {
  std::string content;
  std::vector<std::string> calls;  // name|arguments|id
  bool operator==(const Parsed&) const = default;
};

Parsed Parse(const std::string& form, const std::vector<std::string>& pieces) {
  ToolParser parser({FormNamed(form)}, {"get_weather", "add", "noop", "files.read"});
  Parsed parsed;
  const auto take = [&](const ToolParser::Piece& piece) {
    parsed.content += piece.content;
    for (const ToolCall& call : piece.calls) parsed.calls.push_back(call.name + "|" + call.arguments + "|" + call.id);
  };
  for (const std::string& piece : pieces) take(parser.Push(piece));
  take(parser.Finish());
  return parsed;
}

// The text at once, in two pieces cut at every byte, and byte by byte.
Parsed EveryCut(const std::string& form, const std::string& text) {
  Parsed whole = Parse(form, {text});
  std::vector<std::string> bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    EXPECT_EQ(Parse(form, {text.substr(0, i), text.substr(i)}), whole) << form << " cut at " << i << ": " << text;
    bytes.push_back(text.substr(i, 1));
  }
  EXPECT_EQ(Parse(form, bytes), whole) << form << " byte by byte: " << text;
  return whole;
}

struct Case {
  const char* form;
  std::string text, content;
  std::vector<std::string> calls;
};

TEST(ToolForms, PublishedFormsAreRead) {
  const Case cases[] = {
      {"hermes",
       "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\"}}\n</tool_call>",
       "",
       {"get_weather|{\"city\": \"Zürich\"}|"}},
      {"hermes",
       "<think>\nhm\n</think>\n\nTwo:\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2}}\n"
       "</tool_call>\n<tool_call>\n{\"arguments\": {}, \"name\": \"noop\"}\n</tool_call>\n",
       "<think>\nhm\n</think>\n\nTwo:\n",
       {"add|{\"a\": 1, \"b\": 2}|", "noop|{}|"}},
      {"hermes",
       "<tool_call>{\"name\":\"f\",\"arguments\":{\"s\":\"</tool_call> } \\\" {\"}}</tool_call>done",
       "done",
       {"f|{\"s\":\"</tool_call> } \\\" {\"}|"}},
      {"deepseek",
       "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": "
       "\"Paris\"}\n```"
       "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{\"a\": "
       "1.50}\n```<｜tool▁call▁end｜>"
       "<｜tool▁calls▁end｜>",
       "",
       {"get_weather|{\"city\": \"Paris\"}|", "add|{\"a\": 1.50}|"}},
      {"deepseek",
       "Let me look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Paris\"}"
       "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
       "Let me look.",
       {"get_weather|{\"city\": \"Paris\"}|"}},
      {"kimi",
       "I ask.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
       "{\"city\": \"北京\"}<|tool_call_end|><|tool_call_begin|>functions.add:1<|tool_call_argument_begin|>{}"
       "<|tool_call_end|><|tool_calls_section_end|>",
       "I ask.",
       {"get_weather|{\"city\": \"北京\"}|functions.get_weather:0", "add|{}|functions.add:1"}},
      {"mistral",
       "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Nice\"}, \"id\": \"VvvODy9mT\"}, "
       "{\"name\": \"add\", \"arguments\": {\"list\": [1, [2]]}}]",
       "",
       {"get_weather|{\"city\": \"Nice\"}|VvvODy9mT", "add|{\"list\": [1, [2]]}|"}},
      {"mistral",
       "Sure.[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Nice\"}[TOOL_CALLS]add[CALL_ID]123456789[ARGS]{}",
       "Sure.",
       {"get_weather|{\"city\": \"Nice\"}|", "add|{}|123456789"}},
      {"llama_json",
       "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Oslo\"}}",
       "",
       {"get_weather|{\"city\": \"Oslo\"}|"}},
      {"llama_json",
       "\n<|python_tag|>{\"name\": \"add\", \"parameters\": {\"a\": \"1\"}}; {\"name\": \"noop\", \"parameters\": {}}",
       "",
       {"add|{\"a\": \"1\"}|", "noop|{}|"}},
      {"pythonic",
       "[get_weather(city=\"Oslo\", days=3), noop()]",
       "",
       {"get_weather|{\"city\": \"Oslo\", \"days\": 3}|", "noop|{}|"}},
      {"pythonic",
       "<|python_start|>[add(a=-1.5e3, b=[True, None, 'it\\'s'], c={'k': (1, 2)}, d=\"\\u00e9\\n\"), "
       "files.read(path='x')]<|python_end|>",
       "",
       {"add|{\"a\": -1.5e3, \"b\": [true, null, \"it's\"], \"c\": {\"k\": [1, 2]}, \"d\": \"é\\n\"}|",
        "files.read|{\"path\": \"x\"}|"}},
  };
  for (const Case& c : cases) {
    const Parsed parsed = EveryCut(c.form, c.text);
    EXPECT_EQ(parsed.content, c.content) << c.form << ": " << c.text;
    EXPECT_EQ(parsed.calls, c.calls) << c.form << ": " << c.text;
  }
}

// Numbers and spellings of the arguments are the model's own: nothing is rounded or rewritten.
TEST(ToolForms, ArgumentsKeepTheirBytes) {
  const std::string arguments = "{ \"n\":123456789012345678901234567890, \"x\":1.10e2,\"k\":1,\"k\":2 }";
  const Parsed parsed =
      EveryCut("hermes", "<tool_call>{\"name\": \"f\", \"arguments\": " + arguments + "}</tool_call>");
  EXPECT_THAT(parsed.calls, ElementsAre("f|" + arguments + "|"));
  EXPECT_THAT(Parse("hermes", {R"(<tool_call>{"name":"f","arguments":"{\"a\": \"b\"}"}</tool_call>)"}).calls,
              ElementsAre("f|{\"a\": \"b\"}|"));
}

TEST(ToolForms, WhatIsNoCallIsContentByteForByte) {
  const std::pair<const char*, const char*> texts[] = {
      {"hermes", "plain < text, <tool, <tool_cal and 日本 <tool_call"},
      {"hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}</tool_call>"},
      {"hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}"},
      {"hermes", "<tool_call>{\"name\": \"f\"}</tool_call> more"},
      {"hermes", "<tool_call>{\"name\": 5, \"arguments\": {}}</tool_call>"},
      {"hermes", "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>"},
      {"hermes", "<tool_call>{name: f, arguments: {}}</tool_call>\n\n"},
      {"hermes", "<tool_call>f(a=1)</tool_call>"},
      {"hermes", "  \n "},
      {"hermes", ""},
      {"deepseek",
       "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": \n```<｜tool▁call▁end｜>"},
      {"deepseek", "<｜tool▁calls▁begin｜>nothing<｜tool▁calls▁end｜>"},
      {"deepseek", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}"},
      {"kimi",
       "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{x}<|tool_call_end|>"},
      {"kimi", "<|tool_calls_section_end|> alone"},
      {"mistral", "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}"},
      {"mistral", "[TOOL_CALLS][]"},
      {"mistral", "[TOOL_CALLS]f[ARGS][1]"},
      {"mistral", "[TOOL"},
      {"llama_json", "{\"name\": \"not_offered\", \"parameters\": {}}"},
      {"llama_json", "{\"temperature\": 5}"},
      {"llama_json", "The call is {\"name\": \"add\", \"parameters\": {}}"},
      {"llama_json", "{\"name\": \"add\", \"parameters\": {"},
      {"pythonic", "[1, 2, 3]"},
      {"pythonic", "[not_offered(a=1)]"},
      {"pythonic", "[add(1)]"},
      {"pythonic", "[add(a=1]"},
      {"pythonic", "[add(a=b)]"},
      {"pythonic", "[add(a=1), and more"},
      {"pythonic", "Use [add(a=1)]"},
      {"pythonic", "[]"},
  };
  for (const auto& [form, text] : texts) {
    const Parsed parsed = EveryCut(form, text);
    EXPECT_EQ(parsed.content, text) << form;
    EXPECT_TRUE(parsed.calls.empty()) << form << ": " << text;
  }
  const std::string deep = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": " + std::string(5000, '[') +
                           std::string(5000, ']') + "}}</tool_call>";
  EXPECT_EQ(Parse("hermes", {deep}).content, deep);
  const std::string brackets = "[add(a=" + std::string(100000, '[');
  EXPECT_EQ(Parse("pythonic", {brackets}).content, brackets);
}

// A malformed call does not hide the good one behind it, and what stands between calls comes out.
TEST(ToolForms, GoodCallsAreFoundBesideBadOnes) {
  const Parsed parsed = EveryCut("hermes",
                                 "<tool_call>{bad}</tool_call> then <tool_call>{\"name\": \"f\", \"arguments\": {}}"
                                 "</tool_call> and so on");
  EXPECT_EQ(parsed.content, "<tool_call>{bad}</tool_call> then  and so on");
  EXPECT_THAT(parsed.calls, ElementsAre("f|{}|"));
}

// Text that cannot begin a call is not held back.
TEST(ToolForms, ContentIsStreamed) {
  ToolParser parser({FormNamed("hermes")}, {"f"});
  EXPECT_EQ(parser.Push("Hello").content, "Hello");
  EXPECT_EQ(parser.Push(" wor").content, " wor");
  EXPECT_EQ(parser.Push("ld <to").content, "ld ");
  EXPECT_EQ(parser.Push("ast").content, "<toast");
}

TEST(ToolForms, TemplatesNameTheirForm) {
  const auto names = [](const std::string& source) {
    std::vector<std::string> found;
    for (const ToolForm* form : ToolFormsOf(source)) found.emplace_back(form->name);
    return found;
  };
  EXPECT_TRUE(names("{{ messages }}").empty());
  const auto read = [](const std::filesystem::path& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  };
  const std::filesystem::path root(ATOLL_SOURCE_DIR);
  EXPECT_THAT(names(read(root / "coordinator/chat_template/builtin/llama4.jinja")), ElementsAre("pythonic"));
  const std::filesystem::path published = root / "../shared/chat_templates";
  if (!std::filesystem::is_directory(published)) {
    GTEST_SKIP() << "SKIPPED: ../shared is not beside the repository; published templates were NOT checked";
  }
  const std::pair<const char*, std::vector<std::string>> expected[] = {
      {"deepseek_v3.1.jinja", {"deepseek"}},
      {"deepseek_v3.npm.jinja", {"deepseek"}},
      {"deepseek_r1_llamacpp.jinja", {"deepseek"}},
      {"kimi_k2_instruct.jinja", {"kimi"}},
      {"kimi_k2_thinking.jinja", {"kimi"}},
      {"llama3_2_3b.jinja", {"llama_json"}},
      {"mistral_v7.jinja", {"mistral"}},
      {"qwen3.npm.jinja", {"hermes"}},
      {"smollm3.jinja", {"hermes"}},
      {"gemma3.npm.jinja", {}},
  };
  for (const auto& [file, forms] : expected) EXPECT_EQ(names(read(published / file)), forms) << file;
}

}  // namespace
}  // namespace atl::coordinator
