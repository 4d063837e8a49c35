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

// Valid until this thread asks again. It grows to what is asked, and is kept.
inline std::span<float> ThreadScratch(int64_t floats) {
  thread_local std::vector<float> memory;
  if (static_cast<int64_t>(memory.size()) < floats) memory.resize(floats);
  return {memory.data(), static_cast<size_t>(floats)};
}

// Every thread of the pool has this much from now on.
inline void ClaimThreadScratch(ThreadPool* pool, int64_t floats) {
  ParallelFor(pool, pool->threads(), [&](int64_t, int64_t) { ThreadScratch(floats); });
}

}  // namespace atl::models
