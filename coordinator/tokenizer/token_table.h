// What ids stand for when they are decoded: their text and whether it is shown.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace atl::coordinator {

class TokenTable {
 public:
  // Replaces what the id stood for. Ids may have holes: they stand for nothing.
  void Set(int32_t id, std::string_view text, bool special = false) {
    if (id >= size()) rows_.resize(id + 1);
    rows_[id] = {text_.size(), static_cast<uint32_t>(text.size()), special, -1};
    text_ += text;
  }
  void SetByte(int32_t id, uint8_t byte) { rows_[id].byte = byte; }  // of an id that is set

  int64_t size() const { return static_cast<int64_t>(rows_.size()); }
  std::string_view Text(int32_t id) const {
    return Has(id) ? std::string_view(text_).substr(rows_[id].begin, rows_[id].bytes) : std::string_view();
  }
  bool IsSpecial(int32_t id) const { return Has(id) && rows_[id].special; }
  int Byte(int32_t id) const { return Has(id) ? rows_[id].byte : -1; }  // of a byte-fallback token; -1: it is none

 private:
  bool Has(int32_t id) const { return id >= 0 && id < size(); }
  struct Row {
    size_t begin = 0;  // in text_
    uint32_t bytes = 0;
    bool special = false;
    int16_t byte = -1;
  };
  std::string text_;
  std::vector<Row> rows_;
};

}  // namespace atl::coordinator
