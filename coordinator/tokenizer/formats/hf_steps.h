// The steps of a tokenizer.json around its model: what each object of "normalizer", "pre_tokenizer" and "decoder" does.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "coordinator/tokenizer/decode_rules.h"
#include "coordinator/tokenizer/normalizer.h"
#include "coordinator/tokenizer/pre_tokenizer.h"

namespace atl::coordinator {

inline bool IsNull(const nlohmann::json& node, const char* key) {
  return !node.contains(key) || node.at(key).is_null();
}
std::string TypeOf(const nlohmann::json& node);  // its "type"; what it is if it is no object

absl::Status ReadNormalizer(const nlohmann::json& node, Normalizer* normalizer, bool* may_delete);

struct PreTokenizerSteps {
  PreTokenizer steps;
  bool byte_level = false;  // the pieces are encoded as bytes
};
// `may_delete`: the normalizer may take characters away, so that nobody knows what stood first.
absl::StatusOr<PreTokenizerSteps> ReadPreTokenizer(const nlohmann::json& node, bool may_delete);

absl::StatusOr<DecodeRules> ReadDecoder(const nlohmann::json& node);

}  // namespace atl::coordinator
