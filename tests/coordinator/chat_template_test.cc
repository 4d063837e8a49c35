// Chat templates: those of the shipped checkpoint and of our own making; published ones against recorded renders where
// they are at hand; templates that loop, swallow memory or kill their renderer.
#include "coordinator/chat_template/chat_template.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "coordinator/chat_template/builtin.h"
#include "coordinator/chat_template/child.h"
#include "coordinator/chat_template/json_depth.h"

namespace atl::coordinator {
namespace {

using json = nlohmann::ordered_json;
using ::testing::HasSubstr;

const std::string kSource = ATOLL_SOURCE_DIR;
const std::string kModel = kSource + "/models/checkpoints/tiny-deepseek-v3";

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The text, or "error: " and the message.
std::string Render(const std::string& source, const std::string& variables = "{}", ChatTemplateOptions options = {}) {
  auto made = MakeChatTemplate(source, "<BOS>", "<EOS>", options);
  if (!made.ok()) return "error: " + ToString(made.status().message());
  const auto text = (*made)->Render(variables);
  return text.ok() ? *text : "error: " + ToString(text.status().message());
}

TEST(ChatTemplate, TheShippedOne) {
  auto t = LoadChatTemplate(kModel, {});
  ASSERT_TRUE(t.ok()) << t.status();
  EXPECT_EQ(*(*t)->Render(R"({"messages": [{"role": "system", "content": "Be brief."},
      {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"},
      {"role": "user", "content": "日本 \"x\"\n"}], "add_generation_prompt": true})"),
            "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi<｜Assistant｜>Yes?<｜end▁of▁sentence｜>"
            "<｜User｜>日本 \"x\"\n<｜Assistant｜>");
  const auto wrong = (*t)->Render(R"({"messages": [{"role": "cook", "content": "Hi"}]})");
  EXPECT_EQ(wrong.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(ToString(wrong.status().message()), HasSubstr("unknown role cook"));
  EXPECT_EQ(*(*t)->Render(R"({"messages": []})"), "<｜begin▁of▁sentence｜>") << "the next one works";
}

TEST(ChatTemplate, PublishedOnesRenderAsRecorded) {
  const std::string shared = kSource + "/../shared";
  if (!std::filesystem::exists(shared + "/golden/chat_renders.json")) {
    GTEST_SKIP() << "SKIPPED: ../shared is not beside the repository; published templates were NOT checked";
  }
  const json golden = json::parse(ReadAll(shared + "/golden/chat_renders.json"));
  int texts = 0, errors = 0;
  for (const auto& [file, renders] : golden["renders"].items()) {
    auto t = MakeChatTemplate(ReadAll(shared + "/chat_templates/" + file), golden["bos_token"], golden["eos_token"],
                              {.date = "2026-11-22"});
    ASSERT_TRUE(t.ok());
    for (const auto& [name, expected] : renders.items()) {
      const auto text = (*t)->Render(golden["cases"][name].dump());
      if (expected.contains("text")) {
        EXPECT_EQ(text.value_or(ToString(text.status().message())), expected["text"].get<std::string>())
            << file << ' ' << name;
        ++texts;
      } else {
        EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << file << ' ' << name;
        // "TemplateError: the words": the template's own words reach the client.
        const auto words = expected["error"].get<std::string>();
        EXPECT_THAT(ToString(text.status().message()), HasSubstr(words.substr(words.find(": ") + 2)));
        ++errors;
      }
    }
  }
  EXPECT_EQ(texts, 116);
  EXPECT_EQ(errors, 4);
}

TEST(ChatTemplate, SettingsOfHuggingFace) {
  EXPECT_EQ(
      Render("{{ bos_token }}{% for x in [1, 2, 3] %}\n  {% if x == 2 %}\n{% continue %}\n  {% endif %}\n{{ x }}\n"
             "{% endfor %}\n{{ eos_token }}"),
      "<BOS>1\n3\n<EOS>");
  EXPECT_EQ(Render("{{ v | tojson }}", R"({"v": {"z": "<é'&>", "a": [1, null, true]}})"),
            R"({"z": "<é'&>", "a": [1, null, true]})");
  EXPECT_EQ(Render("{{ v | tojson(indent=2) }}", R"({"v": {"b": 1}})"), "{\n  \"b\": 1\n}");
  EXPECT_EQ(Render("{{ strftime_now('%d %b %Y') }}", "{}", {.date = "2026-11-22"}), "22 Nov 2026");
  EXPECT_EQ(Render("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}"), "TrueTrueFalse");
  EXPECT_EQ(Render("{{ tools is none }}", R"({"tools": []})"), "False");
  EXPECT_EQ(Render("{{ bos_token }}", R"({"bos_token": "mine"})"), "mine");
  EXPECT_EQ(Render("{{ self_ }}|{{ self }}", R"({"self": 1})").find("error"), std::string::npos);
  EXPECT_EQ(Render("plain\xf0\x9f\x98\x80"), "plain😀");
  EXPECT_EQ(Render("{% set a = 1 %}{% generation %}{% set a = 2 %}{{ a }}{% endgeneration %}{{ a }}"), "21");
  EXPECT_THAT(Render("{% generation %}"), HasSubstr("error"));
}

TEST(ChatTemplate, RefusesInWords) {
  EXPECT_THAT(Render("{{ raise_exception('no such thing') }}"), HasSubstr("no such thing"));
  EXPECT_THAT(Render("{% if %}"), HasSubstr("error: the chat template refused"));
  EXPECT_THAT(Render("{{ messages[0].content.x.y }}"), HasSubstr("undefined"));
  EXPECT_THAT(Render("{{ ''.__class__.__mro__ }}"), HasSubstr("unsafe"));
  EXPECT_THAT(Render("{{ cycler.__init__.__globals__.os.system('true') }}"), HasSubstr("error"));
  EXPECT_THAT(Render("{% include '/etc/passwd' %}"), HasSubstr("error"));
  EXPECT_THAT(Render("x", "[1]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(Render("x", "{"), HasSubstr("not a JSON object"));
  EXPECT_THAT(Render("x", "{\"a\": \"\xff\"}"), HasSubstr("not a JSON object"));
  EXPECT_THAT(Render("{{ 'x' * 3000000000 }}"), HasSubstr("error"));  // its memory is limited
  EXPECT_THAT(Render("{% for a in range(100) %}{{ 'x' * 1000000 }}{% endfor %}"), HasSubstr("bytes"));
}

TEST(ChatTemplate, DepthIsLimited) {
  const auto nested = [](int depth) {
    return "{\"a\": " + std::string(depth - 1, '[') + "\"[[{\\\"\"" + std::string(depth - 1, ']') + "}";
  };
  EXPECT_EQ(JsonDepth(nested(7)), 7);
  EXPECT_EQ(Render("x", nested(kMaxJsonDepth)), "x");
  EXPECT_THAT(Render("x", nested(kMaxJsonDepth + 1)), HasSubstr("101"));
  EXPECT_THAT(Render("x", nested(2'000'000)), HasSubstr("2000000"));
}

TEST(ChatTemplate, ALoopEndsAtTheDeadlineAndTheNextRenderWorks) {
  auto t = MakeChatTemplate(
      "{% if loop_for_ever %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
      "{% endfor %}{% endif %}done",
      "", "", {.deadline = Seconds(1), .date = ""});
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(*(*t)->Render("{}"), "done");
  EXPECT_EQ((*t)->Render(R"({"loop_for_ever": true})").status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(*(*t)->Render("{}"), "done");
}

TEST(ChatTemplate, ManyThreads) {
  auto t = MakeChatTemplate("{{ n }}", "", "", {});
  std::vector<std::thread> threads;
  for (int n = 0; n < 8; ++n) {
    threads.emplace_back([&, n] {
      for (int i = 0; i < 20; ++i) {
        const int v = n * 100 + i;
        const auto text = (*t)->Render("{\"n\": " + std::to_string(v) + "}");
        EXPECT_TRUE(text.ok() && *text == std::to_string(v)) << text.status();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

class ModelDirectory : public testing::Test {
 protected:
  ModelDirectory() { std::filesystem::create_directories(path_); }
  ~ModelDirectory() override { std::filesystem::remove_all(path_); }
  void Write(const std::string& name, const std::string& text) { std::ofstream(path_ + "/" + name) << text; }
  std::string RenderIt() {
    auto t = LoadChatTemplate(path_, {});
    if (!t.ok()) return "error: " + ToString(t.status().message());
    return (*t)->Render("{}").value_or("render failed");
  }
  const std::string path_ =
      testing::TempDir() + "chat_template_" + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(ModelDirectory, WhereTheTemplateComesFrom) {
  EXPECT_EQ(LoadChatTemplate(path_, {}).status().code(), absl::StatusCode::kNotFound);
  Write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "eos_token": null})");
  EXPECT_EQ(LoadChatTemplate(path_, {}).status().code(), absl::StatusCode::kNotFound);
  Write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "chat_template": "{{ bos_token }}1"})");
  EXPECT_EQ(RenderIt(), "<s>1");
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "no"}, 7,
                                     {"name": "default", "template": "{{ bos_token }}2"}]})");
  EXPECT_EQ(RenderIt(), "2");
  Write("chat_template.jinja", "3");
  EXPECT_EQ(RenderIt(), "3");
  Write("tokenizer_config.json", "{");
  EXPECT_THAT(RenderIt(), HasSubstr("tokenizer_config.json is not a JSON object"));
}

TEST_F(ModelDirectory, ProcessorsAndOurOwnTemplates) {
  Write("config.json", R"({"model_type": "olmo2"})");
  EXPECT_EQ(RenderIt(), "<|endoftext|>");
  Write("config.json", R"({"model_type": "llama4"})");
  EXPECT_EQ(RenderIt(), "<|begin_of_text|>");
  Write("config.json", R"({"model_type": 4})");
  EXPECT_THAT(RenderIt(), HasSubstr("has no chat template"));
  Write("chat_template.json", R"({"chat_template": "of the processor"})");
  EXPECT_EQ(RenderIt(), "of the processor");
  Write("tokenizer_config.json", R"({"chat_template": "of the tokenizer"})");
  EXPECT_EQ(RenderIt(), "of the tokenizer");
  Write("chat_template.json", "[");
  Write("tokenizer_config.json", "{}");
  EXPECT_THAT(RenderIt(), HasSubstr("chat_template.json is not a JSON object"));
}

constexpr const char* kConversation = R"("messages": [{"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hi\n"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "日本"}])";

std::string RenderBuiltin(const std::string& family, const std::string& variables) {
  return Render(BuiltinTemplate(family), "{" + variables + "}");
}

TEST(BuiltinTemplate, Olmo2) {
  EXPECT_EQ(RenderBuiltin("olmo2", kConversation + std::string(R"(, "add_generation_prompt": true)")),
            "<|endoftext|><|system|>\nBe brief.\n<|user|>\n Hi\n\n<|assistant|>\nYes?<|endoftext|>\n<|user|>\n日本\n"
            "<|assistant|>\n");
  EXPECT_EQ(RenderBuiltin("olmo2",
                          R"("messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])"),
            "<|endoftext|><|user|>\na\n<|assistant|>\nb<|endoftext|>");
  EXPECT_THAT(RenderBuiltin("olmo2", R"("messages": [{"role": "tool", "content": "a"}])"), HasSubstr("not tool"));
}

TEST(BuiltinTemplate, Llama4) {
  EXPECT_EQ(RenderBuiltin("llama4", kConversation + std::string(R"(, "add_generation_prompt": true)")),
            "<|begin_of_text|><|header_start|>system<|header_end|>\n\nBe brief.<|eot|>"
            "<|header_start|>user<|header_end|>\n\n Hi\n<|eot|><|header_start|>assistant<|header_end|>\n\nYes?<|eot|>"
            "<|header_start|>user<|header_end|>\n\n日本<|eot|><|header_start|>assistant<|header_end|>\n\n");
  EXPECT_EQ(RenderBuiltin("llama4", R"("messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}])"),
            "<|begin_of_text|><|header_start|>user<|header_end|>\n\na<|eot|>");
  EXPECT_THAT(RenderBuiltin("llama4", R"("messages": [{"role": "cook", "content": "a"}])"), HasSubstr("not cook"));
  EXPECT_THAT(RenderBuiltin("llama4", R"("messages": [{"role": "user", "content": [{"type": "image"}]}])"),
              HasSubstr("only text is served, not image"));
}

TEST(BuiltinTemplate, Llama4Tools) {
  const std::string text = RenderBuiltin("llama4", R"("messages": [{"role": "user", "content": "Weather?"},
      {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "look", "arguments": {"city": "Oslo", "n": 2}}},
       {"function": {"name": "stop", "arguments": {}}}]}, {"role": "tool", "content": "rain"}],
      "tools": [{"type": "function", "function": {"name": "look"}}])");
  EXPECT_THAT(
      text,
      HasSubstr("<|begin_of_text|><|header_start|>system<|header_end|>\n\nHere is a list of functions in JSON format "
                "that you can invoke:\n[\n    {\n        \"name\": \"look\"\n    }\n]\n\nShould you decide"));
  EXPECT_THAT(text, HasSubstr("<|header_start|>assistant<|header_end|>\n\n[look(city=\"Oslo\", n=2), stop()]<|eot|>"
                              "<|header_start|>ipython<|header_end|>\n\nrain<|eot|>"));
}

