#include "coordinator/tokenizer/formats/hf_steps.h"

#include "coordinator/tokenizer/formats/whole_number.h"
#include "coordinator/tokenizer/unicode.h"

namespace atl::coordinator {
namespace {

using nlohmann::json;

absl::StatusOr<Matcher> ReadPattern(const json& pattern) {
  if (pattern.contains("String")) return Matcher::Literal(pattern.at("String").get<std::string>());
  return Matcher::Regex(pattern.at("Regex").get<std::string>(), Dialect::kOniguruma);
}

// One character, as the file's fields of that kind are.
absl::StatusOr<std::string> ReadCharacter(const json& node, const char* key) {
  const auto text = node.at(key).get<std::string>();
  if (text.empty() || DecodeUtf8(text.data()).bytes != text.size()) {
    return InvalidArgument("{} is \"{}\", not one character", key, text);
  }
  return text;
}

// "always" unless given; the older add_prefix_space may say no.
absl::StatusOr<PrependScheme> ReadScheme(const json& node) {
  const std::string name = node.value("prepend_scheme", "always");
  PrependScheme scheme = PrependScheme::kAlways;
  if (name == "first") {
    scheme = PrependScheme::kFirst;
  } else if (name == "never") {
    scheme = PrependScheme::kNever;
  } else if (name != "always") {
    return InvalidArgument("Metaspace has prepend_scheme \"{}\"; always, first and never exist", name);
  }
  if (!IsNull(node, "add_prefix_space") && !node.at("add_prefix_space").get<bool>()) {
    if (node.contains("prepend_scheme") && scheme != PrependScheme::kNever) {
      return InvalidArgument("Metaspace has prepend_scheme \"{}\" and no add_prefix_space", name);
    }
    scheme = PrependScheme::kNever;
  }
  return scheme;
}

class PreTokenizerReader {
 public:
  explicit PreTokenizerReader(bool may_delete) : may_delete_(may_delete) {}

  absl::StatusOr<PreTokenizerSteps> Read(const json& node) {
    ATOLL_RETURN_IF_ERROR(Step(node));
    ATOLL_RETURN_IF_ERROR(Flush());
    return std::move(result_);
  }

 private:
  absl::Status Step(const json& node) {
    const std::string type = TypeOf(node);
    if (type == "Sequence") {
      for (const json& step : node.at("pretokenizers")) ATOLL_RETURN_IF_ERROR(Step(step));
      return absl::OkStatus();
    }
    if (type == "null") return absl::OkStatus();
    if (result_.byte_level) return Unimplemented("pre-tokenizer \"{}\" after ByteLevel is not supported", type);
    if (type == "Split") return ReadSplit(node);
    if (type == "ByteLevel") return ReadByteLevel(node);
    if (type == "Digits" && node.value("individual_digits", false)) {
      isolating_.emplace_back(R"(\p{N})");
      return absl::OkStatus();
    }
    ATOLL_RETURN_IF_ERROR(Flush());
    if (type == "Metaspace") return ReadMetaspace(node);
    return ReadByClass(type, node);
  }

  absl::Status ReadSplit(const json& node) {
    ATOLL_ASSIGN_OR_RETURN(const SplitBehavior behavior, SplitBehaviorNamed(node.at("behavior").get<std::string>()));
    const json& pattern = node.at("pattern");
    if (behavior == SplitBehavior::kIsolated && pattern.contains("Regex")) {
      isolating_.push_back(pattern.at("Regex").get<std::string>());
      return absl::OkStatus();
    }
    ATOLL_RETURN_IF_ERROR(Flush());
    ATOLL_ASSIGN_OR_RETURN(Matcher matcher, ReadPattern(pattern));
    result_.steps.AddSplit({std::move(matcher), behavior, node.value("invert", false)});
    return absl::OkStatus();
  }

  absl::Status ReadByteLevel(const json& node) {
    if (node.value("add_prefix_space", true)) {
      ATOLL_RETURN_IF_ERROR(Flush());
      result_.steps.AddPrefixSpace();
    }
    if (node.value("use_regex", true)) isolating_.push_back(Gpt2Expressions()[0]);
    result_.byte_level = true;
    return absl::OkStatus();
  }

  absl::Status ReadMetaspace(const json& node) {
    ATOLL_ASSIGN_OR_RETURN(const std::string mark, ReadCharacter(node, "replacement"));
    ATOLL_ASSIGN_OR_RETURN(const PrependScheme scheme, ReadScheme(node));
    if (scheme == PrependScheme::kFirst && (may_delete_ || !result_.steps.empty())) {
      return Unimplemented("Metaspace with prepend_scheme \"first\" after steps that cut or delete is not supported");
    }
    result_.steps.AddMetaspace(mark, scheme);
    if (IsNull(node, "split") || node.at("split").get<bool>()) {
      ATOLL_ASSIGN_OR_RETURN(Matcher matcher, Matcher::Literal(mark));
      result_.steps.AddSplit({std::move(matcher), SplitBehavior::kMergedWithNext, false});
    }
    return absl::OkStatus();
  }

  absl::Status ReadByClass(const std::string& type, const json& node) {
    const auto add = [&](Matcher matcher, SplitBehavior behavior, bool invert = false) {
      result_.steps.AddSplit({std::move(matcher), behavior, invert});
      return absl::OkStatus();
    };
    if (type == "Digits") return add(Matcher::Characters(kNumber), SplitBehavior::kContiguous);
    if (type == "WhitespaceSplit") return add(Matcher::Characters(kSpace), SplitBehavior::kRemoved);
    if (type == "Punctuation") {
      ATOLL_ASSIGN_OR_RETURN(const SplitBehavior behavior, SplitBehaviorNamed(node.value("behavior", "Isolated")));
      return add(Matcher::Punctuation(), behavior);
    }
    if (type == "Whitespace") {
      ATOLL_ASSIGN_OR_RETURN(Matcher words, Matcher::Regex(R"(\w+|[^\w\s]+)", Dialect::kRust));
      return add(std::move(words), SplitBehavior::kRemoved, /*invert=*/true);
    }
    return Unimplemented(
        "pre-tokenizer \"{}\" is not supported; Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace, "
        "WhitespaceSplit and Sequence are",
        type);
  }

