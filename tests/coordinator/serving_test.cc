#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <utility>

#include "coordinator/engine/engine.h"
#include "coordinator/engine/generation.h"
#include "tests/coordinator/fake_tokenizer.h"

namespace atl::coordinator {
namespace {

constexpr Seconds kPatience{20};

Emitted Token(int32_t token) {
  Emitted emitted{.id = 1, .output = {}, .prompt_done = true};
  emitted.output.add_tokens(token);
  emitted.output.add_logprobs(-0.5f);
  return emitted;
}

std::vector<std::string> Pieces(Generation& generation, const std::vector<int32_t>& tokens) {
  std::vector<std::string> pieces;
  for (const int32_t token : tokens) {
    const Delta delta = generation.Take(Token(token));
    pieces.push_back(delta.text + (delta.finish ? std::string("|") + Name(*delta.finish) : ""));
    if (delta.last()) break;
  }
  return pieces;
}

Request Ask(int64_t max_tokens, std::vector<std::string> stop = {}) {
  Request request;
  request.id = "test";
  request.prompt_ids = {1, 2, 3};
  request.max_tokens = max_tokens;
  request.sampling.set_seed(165);  // draws no end token within 200
  request.stop = std::move(stop);
  return request;
}

using Texts = std::vector<std::string>;

TEST(Generation, HoldsBackWhatMayBecomeAStopString) {
  const FakeTokenizer tokenizer;
  const auto encode = [&](const std::string& text) { return tokenizer.Encode(text, {}); };
  Generation stops(Ask(9, {"cat", "dog"}), {}, &tokenizer);
  EXPECT_EQ(Pieces(stops, encode("xcatz")), (Texts{"x", "", "", "|stop"}));
  Generation almost(Ask(9, {"cat"}), {}, &tokenizer);
  EXPECT_EQ(Pieces(almost, encode("caca ")), (Texts{"", "", "ca", "", "ca "}));
  Generation overlapping(Ask(9, {"aab"}), {}, &tokenizer);
  EXPECT_EQ(Pieces(overlapping, encode("aaab")), (Texts{"", "", "a", "|stop"}));
  Generation length(Ask(3, {"cat"}), {}, &tokenizer);
  EXPECT_EQ(Pieces(length, encode("xca")), (Texts{"x", "", "ca|length"}));
  Generation inside(Ask(9, {"b"}), {}, &tokenizer);
  EXPECT_EQ(Pieces(inside, {FakeTokenizer::kPair}), (Texts{"a|stop"}));
}

TEST(Generation, EndIdsAreCountedAndNotShown) {
  const FakeTokenizer tokenizer;
  Generation end(Ask(9), {FakeTokenizer::kEnd}, &tokenizer);
  EXPECT_EQ(Pieces(end, {0, FakeTokenizer::kEnd}), (Texts{"a", "|stop"}));
  EXPECT_EQ(end.usage().completion_tokens, 2);
  Request request = Ask(2);
  request.ignore_eos = true;
  Generation ignored(request, {FakeTokenizer::kEnd}, &tokenizer);
  EXPECT_EQ(Pieces(ignored, {FakeTokenizer::kEnd, 0}), (Texts{"", "a|length"}));
  request.stop_ids = {5};
  Generation stop_id(request, {}, &tokenizer);
  EXPECT_EQ(Pieces(stop_id, {5}), (Texts{"|stop"}));
}

TEST(Generation, NeverHalfACharacter) {
  const FakeTokenizer tokenizer;
  Generation whole(Ask(3), {}, &tokenizer);
  EXPECT_EQ(Pieces(whole, {FakeTokenizer::kFirstHalf, FakeTokenizer::kSecondHalf, 0}), (Texts{"", "é", "a|length"}));
  Generation half(Ask(2), {}, &tokenizer);
  EXPECT_EQ(Pieces(half, {0, FakeTokenizer::kFirstHalf}), (Texts{"a", "\uFFFD|length"}));
}

// Ranks in a thread of their own, so that results come while the engine is at work.
class ThreadRanks : public Executor {
 public:
  ThreadRanks(SchedulerOptions options, int64_t hold_after)
      : options_(std::move(options)), hold_after_(hold_after), group_(FreshGroup()) {}
  ~ThreadRanks() override { Stop(); }
  void Start(ExecutorListener* listener) {
    listener_ = listener;
    listener->OnReady(++epoch_);
    thread_ = std::thread([this] { Loop(); });
  }
  // The ranks die, and others come up that know nothing.
  void Restart() {
    Stop();
    listener_->OnLost(epoch_, "killed by a test");
    {
      std::lock_guard lock(mutex_);
      plans_.clear();
      hold_after_ = INT64_MAX;
      stop_ = false;
    }
    group_ = FreshGroup();
    Start(listener_);
  }
  void Stop() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    ready_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  void Execute(std::vector<v1::StepPlan> plans) override {
    {
      std::lock_guard lock(mutex_);
      if (plans[0].epoch() == epoch_) plans_.push_back(std::move(plans[0]));
    }
    ready_.notify_all();
  }

