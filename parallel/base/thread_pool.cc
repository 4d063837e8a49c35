#include "parallel/base/thread_pool.h"

#include "parallel/base/partition.h"

namespace atl {
namespace {

// Loops follow each other closely within a step, so a thread looks again for about a hundred microseconds before it
// sleeps. Giving way each time costs little on a core of one's own and lets others run on a crowded one.
template <typename Ready>
void LookForAWhile(const Ready& ready) {
  for (int look = 0; look < 400 && !ready(); ++look) std::this_thread::yield();
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  ++round_;
  round_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t n, Call call, const void* body) {
  n_ = n;
  call_ = call;
  body_ = body;
  left_ = static_cast<uint32_t>(workers_.size());
  ++round_;  // publishes the above
  round_.notify_all();
  const Range mine = EvenPart(n, 0, threads());
  if (mine.size() > 0) call(body, mine.begin, mine.end);
  LookForAWhile([this] { return left_ == 0; });
  for (uint32_t left = left_; left != 0; left = left_) left_.wait(left);
}

void ThreadPool::Work(int index) {
  for (uint32_t seen = 0;; ++seen) {
    LookForAWhile([&] { return round_ != seen; });
    round_.wait(seen);
    if (stop_) return;
    const Range part = EvenPart(n_, index, threads());
    if (part.size() > 0) call_(body_, part.begin, part.end);
    if (--left_ == 0) left_.notify_one();
  }
}

}  // namespace atl