  absl::Status Flush() {
    ATOLL_RETURN_IF_ERROR(result_.steps.AddIsolating(isolating_, Dialect::kOniguruma));
    isolating_.clear();
    return absl::OkStatus();
  }

  const bool may_delete_;
  Expressions isolating_;  // not yet steps: together they may have a scanner
  PreTokenizerSteps result_;
};

absl::Status ReadStrip(const json& step, StripRule* strip) {
  ATOLL_ASSIGN_OR_RETURN(strip->text, ReadCharacter(step, "content"));
  ATOLL_ASSIGN_OR_RETURN(strip->left, WholeNumber(step.at("start"), "a Strip's start"));
  ATOLL_ASSIGN_OR_RETURN(strip->right, WholeNumber(step.at("stop"), "a Strip's stop"));
  return absl::OkStatus();
}

// A decoder's steps in order: those on single tokens, then byte fallback, then Fuse, then a Strip of the whole.
absl::Status ReadDecoderStep(const json& step, DecodeRules* rules, bool* fused) {
  const std::string type = TypeOf(step);
  if (type == "Sequence") {
    for (const json& inner : step.at("decoders")) ATOLL_RETURN_IF_ERROR(ReadDecoderStep(inner, rules, fused));
    return absl::OkStatus();
  }
  if (type == "Fuse") {
    *fused = true;
    return absl::OkStatus();
  }
  if (rules->joined) return Unimplemented("decoder \"{}\" after ByteLevel is not supported", type);
  if (type == "Strip" && *fused) {
    if (!rules->strip.text.empty()) return Unimplemented("two Strip decoders after Fuse are not supported");
    return ReadStrip(step, &rules->strip);
  }
  if (*fused || (rules->byte_fallback && type != "ByteFallback")) {
    return Unimplemented("decoder \"{}\" after {} is not supported", type, *fused ? "Fuse" : "ByteFallback");
  }
  if (type == "ByteLevel" && rules->steps.empty() && !rules->byte_fallback) {
    rules->joined = true;
    return absl::OkStatus();
  }
  if (type == "ByteFallback") {
    rules->byte_fallback = true;
    return absl::OkStatus();
  }
  TokenStep one;
  if (type == "Replace") {
    if (!step.at("pattern").contains("String")) {
      return Unimplemented("a Replace decoder without a String is not supported");
    }
    one.from = step.at("pattern").at("String").get<std::string>();
    one.to = step.at("content").get<std::string>();
    if (one.from.empty()) return InvalidArgument("a Replace decoder's pattern is empty");
  } else if (type == "Metaspace") {
    ATOLL_ASSIGN_OR_RETURN(one.from, ReadCharacter(step, "replacement"));
    ATOLL_ASSIGN_OR_RETURN(const PrependScheme scheme, ReadScheme(step));
    one.kind = scheme == PrependScheme::kNever ? TokenStep::kReplace : TokenStep::kDropInFirst;
    one.to = " ";
  } else if (type == "Strip") {
    one.kind = TokenStep::kStrip;
    ATOLL_RETURN_IF_ERROR(ReadStrip(step, &one.strip));
  } else {
    return Unimplemented(
        "decoder \"{}\" is not supported; ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace and Sequence are",
        type);
  }
  rules->steps.push_back(std::move(one));
  return absl::OkStatus();
}

}  // namespace

std::string TypeOf(const json& node) {
  return node.is_object() ? node.value("type", "") : std::string(node.type_name());
}

absl::Status ReadNormalizer(const json& node, Normalizer* normalizer, bool* may_delete) {
  const std::string type = TypeOf(node);
  if (type == "null") return absl::OkStatus();
  if (type == "Sequence") {
    for (const json& step : node.at("normalizers")) ATOLL_RETURN_IF_ERROR(ReadNormalizer(step, normalizer, may_delete));
    return absl::OkStatus();
  }
  if (type == "Replace") {
    ATOLL_ASSIGN_OR_RETURN(Matcher matcher, ReadPattern(node.at("pattern")));
    const auto content = node.at("content").get<std::string>();
    *may_delete = *may_delete || content.empty();
    normalizer->AddReplace(std::move(matcher), content);
  } else if (type == "Prepend") {
    normalizer->AddPrepend(node.at("prepend").get<std::string>());
  } else if (type == "Lowercase") {
    normalizer->AddLowercase();
  } else if (type == "StripAccents") {
    *may_delete = true;
    normalizer->AddStripAccents();
  } else if (type == "Strip") {
    *may_delete = true;
    normalizer->AddStrip(node.at("strip_left").get<bool>(), node.at("strip_right").get<bool>());
  } else {
    return normalizer->AddForm(type);
  }
  return absl::OkStatus();
}

absl::StatusOr<PreTokenizerSteps> ReadPreTokenizer(const json& node, bool may_delete) {
  return PreTokenizerReader(may_delete).Read(node);
}

absl::StatusOr<DecodeRules> ReadDecoder(const json& node) {
  DecodeRules rules;
  rules.joined = false;
  if (node.is_null()) {
    rules.separator = " ";
    return rules;
  }
  bool fused = false;
  ATOLL_RETURN_IF_ERROR(ReadDecoderStep(node, &rules, &fused));
  return rules;
}

}  // namespace atl::coordinator
