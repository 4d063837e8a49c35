// What published vocabularies of ranks are completed with: their files hold neither the expression nor the special
// tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "coordinator/tokenizer/formats/ranks.h"

namespace atl::coordinator {

// By the number of tokens. Unimplemented: no published vocabulary has so many.
absl::Status CompletePublished(RankedTokens* ranked);

// Ids 0 to count-1: the control tokens of Mistral's tekken up to version 7, fillers behind them.
std::vector<RankedSpecial> TekkenSpecials(int64_t count);

}  // namespace atl::coordinator
