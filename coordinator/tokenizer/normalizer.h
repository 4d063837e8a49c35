// What is done to a text before it is cut: Unicode normal forms (ICU), replacements, prefixes, in the file's order.
//
//   Normalizer normalizer;
//   ATOLL_RETURN_IF_ERROR(normalizer.AddForm("NFC"));
//   normalizer.AddReplace(matcher, "▁");
//   std::string buffer;  std::string_view text = normalizer.Apply(input, &buffer);   // input itself if nothing changes
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/tokenizer/matcher.h"

namespace atl::coordinator {

class Normalizer {
 public:
  absl::Status AddForm(const std::string& name);  // NFC, NFD, NFKC or NFKD
  void AddReplace(Matcher matcher, std::string content);
  void AddPrepend(std::string prefix);  // not to an empty text
  void AddLowercase();
  void AddStrip(bool left, bool right);  // White_Space
  void AddStripAccents();                // removes marks
  bool empty() const { return steps_.empty(); }

  // The result is a view of `text` or of `buffer`; both are UTF-8.
  std::string_view Apply(std::string_view text, std::string* buffer) const;

 private:
  // Returns the text itself, a part of it, or a view of `out`, which is empty before.
  using Step = std::function<std::string_view(std::string_view text, std::string* out)>;
  std::vector<Step> steps_;
};

}  // namespace atl::coordinator
