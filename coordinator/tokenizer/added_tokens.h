// The tokens that are found in a text before anything else happens to it ("<｜User｜>"), with Hugging Face's flags: a
// byte trie, one step for each byte looked at, however many tokens begin alike (DeepSeek-V3 has 818 that begin with
// "<").
//
//   AddedTokens added;  ATOLL_RETURN_IF_ERROR(added.Add({.text = "<｜User｜>", .id = 128803}));
//   added.Split(text, &parts);   // alternating plain text and tokens, in order
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/tokenizer/pair_table.h"
#include "parallel/base/status.h"

namespace atl::coordinator {

struct AddedToken {
  std::string text;  // not empty
  int32_t id = -1;
  bool lstrip = false, rstrip = false;  // takes the white space on that side with it
  bool single_word = false;             // only between characters that are no \w
};

class AddedTokens {
 public:
  struct Part {
    size_t begin = 0, end = 0;
    int32_t id = -1;  // of the token that stands here; -1: plain text
  };
  absl::Status Add(const AddedToken& token);  // InvalidArgument: empty, or there already
  bool empty() const { return tokens_.empty(); }
  // Leftmost first, the longest of those that begin at one place. `text` is UTF-8; `parts` is overwritten.
  void Split(std::string_view text, std::vector<Part>* parts) const;
  int32_t Find(std::string_view text) const;  // id; -1: none

 private:
  struct Match {
    int32_t token = -1;  // index into tokens_
    size_t bytes = 0;
  };
  Match LongestAt(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;
  PairTable edges_;                 // (node, byte) -> node
  std::vector<int32_t> ends_{-1};   // [nodes] the token that ends there, -1: none; node 0 is the root
  std::array<bool, 256> begins_{};  // bytes that a token begins with
};

}  // namespace atl::coordinator
