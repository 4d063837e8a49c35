#include "coordinator/tokenizer/known_expressions.h"

namespace atl::coordinator {
namespace {

const std::string kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const std::string kContraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const std::string kSpaces = R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Two ways to make a word of capitals and small letters, with or without what `but` takes out of both.
std::string CasedWords(const std::string& but, const std::string& suffix) {
  const std::string lead = R"([^\r\n\p{L}\p{N}]?)", upper = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M})" + but + "]",
                    lower = R"([\p{Ll}\p{Lm}\p{Lo}\p{M})" + but + "]";
  return lead + upper + "*" + lower + "+" + suffix + "|" + lead + upper + "+" + lower + "*" + suffix;
}

std::string Cl100kOf(const std::string& digits) {
  return kContraction + R"(|[^\r\n\p{L}\p{N}]?\p{L}+|)" + digits + R"(| ?[^\s\p{L}\p{N}]+[\r\n]*)" + kSpaces;
}

}  // namespace

const Expressions& Gpt2Expressions() {
  static const Expressions e = {kGpt2};
  return e;
}

const Expressions& DigitsGpt2Expressions() {
  static const Expressions e = {R"(\p{N})", kGpt2};
  return e;
}

const Expressions& Cl100kExpressions() {
  static const Expressions e = {Cl100kOf(R"(\p{N}{1,3})")};
  return e;
}

const Expressions& Qwen2Expressions() {
  static const Expressions e = {Cl100kOf(R"(\p{N})")};
  return e;
}

const Expressions& O200kExpressions() {
  static const Expressions e = {CasedWords("", kContraction + "?") + R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" +
                                kSpaces};
  return e;
}

const Expressions& TekkenExpressions() {
  static const Expressions e = {CasedWords("", "") + R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*)" + kSpaces};
  return e;
}

const Expressions& KimiK2Expressions() {
  static const Expressions e = {R"([\p{Han}]+|)" + CasedWords(R"(&&[^\p{Han}])", kContraction + "?") +
                                R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)" + kSpaces};
  return e;
}

const Expressions& DeepSeekV3Expressions() {
  static const Expressions e = {
      R"(\p{N}{1,3})", "[一-龥\u3040-ゟ゠-ヿ]+",
      R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)" +
          kSpaces};
  return e;
}

}  // namespace atl::coordinator
