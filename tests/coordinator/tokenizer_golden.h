// What tokenizer tests share: golden lines of {text (if it encodes to them), ids, decoded}, and where third parties'
// files are.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "coordinator/tokenizer/formats/file.h"
#include "coordinator/tokenizer/tokenizer.h"
#include "coordinator/tokenizer/utf8.h"

namespace atl::coordinator {

inline const std::string kSource = ATOLL_SOURCE_DIR;
inline const std::string kTinyModel = kSource + "/models/checkpoints/tiny-deepseek-v3";
inline const std::string kShared = kSource + "/../shared";

// Third parties' tokenizers are never copied into the project.
#define SKIP_WITHOUT_SHARED(what)                                                                    \
  if (!std::filesystem::exists(kShared + "/" + (what))) {                                            \
    GTEST_SKIP() << "SKIPPED: ../shared/" << (what) << " is not beside the repository; NOT checked"; \
  }

inline std::unique_ptr<Tokenizer> Load(const std::string& path) {
  auto tokenizer = LoadTokenizer(path);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? std::move(tokenizer).value() : nullptr;
}

inline std::vector<nlohmann::json> ReadJsonLines(const std::string& path) {
  const auto text = ReadMaybeGzipped(path);
  EXPECT_TRUE(text.ok()) << text.status();
  std::istringstream in(text.value_or(""));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

// Token by token; no part of it is half a character.
inline std::string Streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip_special) {
  StreamDecoder decoder(&tokenizer, skip_special);
  std::string text;
  for (const int32_t id : ids) {
    const std::string part = decoder.Push(id);
    EXPECT_EQ(Utf8End(part, 0), part.size()) << "half a character after id " << id;
    text += part;
  }
  return text + decoder.Finish();
}

inline void CheckGolden(const Tokenizer& tokenizer, const nlohmann::json& golden) {
  const auto ids = golden.at("ids").get<std::vector<int32_t>>();
  const auto decoded = golden.at("decoded").get<std::string>();
  if (golden.contains("text")) {
    EXPECT_EQ(tokenizer.Encode(golden["text"].get<std::string>(), {}), ids) << golden;
  }
  EXPECT_EQ(tokenizer.Decode(ids, /*skip_special=*/false), decoded) << golden;
  EXPECT_EQ(Streamed(tokenizer, ids, /*skip_special=*/false), decoded) << golden;
}

}  // namespace atl::coordinator
