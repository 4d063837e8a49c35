// A fixed set of threads that share loops. Which thread does which part never changes a result.
//
//   ThreadPool pool(4);                                                  // the caller and 3 more
//   pool.ParallelFor(outputs, [&](int64_t begin, int64_t end) { ... });  // even parts, one a thread
//
// ParallelFor returns when all parts are done; it allocates nothing and takes no lock. One caller at a time; the body
// neither throws nor calls the pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace atl {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  template <typename Body>
  void ParallelFor(int64_t n, const Body& body) {
    Run(
        n, [](const void* b, int64_t begin, int64_t end) { (*static_cast<const Body*>(b))(begin, end); }, &body);
  }

 private:
  using Call = void (*)(const void* body, int64_t begin, int64_t end);
  void Run(int64_t n, Call call, const void* body);
  void Work(int index);

  // Of 32 bits, as the kernel waits for them.
  std::atomic<uint32_t> round_ = 0;  // of the loop under way
  std::atomic<uint32_t> left_ = 0;   // workers that have not finished it
  // The loop under way: written before round_ moves on, read after.
  bool stop_ = false;
  int64_t n_ = 0;
  Call call_ = nullptr;
  const void* body_ = nullptr;
  std::vector<std::thread> workers_;
};

// The loop on this thread when there is no pool.
template <typename Body>
void ParallelFor(ThreadPool* pool, int64_t n, const Body& body) {
  if (pool != nullptr && pool->threads() > 1) {
    pool->ParallelFor(n, body);
  } else if (n > 0) {
    body(int64_t{0}, n);
  }
}

// The same where each of n rows moves `row_bytes`: on this thread too if that is too little for waking others to pay.
template <typename Body>
void ParallelRows(ThreadPool* pool, int64_t n, int64_t row_bytes, const Body& body) {
  constexpr int64_t kWorthSharing = 128 << 10;
  ParallelFor(n * row_bytes >= kWorthSharing ? pool : nullptr, n, body);
}

// Pieces of unequal work, large or few: threads take one of [0, n) at a time until none is left.
template <typename Body>
void ParallelPieces(ThreadPool* pool, int64_t n, const Body& body) {
  if (pool == nullptr || pool->threads() == 1 || n <= 1) {
    for (int64_t piece = 0; piece < n; ++piece) body(piece);
    return;
  }
  std::atomic<int64_t> next = 0;
  pool->ParallelFor(pool->threads(), [&](int64_t, int64_t) {
    for (int64_t piece = next.fetch_add(1); piece < n; piece = next.fetch_add(1)) body(piece);
  });
}

// Small pieces that are best done in long runs (of memory, say): threads take a share of what is left each time, long
// runs first, single pieces at last.
template <typename Body>
void ParallelRuns(ThreadPool* pool, int64_t n, const Body& body) {
  if (pool == nullptr || pool->threads() == 1) {
    if (n > 0) body(int64_t{0}, n);
    return;
  }
  const int64_t shares = 2 * pool->threads();
  std::atomic<int64_t> next = 0;
  pool->ParallelFor(pool->threads(), [&](int64_t, int64_t) {
    for (int64_t begin = next; begin < n;) {
      const int64_t end = begin + std::max<int64_t>((n - begin) / shares, 1);
      if (!next.compare_exchange_weak(begin, end)) continue;
      body(begin, end);
      begin = next;
    }
  });
}

}  // namespace atl
