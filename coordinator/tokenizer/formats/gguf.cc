#include "coordinator/tokenizer/formats/gguf.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "coordinator/tokenizer/byte_level.h"
#include "coordinator/tokenizer/known_expressions.h"
#include "coordinator/tokenizer/pipeline.h"
#include "coordinator/tokenizer/unicode.h"
#include "coordinator/tokenizer/utf8.h"

namespace atl::coordinator {
namespace {

constexpr const char* kSpaceMark = "\xe2\x96\x81";  // ▁

struct PreRules {
  const Expressions* expressions = nullptr;
  bool ignore_merges = false, add_bos = false;
};

// What llama.cpp splits by where a file says nothing.
const Expressions& DefaultExpressions() {
  static const Expressions e = {R"([\p{P}\$\+<=>\^~\|]+)", Gpt2Expressions()[0], R"(\p{N}+)", "[0-9][0-9][0-9]"};
  return e;
}

absl::StatusOr<PreRules> RulesNamed(const std::string& pre) {
  const auto is = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), pre) != names.end();
  };
  if (is({"", "default"})) return PreRules{&DefaultExpressions()};
  if (is({"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"})) return PreRules{&Cl100kExpressions(), true, true};
  if (is({"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"})) return PreRules{&Cl100kExpressions()};
  if (is({"qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"})) return PreRules{&Qwen2Expressions()};
  if (is({"deepseek-v3", "hunyuan-dense"})) return PreRules{&DeepSeekV3Expressions()};
  if (is({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})) {
    return PreRules{&DigitsGpt2Expressions()};
  }
  if (is({"gpt-2", "phi-2", "olmo", "mpt", "jais", "exaone4", "trillion"})) return PreRules{&Gpt2Expressions()};
  if (is({"gpt-4o", "llama4"})) return PreRules{&O200kExpressions()};
  if (is({"tekken"})) return PreRules{&TekkenExpressions(), true, true};
  if (is({"kimi-k2"})) return PreRules{&KimiK2Expressions()};
  return Unimplemented(
      "tokenizer.ggml.pre is \"{}\", which is not supported; among others llama-bpe, llama4, qwen2, deepseek-v3, "
      "kimi-k2, "
      "smollm, tekken, gpt-2, olmo, dbrx and default are",
      pre);
}

class GgufReader {
 public:
  explicit GgufReader(const GgufTokenizerMetadata& metadata) : m_(metadata) {}

  absl::StatusOr<std::unique_ptr<Tokenizer>> Read() {
    const size_t count = m_.tokens.size();
    if (count == 0) return InvalidArgument("tokenizer.ggml.tokens is empty");
    if (count > Vocabulary::kMaxId) return InvalidArgument("{} tokens are over {}", count, Vocabulary::kMaxId);
    if (!m_.token_types.empty() && m_.token_types.size() != count) {
      return InvalidArgument("{} tokens have {} types", count, m_.token_types.size());
    }
    bool add_bos = false;
    if (m_.model == "gpt2") {
      ATOLL_RETURN_IF_ERROR(ReadByteLevel(&add_bos));
    } else if (m_.model == "llama") {
      add_bos = true;
      ATOLL_RETURN_IF_ERROR(ReadSentencePiece());
    } else {
      return Unimplemented("tokenizer.ggml.model is \"{}\"; gpt2 and llama are supported", m_.model);
    }
    ATOLL_RETURN_IF_ERROR(AddSide(m_.add_bos.value_or(add_bos), m_.bos_id, "bos", &parts_.before));
    ATOLL_RETURN_IF_ERROR(AddSide(m_.add_eos.value_or(false), m_.eos_id, "eos", &parts_.after));
    ATOLL_ASSIGN_OR_RETURN(Bpe bpe, Bpe::Make(std::move(bpe_)));
    return MakePipeline(std::move(parts_), std::move(bpe));
  }

