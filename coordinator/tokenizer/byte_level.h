// The byte-level alphabet of GPT-2's tokenizers: each byte is written as one printable character, so that vocabularies
// are text. Printable Latin-1 bytes stand for themselves; the other 68, in order, are U+0100, U+0101, ...
#pragma once

#include <optional>
#include <string>

namespace atl::coordinator {

std::string ByteLevelEncode(const std::string& bytes);
// Nothing when a character is outside the alphabet (added tokens are stored as plain text).
std::optional<std::string> ByteLevelDecode(const std::string& text);

}  // namespace atl::coordinator