 private:
  void Loop() {
    for (int64_t step = 0;; ++step) {
      v1::StepPlan plan;
      {
        std::unique_lock lock(mutex_);
        ready_.wait(lock, [&] { return stop_ || (!plans_.empty() && step < hold_after_); });
        if (stop_) return;
        plan = std::move(plans_.front());
        plans_.pop_front();
      }
      listener_->OnResult(group_.Run(plan));
    }
  }

  FakeGroup FreshGroup() const {
    return FakeGroup(options_.kv_blocks, options_.kv_block_tokens, options_.max_batch_tokens, FakeTokenizer::kSize);
  }

  const SchedulerOptions options_;
  std::atomic<uint64_t> epoch_ = 0;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<v1::StepPlan> plans_;
  int64_t hold_after_;
  bool stop_ = false;
  FakeGroup group_;
  ExecutorListener* listener_ = nullptr;
  std::thread thread_;
};

struct Server {
  explicit Server(size_t stream_bound = 256, int64_t hold_after = INT64_MAX, int64_t max_queued = 100)
      : options{.scheduler = {.kv_blocks = 60, .kv_block_tokens = 4, .max_batch_tokens = 32},
                .eos_ids = {FakeTokenizer::kEnd},
                .vocab = FakeTokenizer::kSize,
                .stream_bound = stream_bound,
                .max_queued_requests = max_queued},
        ranks(options.scheduler, hold_after),
        engine(options, &tokenizer, &ranks) {}
  ~Server() { ranks.Stop(); }