TEST(LineChild, AsksAgainWhenItFindsItsChildGone) {
  // Answers once with its process id, then ends.
  LineChild child({"/bin/sh", "-c", "echo; read line; echo $$"});
  const auto first = child.Ask("x", Seconds(5));
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = child.Ask("x", Seconds(5));
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_NE(*first, *second);
}

TEST(LineChild, SaysWhatIsMissing) {
  LineChild missing({"/nowhere/python3"});
  const auto answer = missing.Ask("x", Seconds(5));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(ToString(answer.status().message()), HasSubstr("/nowhere/python3"));
  LineChild silent({"/bin/sh", "-c", "echo; exec sleep 100"});
  EXPECT_EQ(silent.Ask("x", Seconds(0.2)).status().code(), absl::StatusCode::kDeadlineExceeded);
  // More than a socket's buffer, to one that never reads.
  EXPECT_EQ(silent.Ask(std::string(8 << 20, 'x'), Seconds(0.2)).status().code(), absl::StatusCode::kDeadlineExceeded);
  // Longer than what a socket takes at once: it has ended while it is written to.
  const auto longer = LineChild({"/nowhere/python3"}).Ask(std::string(1 << 22, 'x'), Seconds(5));
  EXPECT_THAT(ToString(longer.status().message()), HasSubstr("/nowhere/python3"));
}

