#include "coordinator/engine/engine.h"

#include <chrono>
#include <deque>
#include <thread>

#include "coordinator/engine/core.h"

namespace atl::coordinator {
namespace {

// What other threads want of the engine's. Streams may outlive the engine, so they share this and not the engine.
class Mailbox {
 public:
  using Task = std::function<void(EngineCore&)>;

  void Post(Task task) {
    {
      std::lock_guard lock(mutex_);
      if (closed_) return;
      tasks_.push_back(std::move(task));
    }
    ready_.notify_one();
  }
  void Close() {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_one();
  }
  // All that was posted, in order; nullopt once closed and empty.
  std::optional<std::deque<Task>> Take() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return closed_ || !tasks_.empty(); });
    if (tasks_.empty()) return std::nullopt;
    return std::exchange(tasks_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Task> tasks_;
  bool closed_ = false;
};

double Now() { return Seconds(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

class Engine::Impl : public ExecutorListener {
 public:
  Impl(EngineOptions options, const Tokenizer* tokenizer, Executor* executor)
      : options_(options), core_(std::move(options), tokenizer, executor), snapshot_(core_.stats()) {
    thread_ = std::thread([this] { Loop(); });
  }
  ~Impl() override { Stop(); }

  void OnReady(uint64_t epoch) override {
    mailbox_->Post([epoch](EngineCore& core) { core.OnReady(epoch); });
  }
  void OnResult(v1::StepResult result) override {
    mailbox_->Post([result = std::move(result)](EngineCore& core) { core.OnResult(result, Now()); });
  }
  void OnLost(uint64_t epoch, const std::string& reason) override {
    mailbox_->Post([epoch, reason](EngineCore& core) { core.OnLost(epoch, reason, Now()); });
  }

  absl::StatusOr<std::shared_ptr<TokenStream>> Submit(Request request) {
    ATOLL_RETURN_IF_ERROR(core_.Validate(request));
    std::lock_guard lock(mutex_);
    if (draining_) return Unavailable("the server is shutting down; try another one");
    if (snapshot_.waiting + submitted_ >= options_.max_queued_requests) {
      return ResourceExhausted("{} requests are waiting, and no more than {} may; try again later",
                               snapshot_.waiting + submitted_, options_.max_queued_requests);
    }
    ++submitted_;
    const auto post = [mailbox = mailbox_](void (EngineCore::*what)(uint64_t)) {
      return [mailbox, what](uint64_t id) { mailbox->Post([what, id](EngineCore& core) { (core.*what)(id); }); };
    };
    auto stream = std::make_shared<TokenStream>(next_id_++, options_.stream_bound, post(&EngineCore::OnSpace),
                                                post(&EngineCore::Cancel));
    mailbox_->Post([this, stream, request = std::move(request)](EngineCore& core) mutable {
      core.Submit(std::move(request), stream);
      std::lock_guard lock(mutex_);
      --submitted_;
      snapshot_ = core.stats();
      idle_ = core.idle();  // with submitted_, or a drain could find nothing left
    });
    return stream;
  }

  EngineStats stats() const {
    std::lock_guard lock(mutex_);
    return snapshot_;
  }

  absl::Status Drain(Deadline deadline) {
    std::unique_lock lock(mutex_);
    draining_ = true;
    const auto empty = [&] { return idle_ && submitted_ == 0; };
    if (changed_.wait_until(lock, deadline.at, empty)) return absl::OkStatus();
    const int64_t left = snapshot_.running + snapshot_.waiting + submitted_;
    lock.unlock();
    mailbox_->Post([](EngineCore& core) { core.EndAll(Unavailable("the server is shutting down")); });
    return DeadlineExceeded("{} requests were still running after {:.3g} s", left, deadline.budget.count());
  }

  void Stop() {
    {
      std::lock_guard lock(mutex_);
      draining_ = true;
    }
    mailbox_->Post([](EngineCore& core) { core.EndAll(Unavailable("the server has stopped")); });
    mailbox_->Close();
    if (thread_.joinable()) thread_.join();
  }

 private:
  void Loop() {
    while (std::optional<std::deque<Mailbox::Task>> tasks = mailbox_->Take()) {
      for (Mailbox::Task& task : *tasks) task(core_);
      core_.Pump();
      {
        std::lock_guard lock(mutex_);
        snapshot_ = core_.stats();
        idle_ = core_.idle();
      }
      changed_.notify_all();
    }
  }

  const EngineOptions options_;
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  EngineCore core_;  // the thread's own, but for Validate

  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  EngineStats snapshot_;
  uint64_t next_id_ = 1;
  int64_t submitted_ = 0;  // posted, not yet in the snapshot
  bool idle_ = true;
  bool draining_ = false;

  std::thread thread_;
};

Engine::Engine(EngineOptions options, const Tokenizer* tokenizer, Executor* executor)
    : impl_(std::make_unique<Impl>(std::move(options), tokenizer, executor)) {}
Engine::~Engine() = default;
ExecutorListener* Engine::listener() { return impl_.get(); }
absl::StatusOr<std::shared_ptr<TokenStream>> Engine::Submit(Request request) {
  return impl_->Submit(std::move(request));
}
EngineStats Engine::stats() const { return impl_->stats(); }
absl::Status Engine::Drain(Deadline deadline) { return impl_->Drain(deadline); }
void Engine::Stop() { impl_->Stop(); }

}  // namespace atl::coordinator
