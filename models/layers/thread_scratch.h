// A thread's own memory while it works on its piece.
//
//   ClaimThreadScratch(pool, AttentionScratch(spec));   // once, so that a step allocates nothing
//   ... ThreadScratch(floats) ...                        // in a piece
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/base/thread_pool.h"

namespace atl::models {

// Valid until this thread asks again. It grows to what is asked, and is kept. At the beginning of a cache line: a
// vector that lies in two is two loads (what the C library gives begins 16 bytes after one).
inline std::span<float> ThreadScratch(int64_t floats) {
  thread_local std::vector<float> memory;
  constexpr int64_t kLine = 64 / sizeof(float);
  if (static_cast<int64_t>(memory.size()) < floats + kLine) memory.resize(floats + kLine);
  const auto at = reinterpret_cast<uintptr_t>(memory.data());
  return {memory.data() + (64 - at % 64) % 64 / sizeof(float), static_cast<size_t>(floats)};
}

// Every thread of the pool has this much from now on.
inline void ClaimThreadScratch(ThreadPool* pool, int64_t floats) {
  ParallelFor(pool, pool->threads(), [&](int64_t, int64_t) { ThreadScratch(floats); });
}

}  // namespace atl::models
