// JSON of files that others wrote. Parsing it does not recurse, copying, comparing and printing do: what nests deeper
// than any model's files is refused here, before a text of brackets can exhaust the stack.
//
//   ATOLL_ASSIGN_OR_RETURN(const nlohmann::json config, ParseJsonObject(text, "config.json"));
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "parallel/base/status.h"

namespace atl::models {

inline constexpr int kMaxJsonDepth = 64;

inline absl::StatusOr<nlohmann::json> ParseJsonObject(const std::string& text, const std::string& what) {
  bool deep = false;
  const auto callback = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    deep = deep || depth > kMaxJsonDepth;
    return !deep;
  };
  nlohmann::json json = nlohmann::json::parse(text, callback, /*allow_exceptions=*/false);
  if (deep) return InvalidArgument("{} nests more than {} deep", what, kMaxJsonDepth);
  if (json.is_discarded()) return InvalidArgument("{} is not valid JSON", what);
  if (!json.is_object()) return InvalidArgument("{} is not a JSON object", what);
  return json;
}

}  // namespace atl::models
