#include "models/spec/json_text.h"

#include <nlohmann/json.hpp>

namespace atl::models {

absl::StatusOr<nlohmann::json> ParseJsonObject(const std::string& text, const std::string& what) {
  bool deep = false;
  const auto callback = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
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
