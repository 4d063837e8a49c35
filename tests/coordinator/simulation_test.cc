// The production engine and scheduler under a virtual clock: thousands of requests with random lengths, readers,
// cancellations and lost epochs, all drawn from a seed. Every answer must be the one the request gives alone.
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "coordinator/engine/core.h"
#include "tests/coordinator/fake_tokenizer.h"

namespace atl::coordinator {
namespace {

struct Load {
  int requests = 40;
  double arrivals_over = 2;  // seconds
  int losses = 3;
};

class Simulation : public Executor {
 public:
  Simulation(uint64_t seed, const Load& load) : random_(seed), load_(load), options_(DrawOptions()) {
    core_ = std::make_unique<EngineCore>(options_, &tokenizer_, this);
  }

  void Run() {
    clients_.resize(load_.requests);
    for (size_t i = 0; i < clients_.size(); ++i) {
      After(Uniform(0, load_.arrivals_over), [this, i] { Submit(i); });
    }
    After(Uniform(0, 0.2), [this] { Ready(); });
    for (int losses = Int(0, load_.losses); losses > 0; --losses) {
      After(Uniform(0, 2 * load_.arrivals_over), [this] { Lose(); });
    }
    while (!events_.empty()) {
      ASSERT_LT(++handled_, 4'000'000) << "no end in sight";
      const auto first = events_.begin();
      now_ = first->first.first;
      const std::function<void()> event = std::move(first->second);
      events_.erase(first);
      event();
      core_->Pump();
      if (testing::Test::HasFailure()) return;
    }
    Check();
  }

  int64_t preemptions() const { return core_->stats().preemptions; }
  int64_t replayed() const { return core_->stats().replayed; }
  int64_t failed() const { return core_->stats().failed; }
  int64_t pauses() const { return pauses_; }

  void Execute(std::vector<v1::StepPlan> plans) override {
    ASSERT_EQ(plans.size(), groups_.size());
    if (plans[0].epoch() != epoch_ || !ready_) return;
    int64_t rows = 0;
    for (size_t g = 0; g < plans.size(); ++g) {
      rows += plans[g].rows_size();
      arrival_[g] = std::max(arrival_[g], now_) + Uniform(0.0005, 0.004);  // in step order within a group
      At(arrival_[g], [this, result = groups_[g].Run(plans[g])] { core_->OnResult(result, now_); });
    }
    EXPECT_GT(rows, 0) << "a step without work";
  }

 private:
  struct Client {
    Request request;
    std::shared_ptr<TokenStream> stream;
    Answer answer;
    absl::Status status;
    bool finished = false, cancelled = false;
    int64_t cancel_after = -1;  // tokens
    double reading_time = 0;    // of one delta
    int losses_before = 0;
  };

  EngineOptions DrawOptions() {
    EngineOptions options;
    options.scheduler.groups = Int(1, 3);
    options.scheduler.kv_block_tokens = Int(1, 8);
    DrawKvGroups(&options.scheduler);
    options.scheduler.max_batch_tokens = Int(1, 40);
    options.scheduler.max_prompt_chunk = Int(0, 1) * Int(1, 20);
    options.scheduler.max_sequences = Int(1, 12);
    options.scheduler.max_steps_in_flight = Int(1, 3);
    options.eos_ids = {FakeTokenizer::kEnd};
    options.stream_bound = static_cast<size_t>(Int(1, 6));
    options.vocab = FakeTokenizer::kSize;
    return options;
  }

  // Half of the models have layers that slide or chunk. A request of 100 tokens fits, a few more lines may.
  void DrawKvGroups(SchedulerOptions* scheduler) {
    if (Int(0, 1) > 0) scheduler->kv_groups.push_back({models::Reach::kSliding, Int(1, 40), Int(1, 3)});
    if (Int(0, 3) == 0) scheduler->kv_groups.push_back({models::Reach::kChunked, Int(1, 40), Int(1, 2)});
    if (Int(0, 7) == 0) scheduler->kv_groups.erase(scheduler->kv_groups.begin());  // maybe none sees everything
    if (scheduler->kv_groups.empty()) scheduler->kv_groups.push_back({models::Reach::kSliding, Int(1, 40), 1});
    int64_t line = 0;
    for (const models::KvGroup& group : scheduler->kv_groups) line += group.blocks;
    scheduler->kv_blocks =
        models::KvBlocksHeld(scheduler->kv_groups, scheduler->kv_block_tokens, 0, 100, 1) + line * Int(0, 30);
  }

  void Submit(size_t index) {
    Client& client = clients_[index];
    Request& request = client.request;
    for (int i = Int(1, 50); i > 0; --i) request.prompt_ids.push_back(Int(0, FakeTokenizer::kSize - 1));
    request.max_tokens = Int(1, 50);
    request.sampling.set_seed(index);
    request.ignore_eos = Int(0, 2) > 0;
    if (Int(0, 3) == 0) request.stop = {"abc", "xy", std::string(1, static_cast<char>('a' + Int(0, 25))) + "b"};
    if (Int(0, 3) == 0) request.stop_ids = {Int(0, 25)};
    if (Int(0, 4) == 0) client.cancel_after = Int(0, 20);
    if (Int(0, 3) == 0) client.reading_time = Uniform(0, 0.05);
    client.losses_before = losses_;
    ASSERT_TRUE(core_->Validate(request).ok()) << core_->Validate(request);
    client.stream = std::make_shared<TokenStream>(
        index + 1, options_.stream_bound,
        [this](uint64_t id) { ++pauses_, After(0.0001, [this, id] { core_->OnSpace(id); }); },
        [this](uint64_t id) { After(0.0001, [this, id] { core_->Cancel(id); }); });
    core_->Submit(request, client.stream);
    client.stream->OnReadable([this, index] {
      if (!clients_[index].stream) return;
      After(clients_[index].reading_time, [this, index] { Read(index); });
    });
    if (client.cancel_after == 0) Leave(client);
  }

