// A tokenizer.json as it is read: a tree of JSON, less the two large parts of its model, which would make most of its
// nodes, as plain lists.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "parallel/base/status.h"

namespace atl::coordinator {

// NOLINTNEXTLINE(bugprone-exception-escape): a JSON null allocates nothing
struct HfFile {
  nlohmann::json tree;                                      // model.vocab and model.merges are there, empty
  std::vector<std::pair<std::string, int64_t>> vocab;       // token, id
  std::vector<std::pair<std::string, std::string>> merges;  // best first
};

absl::StatusOr<HfFile> ReadHfFile(const std::string& text);

}  // namespace atl::coordinator