 private:
  GgufTokenType Type(size_t id) const {
    return m_.token_types.empty() ? GgufTokenType::kNormal : static_cast<GgufTokenType>(m_.token_types[id]);
  }
  absl::Status AddSide(bool add, std::optional<int64_t> id, const char* name, std::vector<int32_t>* side) {
    if (!add) return absl::OkStatus();
    if (!id || *id < 0 || *id >= static_cast<int64_t>(m_.tokens.size())) {
      return InvalidArgument("the {} token is added to texts, but its id is {}", name,
                             id ? std::to_string(*id) : "not given");
    }
    side->push_back(static_cast<int32_t>(*id));
    return absl::OkStatus();
  }
  // Tokens that are found in a text as they are. False: this is none.
  absl::StatusOr<bool> AddIfFound(int32_t id) {
    const GgufTokenType type = Type(id);
    const std::string& token = m_.tokens[id];
    const bool hidden = type == GgufTokenType::kControl || type == GgufTokenType::kUnknown;
    if (token.empty() || (!hidden && type != GgufTokenType::kUserDefined)) return false;
    ATOLL_RETURN_IF_ERROR(parts_.added.Add({.text = token, .id = id}));
    parts_.tokens.Set(id, token, hidden);
    return true;
  }

  absl::Status ReadByteLevel(bool* add_bos) {
    ATOLL_ASSIGN_OR_RETURN(const PreRules rules, RulesNamed(m_.pre));
    *add_bos = rules.add_bos;
    ATOLL_RETURN_IF_ERROR(parts_.pre_tokenizer.AddIsolating(*rules.expressions, Dialect::kRust));
    parts_.byte_level = true;
    bpe_.ignore_merges = rules.ignore_merges;
    for (int32_t id = 0; id < static_cast<int32_t>(m_.tokens.size()); ++id) {
      const std::string& token = m_.tokens[id];
      ATOLL_ASSIGN_OR_RETURN(const bool found, AddIfFound(id));
      const std::optional<std::string> bytes = ByteLevelDecode(token);
      if (!found) parts_.tokens.Set(id, bytes.value_or(token));
      if (token.empty()) continue;
      if (bytes && Type(id) != GgufTokenType::kControl) {
        ATOLL_RETURN_IF_ERROR(bpe_.vocabulary.Add(id, *bytes));
      } else {
        parts_.odd_tokens.emplace(token, id);
      }
    }
    bpe_.vocabulary.ExtendTo(static_cast<int64_t>(m_.tokens.size()));
    return ReadMerges();
  }