TEST(LineChild, WhatItTakesToStartIsNotTheQuestions) {
  LineChild slow({"/bin/sh", "-c", "sleep 1; echo; read line; echo $line"});
  const auto answer = slow.Ask("x", Seconds(0.9));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(*answer, "x");
  LineChild never({"/bin/sleep", "100"}, /*starting=*/Seconds(0.2));
  EXPECT_EQ(never.Ask("x", Seconds(60)).status().code(), absl::StatusCode::kDeadlineExceeded);
  LineChild chatty({"/bin/sh", "-c", "echo hello; read line; echo $line"});
  EXPECT_THAT(ToString(chatty.Ask("x", Seconds(5)).status().message()), HasSubstr("hello"));
}

TEST(LineChild, InheritsNoFile) {
  LineChild child({"/bin/sh", "-c", "echo; while read line; do ls /proc/$$/fd | tr '\\n' ' '; echo; done"});
  const int extra = fcntl(0, F_DUPFD, 100);  // without O_CLOEXEC; a number that no shell takes for itself
  const auto files = child.Ask("x", Seconds(5));
  close(extra);
  ASSERT_TRUE(files.ok()) << files.status();
  for (const std::string& word : {std::string("0"), std::string("1"), std::string("2")}) {
    EXPECT_THAT(*files, HasSubstr(word));
  }
  EXPECT_EQ(files->find(std::to_string(extra) + " "), std::string::npos) << *files;
}

}  // namespace
}  // namespace atl::coordinator
