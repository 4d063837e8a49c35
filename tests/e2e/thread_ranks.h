// Ranks as threads of this process behind the Cluster's interface, without gRPC or processes: the coordinator and the
// worker in one program, so that sanitizers see every lock between a client and the ranks.
//
//   ThreadRanks ranks(options);
//   Engine engine(..., &ranks);
//   ranks.Start(engine.listener());          // loads; OnReady follows
//   ranks.Lose("on purpose");                // ends the epoch as a dead rank does; the next one follows
//   engine.Stop(); ranks.Shutdown(Deadline::After(Seconds(10)));
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "coordinator/cluster/cluster.h"
#include "models/model.h"
#include "parallel/backends.h"
#include "worker/engine.h"

namespace atl {

class ThreadRanks : public coordinator::Cluster, public coordinator::Executor {
 public:
  explicit ThreadRanks(coordinator::ClusterOptions options) : options_(std::move(options)) {}
  ~ThreadRanks() override { Shutdown(Deadline::After(Seconds(10))); }

  void Start(coordinator::ExecutorListener* listener) override {
    listener_ = listener;
    Begin();
  }
  coordinator::Executor* executor() override { return this; }
  void Execute(std::vector<v1::StepPlan> plans) override {
    std::lock_guard lock(mutex_);
    for (v1::StepPlan& plan : plans) {
      if (!running_ || plan.epoch() != epoch_) continue;
      const auto& port = ports_[plan.group()];
      port->Push(std::move(plan));
    }
  }
  int control_port() const override { return 0; }
  coordinator::ClusterStatus status() const override {
    std::lock_guard lock(mutex_);
    coordinator::ClusterStatus status;
    status.epoch = epoch_;
    status.ready = running_;
    status.kernel_target = models::KernelTarget();
    return status;
  }
  void Shutdown(Deadline) override {
    Stop();
    Join();
  }
  // The ranks' collectives end with an error, as they do when a peer dies.
  void Lose(const std::string& reason) {
    Stop();  // leaders that wait for a plan look up
    for (const auto& rank : world_) rank->Revoke(reason);
    Join();
    listener_->OnLost(epoch_, reason);
    Begin();
  }

 private:
  class Port : public worker::LeaderPort {
   public:
    explicit Port(ThreadRanks* ranks) : ranks_(ranks) {}
    void Push(v1::StepPlan plan) {
      {
        std::lock_guard lock(mutex_);
        plans_.push_back(std::move(plan));
      }
      changed_.notify_one();
    }
    void Stop() {
      {
        std::lock_guard lock(mutex_);
        stop_ = true;
      }
      changed_.notify_one();
    }
    worker::Order Next(Seconds wait) override {
      using Kind = worker::Order::Kind;
      std::unique_lock lock(mutex_);
      changed_.wait_until(lock, Deadline::After(wait).at, [this] { return stop_ || !plans_.empty(); });
      if (plans_.empty()) return {stop_ ? Kind::kStop : Kind::kIdle, {}};
      worker::Order order{Kind::kPlan, std::move(plans_.front())};
      plans_.pop_front();
      return order;
    }
    void Send(v1::StepResult result) override { ranks_->Deliver(std::move(result)); }

   private:
    ThreadRanks* const ranks_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<v1::StepPlan> plans_;
    bool stop_ = false;
  };

  void Begin() {
    const parallel::Topology& topology = options_.shape.topology;
    std::lock_guard lock(mutex_);
    ++epoch_;
    results_.clear();
    step_ = 1;
    delivered_ = loaded_ = 0;
    world_ = parallel::InprocWorld(topology.world, epoch_);
    ports_.clear();
    for (int group = 0; group < topology.groups(); ++group) ports_.push_back(std::make_unique<Port>(this));
    for (int rank = 0; rank < topology.world; ++rank) threads_.emplace_back([this, rank] { RunRank(rank); });
  }
  void Stop() {
    std::lock_guard lock(mutex_);
    running_ = false;
    for (const auto& port : ports_) port->Stop();
  }
  void Join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  void RunRank(int rank) {
    parallel::Communicator& world = *world_[rank];
    parallel::ParallelContext context{.topology = options_.shape.topology, .rank = rank, .world = &world};
    const auto group = world.Subgroup(context.topology.RanksOf(context.group()), context.NextDeadline());
    if (!group.ok()) return;
    context.tp_group = group->get();
    models::LoadOptions load{.path = options_.model_path, .spec = options_.spec, .shape = options_.shape};
    load.placement = options_.placement;
    load.threads = options_.threads_per_rank;
    const auto model = models::LoadModel(load, context, nullptr);
    ATOLL_CHECK(model.ok(), "rank {}: {}", rank, ToString(model.status().message()));
    uint64_t epoch = 0;
    bool last = false;
    {
      std::lock_guard lock(mutex_);
      epoch = epoch_;
      last = ++loaded_ == context.topology.world;
      running_ = last;
    }
    if (last) listener_->OnReady(epoch);
    worker::EngineStatus status;
    worker::Engine engine({.epoch = epoch, .sample_vocab = options_.sample_vocab}, **model, context, &status);
    (void)engine.Run(context.tp_rank() == 0 ? ports_[context.group()].get() : nullptr);  // ends by Stop or Lose
  }

  // In step order, as the listener is promised.
  void Deliver(const v1::StepResult& result) {
    std::lock_guard lock(mutex_);
    results_[result.step()].push_back(result);
    while (running_ && !results_.empty() && results_.begin()->first == step_) {
      auto results = results_.extract(step_);
      for (v1::StepResult& next : results.mapped()) {
        ++delivered_;
        listener_->OnResult(std::move(next));
      }
      if (delivered_ < options_.shape.topology.groups()) return;
      delivered_ = 0;
      ++step_;
    }
  }

  const coordinator::ClusterOptions options_;
  coordinator::ExecutorListener* listener_ = nullptr;
  std::vector<std::unique_ptr<parallel::Communicator>> world_;
  std::vector<std::unique_ptr<Port>> ports_;  // by group
  std::vector<std::thread> threads_;

  mutable std::mutex mutex_;
  bool running_ = false;
  uint64_t epoch_ = 0;
  int loaded_ = 0;
  std::map<uint64_t, std::vector<v1::StepResult>> results_;  // by step, not delivered
  uint64_t step_ = 1;
  int delivered_ = 0;
};

}  // namespace atl
