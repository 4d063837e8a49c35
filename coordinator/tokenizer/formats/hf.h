// Hugging Face's tokenizer.json to a tokenizer. What this one cannot do exactly as the file says is refused, never
// approximated.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {

// `config`: tokenizer_config.json, or an empty object. Throws json::exception where a value is missing or of an
// unexpected type; parse.cc makes that an InvalidArgument.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseHfTokenizer(const std::string& text, const nlohmann::json& config);

}  // namespace atl::coordinator
