#include "parallel/base/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>

namespace atl {
namespace {

TEST(ThreadPoolTest, EveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t n : {0, 1, 3, 5, 1000}) {
      std::vector<int> visits(n);
      pool.ParallelFor(n, [&](int64_t begin, int64_t end) {
        for (; begin < end; ++begin) ++visits[begin];
      });
      EXPECT_EQ(visits, std::vector<int>(n, 1)) << n << " over " << threads;
    }
  }
}

TEST(ThreadPoolTest, LoopsFollowEachOther) {
  ThreadPool pool(3);
  std::vector<int64_t> sums(64);
  for (int64_t round = 0; round < 5000; ++round) {
    pool.ParallelFor(64, [&](int64_t begin, int64_t end) {
      for (; begin < end; ++begin) sums[begin] += round;
    });
    // Long enough apart now and then for the workers to fall asleep.
    if (round % 1000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(sums, std::vector<int64_t>(64, 5000 * 4999 / 2));
}

TEST(ThreadPoolTest, WithoutAPoolTheCallerDoesItAll) {
  int calls = 0;
  ParallelFor(nullptr, 7, [&](int64_t begin, int64_t end) {
    ++calls;
    EXPECT_EQ(begin, 0);
    EXPECT_EQ(end, 7);
  });
  ParallelFor(nullptr, 0, [&](int64_t, int64_t) { ++calls; });
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace atl
