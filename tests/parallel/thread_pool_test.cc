#include "parallel/base/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <mutex>

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

TEST(ThreadPoolTest, PiecesAndRunsHaveEveryIndexOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int64_t n : {0, 1, 3, 5, 1000}) {
      std::vector<int> pieces(n), runs(n);
      ParallelPieces(&pool, n, [&](int64_t piece) { ++pieces[piece]; });
      ParallelRuns(&pool, n, [&](int64_t begin, int64_t end) {
        EXPECT_LT(begin, end);
        for (; begin < end; ++begin) ++runs[begin];
      });
      EXPECT_EQ(pieces, std::vector<int>(n, 1)) << n << " over " << threads;
      EXPECT_EQ(runs, std::vector<int>(n, 1)) << n << " over " << threads;
    }
  }
}

// A thread that is held up in its run leaves most of the rest to the others.
TEST(ThreadPoolTest, RunsAreShortAtTheEnd) {
  ThreadPool pool(2);
  std::mutex mutex;
  std::map<int64_t, int64_t> lengths;  // by first index
  ParallelRuns(&pool, 100, [&](int64_t begin, int64_t end) {
    std::lock_guard lock(mutex);
    lengths[begin] = end - begin;
  });
  EXPECT_EQ(lengths.begin()->second, 25);
  int64_t before = 25;
  for (const auto& [begin, length] : lengths) {
    EXPECT_LE(length, before) << begin;
    before = length;
  }
  EXPECT_EQ(before, 1);
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
