// 32 tokens: letters, both halves of "é", a pair of letters, one special and one that ends the answer.
#pragma once

#include "coordinator/engine/request.h"
#include "coordinator/tokenizer/tokenizer.h"
#include "tests/coordinator/fake_ranks.h"

namespace atl::coordinator {

class FakeTokenizer : public Tokenizer {
 public:
  static constexpr int kFirstHalf = 26, kSecondHalf = 27, kPair = 28, kSpecial = 29, kSpace = 30, kEnd = 31, kSize = 32;

  std::vector<int32_t> Encode(const std::string& text, const EncodeOptions&) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(c == ' ' ? kSpace : c - 'a');
    return ids;
  }
  std::string TokenBytes(int32_t id) const override {
    if (id < 26) return std::string(1, static_cast<char>('a' + id));
    const char* const others[] = {"\xC3", "\xA9", "ab", "<special>", " ", "<end>"};
    return id < kSize ? others[id - 26] : "";
  }
  bool IsSpecial(int32_t id) const override { return id == kSpecial || id == kEnd; }
  int64_t size() const override { return kSize; }
  int32_t Find(const std::string&) const override { return -1; }
};

struct Answer {
  std::string text;
  std::vector<int32_t> tokens;
  FinishReason finish = FinishReason::kLength;
  bool operator==(const Answer&) const = default;
};

// What `request` gives when nobody else is there: the plain loop, the whole text looked through after every token.
inline Answer AnswerAlone(const Request& request) {
  const FakeTokenizer tokenizer;
  Answer answer;
  std::vector<int32_t> all = request.prompt_ids, shown;
  while (static_cast<int64_t>(answer.tokens.size()) < request.max_tokens) {
    const int32_t token = NextToken(request.sampling.seed(), all, FakeTokenizer::kSize);
    all.push_back(token);
    answer.tokens.push_back(token);
    const bool stop_id = std::count(request.stop_ids.begin(), request.stop_ids.end(), token) > 0;
    if (stop_id || (token == FakeTokenizer::kEnd && !request.ignore_eos)) {
      answer.finish = FinishReason::kStop;
      break;
    }
    shown.push_back(token);
    const std::string text = tokenizer.Decode(shown, true);
    size_t cut = std::string::npos;
    for (const std::string& stop : request.stop) cut = std::min(cut, text.find(stop));
    if (cut != std::string::npos) {
      answer.text = text.substr(0, cut);
      answer.finish = FinishReason::kStop;
      return answer;
    }
  }
  answer.text = tokenizer.Decode(shown, true);
  return answer;
}

}  // namespace atl::coordinator