  void Read(size_t index) {
    Client& client = clients_[index];
    if (client.cancelled) return;
    const std::optional<Delta> delta = client.stream->TryPop();
    if (!delta) return;
    ASSERT_FALSE(client.finished) << "something after the last delta";
    client.answer.text += delta->text;
    client.answer.tokens.insert(client.answer.tokens.end(), delta->tokens.begin(), delta->tokens.end());
    client.finished = delta->last();
    client.status = delta->status;
    if (delta->finish) client.answer.finish = *delta->finish;
    const auto got = static_cast<int64_t>(client.answer.tokens.size());
    EXPECT_TRUE(!delta->last() || delta->usage.completion_tokens == got);
    if (client.cancel_after > 0 && got >= client.cancel_after && !client.finished) Leave(client);
  }

  static void Leave(Client& client) {
    client.cancelled = true;
    client.stream->Close();
  }

  void Ready() {
    ++epoch_;
    ready_ = true;
    groups_.clear();
    for (int g = 0; g < options_.scheduler.groups; ++g) {
      groups_.emplace_back(options_.scheduler.kv_blocks, options_.scheduler.kv_block_tokens,
                           options_.scheduler.max_batch_tokens, FakeTokenizer::kSize, options_.scheduler.kv_groups);
    }
    arrival_.assign(groups_.size(), now_);
    core_->OnReady(epoch_);
  }

  // Results that are on their way still arrive, too late.
  void Lose() {
    if (!ready_) return;
    ready_ = false;
    ++losses_;
    core_->OnLost(epoch_, "drawn by lot", now_);
    After(Uniform(0.001, 0.3), [this] { Ready(); });
  }

  void Check() {
    EXPECT_TRUE(core_->idle());
    const EngineStats stats = core_->stats();
    EXPECT_EQ(stats.free_kv_blocks, stats.kv_blocks);
    EXPECT_EQ(stats.running + stats.waiting, 0);
    for (size_t i = 0; i < clients_.size(); ++i) {
      const Client& client = clients_[i];
      const Answer alone = AnswerAlone(client.request);
      if (client.cancelled || !client.status.ok()) {
        ASSERT_LE(client.answer.tokens.size(), alone.tokens.size());
        EXPECT_TRUE(std::equal(client.answer.tokens.begin(), client.answer.tokens.end(), alone.tokens.begin()));
        EXPECT_TRUE(client.status.ok() || losses_ - client.losses_before >= 3) << client.status;
        continue;
      }
      ASSERT_TRUE(client.finished) << "request " << i << " got no end";
      EXPECT_EQ(client.answer.tokens, alone.tokens) << "request " << i;
      EXPECT_EQ(client.answer.text, alone.text) << "request " << i;
      EXPECT_EQ(client.answer.finish, alone.finish) << "request " << i;
    }
  }

  int Int(int low, int high) {
    return low + static_cast<int>(random_() % static_cast<uint64_t>(high - low + 1));  // both included
  }
  double Uniform(double low, double high) { return low + (high - low) * (random_() % 1'000'000) * 1e-6; }
  void At(double time, std::function<void()> event) { events_[{time, next_event_++}] = std::move(event); }
  void After(double seconds, std::function<void()> event) { At(now_ + seconds, std::move(event)); }

  std::mt19937_64 random_;
  const Load load_;
  const EngineOptions options_;
  FakeTokenizer tokenizer_;
  std::unique_ptr<EngineCore> core_;
  std::vector<FakeGroup> groups_;
  std::vector<double> arrival_;  // of each group's last result
  std::vector<Client> clients_;
  std::map<std::pair<double, uint64_t>, std::function<void()>> events_;
  double now_ = 0;
  uint64_t next_event_ = 0, epoch_ = 0;
  bool ready_ = false;
  int losses_ = 0;
  int64_t handled_ = 0, pauses_ = 0;
};

TEST(Simulation, ManySeeds) {
  int64_t preemptions = 0, replayed = 0, failed = 0, pauses = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulation simulation(seed, {.requests = 30, .arrivals_over = 0.5, .losses = 9});
    simulation.Run();
    if (HasFailure()) return;
    preemptions += simulation.preemptions();
    replayed += simulation.replayed();
    failed += simulation.failed();
    pauses += simulation.pauses();
  }
  // That what is tested here did happen.
  EXPECT_GT(preemptions, 100);
  EXPECT_GT(replayed, 100);
  EXPECT_GT(failed, 5);
  EXPECT_GT(pauses, 100);
}

TEST(Simulation, ThousandsOfRequestsTwoLosses) {
  for (uint64_t seed = 1001; seed <= 1003; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulation simulation(seed, {.requests = 2000, .arrivals_over = 20, .losses = 2});
    simulation.Run();
    EXPECT_EQ(simulation.failed(), 0);
  }
}

}  // namespace
}  // namespace atl::coordinator
