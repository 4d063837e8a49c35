// Memory of one purpose, allocated once at the size that was planned, handed out by name.
//
//   Arena workspace(WorkspacePlan(spec, shape, rank));
//   std::span<float> residual = workspace.Take<float>("residual", home_rows * hidden);   // checks that it fits
//   workspace.bytes();                                            // equals the plan (law 7)
//
// Pages are zero, and the machine's only once they are written: Claim does that for all of them, so that a rank which
// cannot have its memory ends while it loads and not in the middle of an answer, and resident memory stays what it is.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/spec/rank_memory.h"
#include "parallel/base/buffer.h"
#include "parallel/base/thread_pool.h"

namespace atl::models {

// Page-aligned memory of a size that never changes.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(int64_t bytes);
  ~AlignedBytes();
  AlignedBytes(AlignedBytes&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedBytes& operator=(AlignedBytes&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  void Claim(ThreadPool* pool);  // before anything is written: the bytes become zero

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

class Arena {
 public:
  Arena() = default;
  explicit Arena(const std::vector<BufferPlan>& plan);
  int64_t bytes() const { return memory_.bytes(); }
  void Claim(ThreadPool* pool) { memory_.Claim(pool); }

  // The whole buffer.
  std::span<std::byte> Take(std::string_view name) const {
    const auto found = buffers_.find(name);
    ATOLL_CHECK(found != buffers_.end(), "buffer {} is not in the plan", name);
    return found->second;
  }
  // Its first `count` elements; the plan must have room for them.
  template <typename T>
  std::span<T> Take(std::string_view name, int64_t count) const {
    const std::span<std::byte> all = Take(name);
    ATOLL_CHECK(count * static_cast<int64_t>(sizeof(T)) <= static_cast<int64_t>(all.size()),
                "buffer {}: {} elements of {} bytes do not fit the {} planned", name, count, sizeof(T), all.size());
    return {reinterpret_cast<T*>(all.data()), static_cast<size_t>(count)};
  }
  // The same for an element type chosen at run time.
  Buffer TakeTyped(std::string_view name, int64_t count, DType type) const {
    return {Take<std::byte>(name, count * SizeOf(type)).data(), count, type};
  }

 private:
  AlignedBytes memory_;
  std::map<std::string, std::span<std::byte>, std::less<>> buffers_;
};

}  // namespace atl::models
