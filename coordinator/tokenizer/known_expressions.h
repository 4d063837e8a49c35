// The expressions that published tokenizers split by, spelled as their files spell them. Each has a scanner of its own
// (scanners.h); any other expression is run by PCRE2.
#pragma once

#include <string>
#include <vector>

namespace atl::coordinator {

// One Split after the other, each isolating its matches.
using Expressions = std::vector<std::string>;

const Expressions& Gpt2Expressions();        // GPT-2; ByteLevel's own
const Expressions& DigitsGpt2Expressions();  // SmolLM, StarCoder, Command-R: single digits, then GPT-2's
const Expressions& Cl100kExpressions();      // cl100k, OLMo 2, Llama 3
const Expressions& Qwen2Expressions();       // Qwen 2 and 3: cl100k's with single digits
const Expressions& O200kExpressions();       // o200k, Llama 4
const Expressions& TekkenExpressions();      // Mistral: o200k's without contractions, with single digits
const Expressions& KimiK2Expressions();      // o200k's with Han characters apart
const Expressions& DeepSeekV3Expressions();  // three

}  // namespace atl::coordinator