  absl::Status ReadMerges() {
    if (m_.merges.empty()) return InvalidArgument("tokenizer.ggml.merges is missing or empty");
    // -1: no token, -2: one that text never becomes.
    const auto find = [&](const std::string& token) {
      const std::optional<std::string> bytes = ByteLevelDecode(token);
      const int32_t id = bytes ? bpe_.vocabulary.Find(*bytes) : -1;
      return id < 0 && parts_.odd_tokens.contains(token) ? -2 : id;
    };
    for (size_t rank = 0; rank < m_.merges.size(); ++rank) {
      const std::string& merge = m_.merges[rank];
      const size_t space = merge.find(' ', 1);
      if (space == std::string::npos) return InvalidArgument("merge {} is \"{}\", not \"left right\"", rank, merge);
      const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
      const int32_t a = find(left), b = find(right), merged = find(left + right);
      if (a == -1 || b == -1 || merged == -1) {
        return InvalidArgument("merge {} joins \"{}\" and \"{}\", of which one, or their union, is no token", rank,
                               left, right);
      }
      // The first one of a pair counts.
      if (a >= 0 && b >= 0 && merged >= 0) {
        bpe_.merges.Put(a, b, {static_cast<int32_t>(rank), merged}, /*replace=*/false);
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadSentencePiece() {
    if (m_.scores.size() != m_.tokens.size()) {
      return InvalidArgument("{} tokens have {} scores", m_.tokens.size(), m_.scores.size());
    }
    bpe_.units = BpeUnits::kCharacters;
    bpe_.bytes_never_merge = true;
    parts_.decode.joined = false;
    parts_.decode.byte_fallback = true;
    for (int32_t id = 0; id < static_cast<int32_t>(m_.tokens.size()); ++id) {
      ATOLL_RETURN_IF_ERROR(AddSentencePieceToken(id));
    }
    bpe_.vocabulary.ExtendTo(static_cast<int64_t>(m_.tokens.size()));
    if (m_.unknown_id && *m_.unknown_id >= 0 && *m_.unknown_id < static_cast<int64_t>(m_.tokens.size())) {
      bpe_.unknown = static_cast<int32_t>(*m_.unknown_id);
    }
    const bool bytes_missing = std::count(bpe_.byte_tokens.begin(), bpe_.byte_tokens.end(), -1) > 0;
    if (bytes_missing && bpe_.unknown < 0) {
      return InvalidArgument("there are neither all byte tokens nor an unknown one");
    }
    if (m_.add_space_prefix.value_or(true)) {
      parts_.normalizer.AddPrepend(kSpaceMark);
      parts_.decode.strip = {.text = " ", .left = 1};
    }
    ATOLL_ASSIGN_OR_RETURN(Matcher spaces, Matcher::Literal(" "));
    parts_.normalizer.AddReplace(std::move(spaces), kSpaceMark);
    AddScoredMerges();
    return absl::OkStatus();
  }

  absl::Status AddSentencePieceToken(int32_t id) {
    const std::string& token = m_.tokens[id];
    if (std::isnan(m_.scores[id])) return InvalidArgument("the score of token {} is not a number", id);
    ATOLL_ASSIGN_OR_RETURN(const bool found, AddIfFound(id));
    if (!found) parts_.tokens.Set(id, ReplaceAll(token, kSpaceMark, " "));
    switch (Type(id)) {
      case GgufTokenType::kControl:
      case GgufTokenType::kUnknown:
        parts_.odd_tokens.emplace(token, id);
        return absl::OkStatus();
      case GgufTokenType::kByte: {
        const std::string digits = token.size() == 6 && token.starts_with("<0x") ? token.substr(3, 2) : "";
        if (digits.empty() || digits.find_first_not_of("0123456789ABCDEFabcdef") != std::string::npos) {
          return InvalidArgument("token {} is a byte, but spelled \"{}\"", id, token);
        }
        const int byte = std::stoi(digits, nullptr, 16);
        bpe_.byte_tokens[byte] = id;
        parts_.tokens.SetByte(id, static_cast<uint8_t>(byte));
        parts_.odd_tokens.emplace(token, id);
        return absl::OkStatus();
      }
      default:
        break;
    }
    if (token.empty()) return absl::OkStatus();
    if (Utf8End(token, 0) != token.size()) return InvalidArgument("token {} is not UTF-8", id);
    return bpe_.vocabulary.Add(id, token);
  }

  // The symbol of a part of a token: a token, or a character that is none. -1: neither.
  int32_t Symbol(std::string_view part) {
    if (const int32_t id = bpe_.vocabulary.Find(part); id >= 0) return id;
    if (Utf8At(part, 0).bytes != part.size()) return -1;
    const uint32_t c = DecodeUtf8(part.data()).value;
    const auto [found, added] = extra_.emplace(c, static_cast<int32_t>(bpe_.vocabulary.size() + extra_.size()));
    if (added) bpe_.extra_characters.push_back(c);
    return found->second;
  }

  // Every way to put a token together from two symbols, ranked by the token's score; equal scores are one rank.
  void AddScoredMerges() {
    std::vector<float> scores = m_.scores;
    std::sort(scores.begin(), scores.end(), std::greater<float>());
    scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
    for (int32_t id = 0; id < bpe_.vocabulary.size(); ++id) {
      const std::string_view token = bpe_.vocabulary.Token(id);
      const auto rank = std::lower_bound(scores.begin(), scores.end(), m_.scores[id], std::greater<float>());
      for (size_t cut = 0; cut < token.size();) {
        cut += Utf8At(token, cut).bytes;
        if (cut == token.size()) break;
        const int32_t left = Symbol(token.substr(0, cut)), right = Symbol(token.substr(cut));
        if (left < 0 || right < 0) continue;
        bpe_.merges.Put(left, right, {static_cast<int32_t>(rank - scores.begin()), id});
      }
    }
  }

  const GgufTokenizerMetadata& m_;
  PipelineParts parts_;
  BpeParts bpe_;
  std::map<uint32_t, int32_t> extra_;  // characters that are no tokens -> symbol
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadGgufTokenizer(const GgufTokenizerMetadata& metadata) {
  return GgufReader(metadata).Read();
}

}  // namespace atl::coordinator
