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
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    ++round_;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t n, Call call, const void* body) {
  {
    std::lock_guard lock(mutex_);
    n_ = n;
    call_ = call;
    body_ = body;
    left_ = static_cast<int>(workers_.size());
    ++round_;  // publishes the above
  }
  start_.notify_all();
  const Range mine = EvenPart(n, 0, threads());
  if (mine.size() > 0) call(body, mine.begin, mine.end);
  const auto done = [this] { return left_ == 0; };
  LookForAWhile(done);
  std::unique_lock lock(mutex_);
  done_.wait(lock, done);
}

void ThreadPool::Work(int index) {
  for (uint64_t seen = 0;; ++seen) {
    const auto started = [&] { return round_ != seen; };
    LookForAWhile(started);
    {
      std::unique_lock lock(mutex_);
      start_.wait(lock, started);
      if (stop_) return;
    }
    const Range part = EvenPart(n_, index, threads());
    if (part.size() > 0) call_(body_, part.begin, part.end);
    if (--left_ == 0) {
      std::lock_guard lock(mutex_);  // not between the caller's look and its sleep
      done_.notify_one();
    }
  }
}

}  // namespace atl
