#include "models/spec/config_reader.h"

#include <nlohmann/json.hpp>

namespace atl::models {

template <typename T>
T ConfigReader::Missing(const char* key) {
  Fail(InvalidArgument("{}: {} is missing", where_, key));
  return T();
}

template <typename T>
T ConfigReader::Bad(const char* key, const nlohmann::json& value, const std::string& wanted) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  Fail(InvalidArgument("{}: {} is {}; it must be {}", where_, key, text, wanted));
  return T();
}

bool ConfigReader::Has(const char* key) const {
  const auto found = object_.find(key);
  return found != object_.end() && !found->is_null();
}

int64_t ConfigReader::Integer(const char* key, int64_t least, int64_t most, std::optional<int64_t> absent) {
  if (!Has(key)) return absent ? *absent : Missing<int64_t>(key);
  const nlohmann::json& value = object_.at(key);
  if (!value.is_number_integer()) return Bad<int64_t>(key, value, "a whole number");
  const bool huge = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (huge || value.get<int64_t>() < least || value.get<int64_t>() > most) {
    return Bad<int64_t>(key, value, fmt::format("a whole number from {} to {}", least, most));
  }
  return value.get<int64_t>();
}

double ConfigReader::Number(const char* key, double least, double most, std::optional<double> absent) {
  if (!Has(key)) return absent ? *absent : Missing<double>(key);
  const nlohmann::json& value = object_.at(key);
  if (!value.is_number() || !(value.get<double>() >= least && value.get<double>() <= most)) {
    return Bad<double>(key, value, fmt::format("a number from {} to {}", least, most));
  }
  return value.get<double>();
}

bool ConfigReader::Flag(const char* key, bool absent) {
  if (!Has(key)) return absent;
  const nlohmann::json& value = object_.at(key);
  return value.is_boolean() ? value.get<bool>() : Bad<bool>(key, value, "true or false");
}

bool ConfigReader::Switch(const char* key, bool absent) {
  if (Has(key) && object_.at(key).is_number_integer()) return object_.at(key) != 0;
  return Flag(key, absent);
}

std::string ConfigReader::Text(const char* key, std::optional<std::string> absent) {
  if (!Has(key)) return absent ? *absent : Missing<std::string>(key);
  const nlohmann::json& value = object_.at(key);
  return value.is_string() ? value.get<std::string>() : Bad<std::string>(key, value, "a string");
}

template <typename T, typename Read>
std::optional<std::vector<T>> ConfigReader::List(const char* key, int64_t count, const Read& read) {
  if (!Has(key)) return std::nullopt;
  const nlohmann::json& list = object_.at(key);
  if (!list.is_array() || static_cast<int64_t>(list.size()) != count) {
    return Bad<std::vector<T>>(key, list, fmt::format("a list of {} values, one a layer", count));
  }
  std::vector<T> values;
  for (const nlohmann::json& value : list) {
    const nlohmann::json wrapped = {{key, value}};
    ConfigReader one(wrapped, where_);
    values.push_back(read(one));
    Fail(one.status());
  }
  return values;
}

std::optional<std::vector<int64_t>> ConfigReader::Integers(const char* key, int64_t count, int64_t least,
                                                           int64_t most) {
  return List<int64_t>(key, count, [&](ConfigReader& one) { return one.Integer(key, least, most); });
}

std::optional<std::vector<double>> ConfigReader::Numbers(const char* key, int64_t count, double least, double most) {
  return List<double>(key, count, [&](ConfigReader& one) { return one.Number(key, least, most); });
}

std::optional<std::vector<std::string>> ConfigReader::Texts(const char* key, int64_t count) {
  return List<std::string>(key, count, [&](ConfigReader& one) { return one.Text(key); });
}

std::vector<int64_t> ConfigReader::Indices(const char* key, int64_t bound) {
  const int64_t count = Has(key) && object_.at(key).is_array() ? static_cast<int64_t>(object_.at(key).size()) : 0;
  return Integers(key, count, 0, bound - 1).value_or(std::vector<int64_t>());
}

bool ConfigReader::HasList(const char* key) const {
  return Has(key) && object_.at(key).is_array() && !object_.at(key).empty();
}

const nlohmann::json* ConfigReader::Object(const char* key) {
  if (!Has(key)) return nullptr;
  if (object_.at(key).is_object()) return &object_.at(key);
  Fail(InvalidArgument("{}: {} must be an object or null", where_, key));
  return nullptr;
}

void ConfigReader::Require(const char* key, std::nullptr_t only) { RequireValue(key, only); }
void ConfigReader::Require(const char* key, bool only) { RequireValue(key, only); }
void ConfigReader::Require(const char* key, int only) { RequireValue(key, only); }
void ConfigReader::Require(const char* key, const char* only) { RequireValue(key, only); }
void ConfigReader::Require(const char* key, std::initializer_list<int> only) {
  RequireValue(key, std::vector<int>(only));
}

void ConfigReader::RequireValue(const char* key, const nlohmann::json& only) {
  if (Has(key) && object_.at(key) != only) Bad<int>(key, object_.at(key), only.dump() + ", the only one supported");
}

}  // namespace atl::models
