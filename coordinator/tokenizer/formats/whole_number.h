// A number in a tokenizer's file: an id, a rank or a count, all of which fit 32 bits and are not negative.
//
//   ATOLL_ASSIGN_OR_RETURN(const int64_t rank, WholeNumber(token.at("rank"), "a rank"));
//
// json::get would round, wrap, or turn 1e30 into anything at all.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "parallel/base/shown.h"
#include "parallel/base/status.h"

namespace atl::coordinator {

inline absl::StatusOr<int64_t> WholeNumber(const nlohmann::json& value, std::string_view what) {
  const bool sensible = value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(INT32_MAX);
  if (!sensible) {
    return InvalidArgument("{} is {}, not a whole number of a sensible size", what, Shown(value.dump()));
  }
  return value.get<int64_t>();
}

}  // namespace atl::coordinator
