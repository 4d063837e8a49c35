// How deep a JSON text nests, before anything that recurses over it sees it: parsing does not, printing does, and a
// client that sends a million brackets must not end the process.
#pragma once

#include <algorithm>
#include <string_view>

namespace atl::coordinator {

inline constexpr int kMaxJsonDepth = 100;  // what a request or a template's variables may nest

inline int JsonDepth(std::string_view json) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == '[' || c == '{')) {
      deepest = std::max(deepest, ++depth);
    } else if (!in_string && (c == ']' || c == '}')) {
      --depth;
    }
  }
  return deepest;
}

}  // namespace atl::coordinator
