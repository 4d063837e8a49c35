#include "models/arena.h"

#include <sys/mman.h>

namespace atl::models {

AlignedBytes::AlignedBytes(int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ATOLL_CHECK(memory != MAP_FAILED, "{} bytes cannot be mapped", bytes);
  // Huge pages where the system has them: weights are read in long runs, and a small page's entry is soon forgotten.
  constexpr int64_t kHugePage = int64_t{2} << 20;
  if (bytes >= 4 * kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(memory);
}

void AlignedBytes::Claim(ThreadPool* pool) {
  constexpr int64_t kPage = 4096;
  ParallelFor(pool, (bytes_ + kPage - 1) / kPage, [this](int64_t begin, int64_t end) {
    for (int64_t page = begin; page < end; ++page) data_[page * kPage] = std::byte{0};
  });
}

AlignedBytes::~AlignedBytes() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

Arena::Arena(const std::vector<BufferPlan>& plan) {
  int64_t total = 0;
  for (const BufferPlan& buffer : plan) total += ArenaAligned(buffer.bytes);
  memory_ = AlignedBytes(total);
  std::byte* at = memory_.data();
  for (const BufferPlan& buffer : plan) {
    buffers_[buffer.name] = {at, static_cast<size_t>(buffer.bytes)};
    at += ArenaAligned(buffer.bytes);
  }
}

}  // namespace atl::models
