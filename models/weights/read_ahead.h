// Asks the kernel for the pages of a slice some megabytes before they are copied, in requests as large as the slice
// allows. Mapped files are read without read-ahead, so that nothing else is read; page after page, a disk would then be
// waited for at each one.
//
//   ReadAhead ahead(first_row, stride, bytes, rows);
//   for (int64_t row = 0; row < rows; ++row) {
//     ahead.Reach(row);
//     ... first_row + row * stride, `bytes` of it ...
//   }
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace atl::models {

class ReadAhead {
 public:
  ReadAhead(const std::byte* first, int64_t stride, int64_t bytes, int64_t rows)
      : first_(first),
        stride_(stride),
        bytes_(bytes),
        rows_(rows),
        batch_(std::max<int64_t>(1, kWindow / std::max<int64_t>(bytes, 1))) {}

  void Reach(int64_t row) {
    while (asked_ < rows_ && row >= asked_ - batch_ / 2) {
      const int64_t count = std::min(batch_, rows_ - asked_);
      if (stride_ == bytes_) {
        Ask(first_ + asked_ * stride_, count * bytes_);
      } else {
        for (int64_t i = 0; i < count; ++i) Ask(first_ + (asked_ + i) * stride_, bytes_);
      }
      asked_ += count;
    }
  }

 private:
  static constexpr int64_t kWindow = 4 << 20, kPage = 4096;

  // Memory that is no file's, or in the page cache already, costs the call alone.
  static void Ask(const std::byte* from, int64_t bytes) {
    const auto before = static_cast<int64_t>(reinterpret_cast<uintptr_t>(from) % kPage);
    madvise(const_cast<std::byte*>(from) - before, before + bytes, MADV_WILLNEED);
  }

  const std::byte* const first_;
  const int64_t stride_, bytes_, rows_;
  const int64_t batch_;  // rows asked for at once
  int64_t asked_ = 0;
};

}  // namespace atl::models