  static Answer ReadAll(TokenStream& stream) {
    Answer answer;
    for (;;) {
      const absl::StatusOr<Delta> delta = stream.Pop(Deadline::After(kPatience));
      EXPECT_TRUE(delta.ok() && delta->status.ok()) << delta.status();
      if (!delta.ok() || !delta->status.ok()) return answer;
      answer.text += delta->text;
      answer.tokens.insert(answer.tokens.end(), delta->tokens.begin(), delta->tokens.end());
      if (!delta->finish) continue;
      answer.finish = *delta->finish;
      return answer;
    }
  }
  bool Reaches(const std::function<bool(const EngineStats&)>& state) {
    for (const Deadline deadline = Deadline::After(kPatience); !deadline.Expired();) {
      if (state(engine.stats())) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }

  FakeTokenizer tokenizer;
  EngineOptions options;
  ThreadRanks ranks;
  Engine engine;
};

TEST(Engine, AnswersManyAtOnceAsEachAlone) {
  Server server;
  server.ranks.Start(server.engine.listener());
  std::vector<std::thread> clients;
  std::atomic<int> right = 0;
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back([&, i] {
      Request request = Ask(10 + i, {"ab"});
      request.sampling.set_seed(i);
      const auto stream = server.engine.Submit(request);
      ASSERT_TRUE(stream.ok()) << stream.status();
      if (Server::ReadAll(**stream) == AnswerAlone(request)) ++right;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(right, 16);
  EXPECT_TRUE(server.engine.Drain(Deadline::After(kPatience)).ok());
  const EngineStats stats = server.engine.stats();
  EXPECT_EQ(stats.free_kv_blocks, stats.kv_blocks);
  EXPECT_EQ(stats.prompt_tokens, 16 * 3);
  EXPECT_EQ(stats.finished_stop + stats.finished_length, 16);
  EXPECT_EQ(server.engine.Submit(Ask(1)).status().code(), absl::StatusCode::kUnavailable);
}

TEST(Engine, ASlowReaderStallsOnlyItself) {
  Server server(/*stream_bound=*/4);
  server.ranks.Start(server.engine.listener());
  const auto slow = server.engine.Submit(Ask(60));
  ASSERT_TRUE(slow.ok());
  const auto fast = server.engine.Submit(Ask(60));
  ASSERT_TRUE(fast.ok());
  EXPECT_EQ(Server::ReadAll(**fast), AnswerAlone(Ask(60)));
  // Some deltas past the bound at most: those of the steps that were in flight.
  EXPECT_LE(server.engine.stats().generated_tokens, 60 + 4 + 2);
  EXPECT_EQ(Server::ReadAll(**slow), AnswerAlone(Ask(60)));
}

TEST(Engine, ALeavingReaderFreesItsBlocks) {
  Server server;
  server.ranks.Start(server.engine.listener());
  const auto stream = server.engine.Submit(Ask(200));
  ASSERT_TRUE(stream.ok());
  ASSERT_TRUE((*stream)->Pop(Deadline::After(kPatience)).ok());
  (*stream)->Close();
  EXPECT_TRUE(server.Reaches(
      [](const EngineStats& s) { return s.free_kv_blocks == s.kv_blocks && s.cancelled + s.finished_length == 1; }));
}

TEST(Engine, RefusesWhatCannotBeServed) {
  Server server(256, /*hold_after=*/0, /*max_queued=*/2);
  Request request = Ask(1);
  request.prompt_ids = {1, FakeTokenizer::kSize};
  EXPECT_EQ(server.engine.Submit(request).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(server.engine.Submit(Ask(0)).status().code(), absl::StatusCode::kInvalidArgument);
  const absl::Status too_long = server.engine.Submit(Ask(INT64_MAX)).status();
  EXPECT_EQ(too_long.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(ToString(too_long.message()).find("240"), std::string::npos) << too_long;
  EXPECT_TRUE(server.engine.Submit(Ask(1)).ok());  // no ranks yet: it waits
  EXPECT_TRUE(server.engine.Submit(Ask(1)).ok());
  EXPECT_EQ(server.engine.Submit(Ask(1)).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(Engine, LeftoversOfADrainAndOfAStopEndWithUnavailable) {
  Server server(256, /*hold_after=*/2);
  server.ranks.Start(server.engine.listener());
  const auto stream = server.engine.Submit(Ask(50));
  ASSERT_TRUE(stream.ok());
  EXPECT_EQ(server.engine.Drain(Deadline::After(Seconds(0.05))).code(), absl::StatusCode::kDeadlineExceeded);
  absl::Status end;
  for (bool last = false; !last;) {
    const auto delta = (*stream)->Pop(Deadline::After(kPatience));
    ASSERT_TRUE(delta.ok()) << delta.status();
    last = delta->last();
    end = delta->status;
  }
  EXPECT_EQ(end.code(), absl::StatusCode::kUnavailable);
  server.engine.Stop();
  (*stream)->Close();  // after the engine's end: harmless
}

TEST(Engine, ContinuesAfterALostEpochAsIfNothingHadHappened) {
  Server server(256, /*hold_after=*/5);
  server.ranks.Start(server.engine.listener());
  const auto stream = server.engine.Submit(Ask(40));
  ASSERT_TRUE(stream.ok());
  ASSERT_TRUE(server.Reaches([](const EngineStats& s) { return s.generated_tokens == 5; }));
  server.ranks.Restart();
  EXPECT_EQ(Server::ReadAll(**stream), AnswerAlone(Ask(40)));
  const EngineStats stats = server.engine.stats();
  EXPECT_EQ(stats.restarts, 1);
  EXPECT_EQ(stats.replayed, 1);
  EXPECT_EQ(stats.epoch, 2u);
  EXPECT_GT(stats.last_recovery_seconds, 0);
}

}  // namespace
}  // namespace atl::coordinator
