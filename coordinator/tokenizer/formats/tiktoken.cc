#include "coordinator/tokenizer/formats/tiktoken.h"

#include <charconv>
#include <map>

#include "coordinator/tokenizer/formats/published.h"
#include "coordinator/tokenizer/formats/ranks.h"
#include "coordinator/tokenizer/formats/whole_number.h"

namespace atl::coordinator {
namespace {

using nlohmann::json;

constexpr int64_t kMaxSpecials = 1 << 16;  // published files have 1000

// The next word of `text` from `at` on, which moves past it; words are parted by spaces and line ends.
std::string_view NextWord(std::string_view text, size_t* at) {
  const size_t begin = text.find_first_not_of(" \r\n", *at);
  if (begin == std::string_view::npos) {
    *at = text.size();
    return "";
  }
  *at = std::min(text.find_first_of(" \r\n", begin), text.size());
  return text.substr(begin, *at - begin);
}

absl::StatusOr<int64_t> Number(std::string_view word) {
  int32_t number = -1;  // so that counting on in 64 bits cannot overflow
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  const bool whole = error == std::errc() && end == word.data() + word.size();
  if (!whole || number < 0) return InvalidArgument("\"{}\" is no rank", word);
  return number;
}

// Lines "! FIRST base64 base64 ...": the ranks from FIRST on.
absl::Status ReadRankLists(std::string_view text, RankedTokens* ranked) {
  int64_t rank = 0;
  for (size_t at = 0; at < text.size();) {
    const std::string_view word = NextWord(text, &at);
    if (word == "!") {
      ATOLL_ASSIGN_OR_RETURN(rank, Number(NextWord(text, &at)));
    } else if (!word.empty()) {
      ATOLL_ASSIGN_OR_RETURN(std::string bytes, DecodeBase64(word));
      ranked->tokens.emplace_back(std::move(bytes), rank++);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTiktokenLines(const std::string& text, const json& config) {
  RankedTokens ranked;
  for (size_t at = 0; at < text.size();) {
    const std::string_view word = NextWord(text, &at);
    if (word.empty()) break;
    ATOLL_ASSIGN_OR_RETURN(std::string bytes, DecodeBase64(word));
    ATOLL_ASSIGN_OR_RETURN(const int64_t rank, Number(NextWord(text, &at)));
    ranked.tokens.emplace_back(std::move(bytes), rank);
  }
  ATOLL_RETURN_IF_ERROR(CompletePublished(&ranked));
  const auto listed = config.find("added_tokens_decoder");
  if (listed != config.end() && listed->is_object() && !listed->empty()) {
    // Ids that are not listed keep their published names.
    std::map<int64_t, RankedSpecial> special;
    for (const RankedSpecial& token : ranked.special) special[token.id] = token;
    for (const auto& [id, token] : listed->items()) {
      ATOLL_ASSIGN_OR_RETURN(const int64_t number, Number(id));
      special[number] = {token.at("content").get<std::string>(), number, token.value("special", true)};
    }
    ranked.special.clear();
    for (const auto& [id, token] : special) ranked.special.push_back(token);
  }
  return MakeRankedTokenizer(std::move(ranked));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTiktokenJson(const json& file) {
  RankedTokens ranked;
  ranked.expression = file.at("pat_str").get<std::string>();
  const json special = file.value("special_tokens", json::object());
  for (const auto& [text, id] : special.items()) {
    ATOLL_ASSIGN_OR_RETURN(const int64_t number, WholeNumber(id, fmt::format("the id of \"{}\"", Shown(text))));
    ranked.special.push_back({text, number});
  }
  ATOLL_RETURN_IF_ERROR(ReadRankLists(file.at("bpe_ranks").get_ref<const std::string&>(), &ranked));
  return MakeRankedTokenizer(std::move(ranked));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTekken(const json& file) {
  const json& config = file.at("config");
  RankedTokens ranked;
  ranked.expression = config.at("pattern").get<std::string>();
  ATOLL_ASSIGN_OR_RETURN(const int64_t specials,
                         WholeNumber(config.at("default_num_special_tokens"), "default_num_special_tokens"));
  ATOLL_ASSIGN_OR_RETURN(const int64_t size, WholeNumber(config.at("default_vocab_size"), "default_vocab_size"));
  if (specials > kMaxSpecials || size < specials) {
    return InvalidArgument("it has {} tokens, {} of them special", size, specials);
  }
  const int64_t used = size - specials;  // ranks beyond are not
  ranked.first_id = specials;
  if (file.contains("bpe_ranks")) {
    ATOLL_RETURN_IF_ERROR(ReadRankLists(file.at("bpe_ranks").get_ref<const std::string&>(), &ranked));
  } else {
    for (const json& token : file.at("vocab")) {
      ATOLL_ASSIGN_OR_RETURN(std::string bytes, DecodeBase64(token.at("token_bytes").get<std::string>()));
      ATOLL_ASSIGN_OR_RETURN(const int64_t rank, WholeNumber(token.at("rank"), "a token's rank"));
      ranked.tokens.emplace_back(std::move(bytes), rank);
    }
  }
  std::erase_if(ranked.tokens, [&](const auto& token) { return token.second >= used; });
  ranked.special = TekkenSpecials(specials);
  if (file.contains("special_tokens") && file.at("special_tokens").is_array()) {
    const json& listed = file.at("special_tokens");
    for (RankedSpecial& token : ranked.special) token.text = fmt::format("<SPECIAL_{}>", token.id);
    for (const json& token : listed) {
      ATOLL_ASSIGN_OR_RETURN(const int64_t rank, WholeNumber(token.at("rank"), "a special token's rank"));
      if (rank >= specials) return InvalidArgument("a special token has rank {} of {}", rank, specials);
      ranked.special[rank] = {token.at("token_str").get<std::string>(), rank, token.value("is_control", true)};
    }
  }
  ranked.bos = "<s>";
  return MakeRankedTokenizer(std::move(ranked));
}

}  // namespace atl::coordinator
