// JSON of files that others wrote. Parsing it does not recurse, copying, comparing and printing do: what nests deeper
// than any model's files is refused here, before a text of brackets can exhaust the stack.
//
//   ATOLL_ASSIGN_OR_RETURN(const nlohmann::json config, ParseJsonObject(text, "config.json"));
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "parallel/base/status.h"

namespace atl::models {

inline constexpr int kMaxJsonDepth = 64;

absl::StatusOr<nlohmann::json> ParseJsonObject(const std::string& text, const std::string& what);

}  // namespace atl::models
