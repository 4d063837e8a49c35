// Every part of tokenizer.json in random combinations, against what Hugging Face's `tokenizers` answers:
// tests/golden/tokenizer_features.jsonl.gz, which make_tokenizer_features.py wrote.
#include "coordinator/tokenizer/formats/parse.h"
#include "tests/coordinator/tokenizer_golden.h"

namespace atl::coordinator {
namespace {

using nlohmann::json;

json FileOf(const json& models, const json& line) {
  json model = models.at(line.at("model").get<size_t>());
  model.update(line.at("changes"));
  if (line.at("bytes").get<bool>()) {
    int64_t next = 0;
    for (const auto& [token, id] : model["vocab"].items()) next = std::max(next, id.get<int64_t>() + 1);
    for (int byte = 0; byte < 256; ++byte) model["vocab"][fmt::format("<0x{:02X}>", byte)] = next++;
  }
  json file = line.at("rest");
  file["model"] = std::move(model);
  return file;
}

TEST(TokenizerFeatures, AreThoseOfHuggingFace) {
  std::vector<json> lines = ReadJsonLines(kSource + "/tests/golden/tokenizer_features.jsonl.gz");
  const json models = lines.at(0);
  int files = 0, cases = 0, refused = 0;
  for (auto line = lines.begin() + 1; line != lines.end(); ++line) {
    const json file = FileOf(models, *line);
    const auto t = ParseTokenizer(file.dump(), "");
    if (!t.ok()) {  // only for a reason
      const std::string message = ToString(t.status().message());
      EXPECT_TRUE(message.find("prepend_scheme \"first\"") != std::string::npos ||
                  message.find("has no content") != std::string::npos || message.find("are both") != std::string::npos)
          << message;
      ++refused;
      continue;
    }
    ++files;
    for (const json& c : line->at("cases")) {
      SCOPED_TRACE((*line)["rest"].dump() + (*line)["changes"].dump());
      CheckGolden(**t, c);
      const auto ids = c.at("ids").get<std::vector<int32_t>>();
      EXPECT_EQ((*t)->Decode(ids, /*skip_special=*/true), c.at("shown").get<std::string>()) << c;
      if (c.contains("text")) {
        EXPECT_EQ((*t)->Encode(c["text"].get<std::string>(), {.add_special = true}),
                  c.at("special").get<std::vector<int32_t>>())
            << c;
      }
      ++cases;
    }
  }
  EXPECT_GT(files, 140);
  EXPECT_GT(cases, 2000);
  EXPECT_LT(refused, 12);
}

}  // namespace
}  // namespace atl::coordinator
