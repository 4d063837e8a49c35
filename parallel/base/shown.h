// Text of a file or of a client inside a message of ours: on one line, printable and not longer than a name is.
//
//   return InvalidArgument("tensor {} is there twice", Shown(name));
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

namespace atl {

inline std::string Shown(const std::string& text, size_t most = 120) {
  std::string shown = text.substr(0, most);
  for (char& c : shown) c = c < ' ' || c > '~' ? '?' : c;
  return text.size() > most ? shown + "..." : shown;
}

// A shape, [rows, columns].
inline std::string Shown(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace atl
