// A request's JSON, field by field: absent and null are the same, and the first wrong field is kept.
//
//   Fields fields(body);
//   fields.Integer("max_tokens", 1, INT32_MAX, [&](int64_t v) { out.set_max_tokens(v); });
//   ATOLL_RETURN_IF_ERROR(fields.status());     // names the field
//   fields.Unknown();                           // those that nobody asked for
#pragma once

#include <cfloat>
#include <cmath>
#include <set>

#include "coordinator/api/errors.h"
#include "coordinator/api/http/openai.h"

namespace atl::coordinator {

// A name that may stand in a header's value, whatever the client called its field.
inline std::string HeaderSafe(const std::string& name) {
  std::string safe = name.substr(0, 64);
  for (char& c : safe) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != '-' && c != '.') c = '?';
  }
  return safe;
}

class Fields {
 public:
  explicit Fields(const Json& body) : body_(body) {}
  const absl::Status& status() const { return status_; }
  const Json* Get(const char* key) {
    known_.insert(key);
    const auto found = body_.find(key);
    return found == body_.end() || found->is_null() ? nullptr : &*found;
  }
  template <typename Set>
  void Number(const char* key, const Set& set) {
    const Json* value = Get(key);
    if (value == nullptr) return;
    const bool ok = value->is_number() && std::fabs(value->get<double>()) <= FLT_MAX;
    ok ? set(value->get<float>()) : Wrong(key, "a number");
  }
  template <typename Set>
  void Integer(const char* key, int64_t least, int64_t most, const Set& set) {
    const Json* value = Get(key);
    if (value == nullptr) return;
    const bool ok = value->is_number_integer() &&
                    !(value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX) &&
                    value->get<int64_t>() >= least && value->get<int64_t>() <= most;
    ok ? set(value->get<int64_t>()) : Wrong(key, fmt::format("a whole number from {} to {}", least, most));
  }
  bool Flag(const char* key) { return FlagOf(Get(key), key); }
  bool FlagOf(const Json* value, const std::string& key) {
    if (value == nullptr || value->is_null()) return false;
    if (!value->is_boolean()) Wrong(key, "true or false");
    return value->is_boolean() && value->get<bool>();
  }
  // A field whose other values would change the answer and are not served.
  void Only(const char* key, const std::vector<Json>& allowed) {
    const Json* value = Get(key);
    if (value == nullptr) return;
    std::string list;
    for (const Json& other : allowed) {
      if (*value == other) return;
      list += (list.empty() ? "" : " or ") + other.dump();
    }
    Fail(WithCode(
        InvalidArgument("{}: {} is not served here; leave it out or send {}", key, Dump(*value).substr(0, 100), list),
        "unsupported_value", key));
  }
  void Wrong(const std::string& key, const std::string& wanted) { Fail(BadField(key, "{} must be {}", key, wanted)); }
  void Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  std::vector<std::string> Unknown() const {
    std::vector<std::string> unknown;
    for (const auto& [key, value] : body_.items()) {
      if (!known_.contains(key) && unknown.size() < 32) unknown.push_back(HeaderSafe(key));
    }
    return unknown;
  }

 private:
  const Json& body_;
  std::set<std::string> known_;
  absl::Status status_;
};

}  // namespace atl::coordinator
