// Checked access to a JSON object's keys. The first problem is kept; later reads return zero values, so a parser reads
// straight down and asks once at the end.
//
//   ConfigReader read(json, "config.json");
//   spec.hidden = read.Integer("hidden_size", 1, kMaxWidth);
//   ATOLL_RETURN_IF_ERROR(read.status());
#pragma once

#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "parallel/base/status.h"

namespace atl::models {

class ConfigReader {
 public:
  // The object must outlive the reader.
  ConfigReader(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const absl::Status& status() const { return status_; }
  bool ok() const { return status_.ok(); }
  // There, and not null.
  bool Has(const char* key) const;

  int64_t Integer(const char* key, int64_t least, int64_t most, std::optional<int64_t> absent = std::nullopt);
  double Number(const char* key, double least, double most, std::optional<double> absent = std::nullopt);
  bool Flag(const char* key, bool absent);
  // A flag that some writers give as a number.
  bool Switch(const char* key, bool absent);
  std::string Text(const char* key, std::optional<std::string> absent = std::nullopt);

  // A list of `count` values, each read like a single one; nullopt where the key is absent.
  std::optional<std::vector<int64_t>> Integers(const char* key, int64_t count, int64_t least, int64_t most);
  std::optional<std::vector<double>> Numbers(const char* key, int64_t count, double least, double most);
  std::optional<std::vector<std::string>> Texts(const char* key, int64_t count);
  // Numbers below `bound`, as many as there are; none where the key is absent.
  std::vector<int64_t> Indices(const char* key, int64_t bound);
  bool HasList(const char* key) const;

  // An object under a key; null where it is absent or (an error) something else.
  const nlohmann::json* Object(const char* key);

  // The value must be `only`, if it is there at all.
  void Require(const char* key, std::nullptr_t only);
  void Require(const char* key, bool only);
  void Require(const char* key, int only);
  void Require(const char* key, const char* only);
  void Require(const char* key, std::initializer_list<int> only);

  void Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }

 private:
  void RequireValue(const char* key, const nlohmann::json& only);
  template <typename T, typename Read>
  std::optional<std::vector<T>> List(const char* key, int64_t count, const Read& read);
  template <typename T>
  T Missing(const char* key);
  template <typename T>
  T Bad(const char* key, const nlohmann::json& value, const std::string& wanted);

  const nlohmann::json& object_;
  const std::string where_;
  absl::Status status_;
};

}  // namespace atl::models
