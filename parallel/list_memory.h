// Short lists, cut one after another from memory that was planned, so that a step allocates nothing.
//
//   ListMemory memory(scratch.lists);
//   const std::span<int64_t> counts = memory.Take<int64_t>(world);   // zeros
//
// A value: a copy cuts from the same place on. The memory is aligned to kListAlignment (exchange_size.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "parallel/base/status.h"
#include "parallel/exchange_size.h"

namespace atl::parallel {

class ListMemory {
 public:
  ListMemory() = default;
  explicit ListMemory(std::span<std::byte> memory) : left_(memory) {}

  template <typename T>
  std::span<T> Take(int64_t count) {
    const int64_t bytes = ListBytes(count, sizeof(T));
    ATOLL_CHECK(bytes <= static_cast<int64_t>(left_.size()), "a list of {} bytes, {} are left", bytes, left_.size());
    const std::span<T> list(reinterpret_cast<T*>(left_.data()), static_cast<size_t>(count));
    left_ = left_.subspan(bytes);
    std::fill(list.begin(), list.end(), T{});
    return list;
  }

 private:
  std::span<std::byte> left_;
};

}  // namespace atl::parallel
