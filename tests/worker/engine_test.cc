// The step loop with ranks as threads and the shipped checkpoint: plans in, tokens out, the same in every shape.
#include "worker/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <thread>

#include "parallel/backends.h"

namespace atl::worker {
namespace {

using Tokens = std::map<uint64_t, std::vector<int32_t>>;

constexpr char kCheckpoint[] = ATOLL_SOURCE_DIR "/models/checkpoints/tiny-deepseek-v3";

models::LoadOptions TinyModel(parallel::Topology topology) {
  models::LoadOptions load{.path = kCheckpoint};
  load.spec = models::ReadModelSpec(kCheckpoint).value();
  load.shape = {.topology = topology, .numerics = {}, .kv_blocks = 8, .max_batch_tokens = 64};
  load.placement = parallel::ExpertPlacement::Contiguous(static_cast<int>(load.spec.moe->experts), topology.world);
  return load;
}

// A leader's port that plays a list of plans and then stops.
class Script : public LeaderPort {
 public:
  explicit Script(std::vector<Order> orders) : orders_(std::move(orders)) {}
  Order Next(Seconds) override { return next_ < orders_.size() ? orders_[next_++] : Order{Order::Kind::kStop, {}}; }
  void Send(v1::StepResult result) override { results.push_back(std::move(result)); }
  std::vector<v1::StepResult> results;

 private:
  std::vector<Order> orders_;
  size_t next_ = 0;
};

struct Outcome {
  std::vector<absl::Status> ends;                    // by rank
  std::vector<std::vector<v1::StepResult>> results;  // by group
};

// Runs every group's orders on a world of threads.
Outcome RunWorld(parallel::Topology topology, const std::vector<std::vector<Order>>& orders) {
  const models::LoadOptions load = TinyModel(topology);
  const auto world = parallel::InprocWorld(topology.world, 1);
  Outcome outcome;
  outcome.ends.resize(topology.world);
  outcome.results.resize(topology.groups());
  std::vector<std::thread> threads;
  for (int rank = 0; rank < topology.world; ++rank) {
    threads.emplace_back([&, rank] {
      parallel::ParallelContext context{.topology = topology, .rank = rank, .world = world[rank].get()};
      const auto group = world[rank]->Subgroup(topology.RanksOf(context.group()), context.NextDeadline());
      context.tp_group = group->get();
      const auto model = models::LoadModel(load, context, [](int64_t, int64_t) {});
      ASSERT_TRUE(model.ok()) << model.status();
      EngineStatus status;
      Engine engine({.epoch = 1, .sample_vocab = load.spec.vocab}, **model, context, &status);
      Script script(orders[context.group()]);
      const bool leader = context.tp_rank() == 0;
      outcome.ends[rank] = engine.Run(leader ? &script : nullptr);
      if (!outcome.ends[rank].ok()) world[rank]->Revoke("a rank failed");
      if (leader) outcome.results[context.group()] = std::move(script.results);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outcome;
}

Order Plan(uint64_t step, uint32_t group) {
  Order order{Order::Kind::kPlan, {}};
  order.plan.set_epoch(1);
  order.plan.set_step(step);
  order.plan.set_group(group);
  return order;
}

void AddRows(v1::StepPlan* plan, uint64_t id, int position, int rows, bool sample, std::vector<int> blocks = {}) {
  v1::SequenceRows* r = plan->add_rows();
  r->set_id(id);
  r->set_position(position);
  r->set_rows(rows);
  r->set_sample(sample);
  r->mutable_new_blocks()->Add(blocks.begin(), blocks.end());
}

v1::NewSequence* AddSequence(v1::StepPlan* plan, uint64_t id, const std::vector<int32_t>& prompt) {
  v1::NewSequence* added = plan->add_added();
  added->set_id(id);
  added->mutable_prompt_ids()->Add(prompt.begin(), prompt.end());
  return added;
}

// The first 64 ids of the checkpoint's golden.safetensors, and the reference's greedy continuation up to the end token.
const std::vector<int32_t> kPrompt = {0,  1019, 27,  20,  302, 223, 23,   20, 285, 223,  33,  1020, 27,   20, 302, 223,
                                      23, 20,   285, 223, 22,  18,  16,   1,  0,   1019, 403, 271,  373,  14, 223, 24,
                                      25, 368,  223, 27,  21,  33,  1020, 27, 21,  271,  373, 511,  223,  24, 25,  16,
                                      1,  1019, 514, 263, 517, 28,  223,  22, 223, 26,   223, 23,   1020, 22, 223, 23};
const std::vector<int32_t> kGreedy = {223, 26, 1};
const std::vector<int32_t> kOther = {5, 77, 300, 12, 9, 41, 500, 8};

// Prompt of sequence 1 in chunks of 16 and 48, sequence 2 (sampled, with a seed) joins at step 2; 6 decode steps.
std::vector<Order> TwoSequences() {
  const int length = static_cast<int>(kPrompt.size());
  std::vector<Order> orders = {Order{}, Plan(1, 0), Plan(2, 0)};
  AddSequence(&orders[1].plan, 1, kPrompt);
  AddRows(&orders[1].plan, 1, 0, 16, false, {3});
  AddRows(&orders[2].plan, 1, 16, length - 16, true);
  v1::NewSequence* second = AddSequence(&orders[2].plan, 2, kOther);
  second->mutable_sampling()->set_temperature(1.0);
  second->mutable_sampling()->set_seed(42);
  AddRows(&orders[2].plan, 2, 0, static_cast<int>(kOther.size()), true, {0});
  for (int i = 0; i < 6; ++i) {
    Order order = Plan(3 + i, 0);
    AddRows(&order.plan, 2, static_cast<int>(kOther.size()) + i, 1, true);
    AddRows(&order.plan, 1, length + i, 1, true, i == 0 ? std::vector<int>{6} : std::vector<int>());
    orders.push_back(std::move(order));
  }
  return orders;
}

Tokens TokensOf(const std::vector<v1::StepResult>& results) {
  Tokens tokens;
  for (const v1::StepResult& result : results) {
    for (const v1::SequenceOutput& output : result.outputs()) {
      EXPECT_EQ(output.tokens_size(), output.logprobs_size());
      tokens[output.id()].insert(tokens[output.id()].end(), output.tokens().begin(), output.tokens().end());
    }
  }
  return tokens;
}

TEST(Engine, SameTokensInEveryShapeAndAsTheReference) {
  Tokens expected;
  for (const parallel::Topology topology : {parallel::Topology{1, 1}, {2, 2}, {4, 4}, {4, 2}}) {
    std::vector<std::vector<Order>> orders(topology.groups());
    orders[0] = TwoSequences();
    for (int group = 1; group < topology.groups(); ++group) {
      for (const Order& order : orders[0]) {
        orders[group].push_back(order.kind == Order::Kind::kPlan ? Plan(order.plan.step(), group) : Order{});
      }
    }
    const Outcome outcome = RunWorld(topology, orders);
    for (const absl::Status& end : outcome.ends) EXPECT_TRUE(end.ok()) << end;
    const Tokens tokens = TokensOf(outcome.results[0]);
    ASSERT_EQ(tokens.at(1).size(), 7u);
    ASSERT_EQ(tokens.at(2).size(), 7u);
    EXPECT_EQ(std::vector<int32_t>(tokens.at(1).begin(), tokens.at(1).begin() + 3), kGreedy);
    if (expected.empty()) expected = tokens;
    EXPECT_EQ(tokens, expected) << "world " << topology.world << " tp " << topology.tp;
  }
}

TEST(Engine, ReplayContinuesWithTheSameTokens) {
  const Tokens whole = TokensOf(RunWorld({1, 1}, {TwoSequences()}).results[0]);
  const std::vector<int32_t>& all = whole.at(2);
  // The new epoch gets the prompt and the first three tokens, in one chunk.
  std::vector<Order> orders = {Plan(1, 0)};
  v1::NewSequence* added = AddSequence(&orders[0].plan, 7, kOther);
  added->mutable_emitted_ids()->Add(all.begin(), all.begin() + 3);
  added->mutable_sampling()->set_temperature(1.0);
  added->mutable_sampling()->set_seed(42);
  const int known = static_cast<int>(kOther.size()) + 3;
  AddRows(&orders[0].plan, 7, 0, known, true, {5});
  for (int i = 0; i < 3; ++i) {
    orders.push_back(Plan(2 + i, 0));
    AddRows(&orders.back().plan, 7, known + i, 1, true);
  }
  const Tokens replayed = TokensOf(RunWorld({2, 2}, {orders}).results[0]);
  EXPECT_EQ(replayed.at(7), std::vector<int32_t>(all.begin() + 3, all.end()));
}

TEST(Engine, LogitsAndTargetLogprobsAgree) {
  std::vector<Order> orders = {Plan(1, 0), Plan(2, 0)};
  AddSequence(&orders[0].plan, 1, kOther)->set_output(v1::OUTPUT_LOGITS);
  AddSequence(&orders[0].plan, 2, kOther)->set_output(v1::OUTPUT_TARGET_LOGPROBS);
  AddRows(&orders[0].plan, 1, 0, 5, false, {0});
  AddRows(&orders[0].plan, 2, 0, 5, false, {1});
  AddRows(&orders[1].plan, 2, 5, 3, true);
  AddRows(&orders[1].plan, 1, 5, 3, true);
  std::string expected;
  for (const int tp : {1, 2, 4}) {
    const Outcome outcome = RunWorld({tp, tp}, {orders});
    ASSERT_EQ(outcome.results[0].size(), 2u);
    std::string logits;
    std::vector<float> targets;
    for (const v1::StepResult& result : outcome.results[0]) {
      for (const v1::SequenceOutput& output : result.outputs()) {
        logits += output.logits();
        targets.insert(targets.end(), output.target_logprobs().begin(), output.target_logprobs().end());
      }
    }
    const size_t vocab = 1024;
    ASSERT_EQ(logits.size(), kOther.size() * vocab * sizeof(float));
    ASSERT_EQ(targets.size(), kOther.size() - 1);  // the last prompt token has no target
    std::vector<float> values(kOther.size() * vocab);
    std::memcpy(values.data(), logits.data(), logits.size());
    for (size_t row = 0; row < targets.size(); ++row) {
      EXPECT_EQ(targets[row], LogProbability(std::span(values).subspan(row * vocab, vocab), kOther[row + 1]));
    }
    if (expected.empty()) expected = logits;
    EXPECT_TRUE(logits == expected) << "tp " << tp << " changes bits";
  }
}

// The most likely tokens of a sequence that asks for them, beside one that asks for fewer and one that does not: those
// that its whole logits say, with the same bits at every degree.
TEST(Engine, TopLogprobsAreThoseOfTheLogits) {
  std::vector<Order> orders = {Plan(1, 0), Plan(2, 0)};
  v1::NewSequence* five = AddSequence(&orders[0].plan, 1, kOther);
  five->set_output(v1::OUTPUT_LOGITS);
  five->mutable_sampling()->set_top_logprobs(5);
  AddSequence(&orders[0].plan, 2, kOther)->mutable_sampling()->set_top_logprobs(2);
  AddSequence(&orders[0].plan, 3, kOther);
  for (int id = 1; id <= 3; ++id) AddRows(&orders[0].plan, id, 0, 8, true, {id});
  for (int id = 1; id <= 3; ++id) AddRows(&orders[1].plan, id, 8, 1, true);
  std::vector<std::string> expected;
  for (const int tp : {1, 2, 4}) {
    const Outcome outcome = RunWorld({tp, tp}, {orders});
    ASSERT_EQ(outcome.results[0].size(), 2u);
    std::vector<std::string> tops;
    for (const v1::StepResult& result : outcome.results[0]) {
      ASSERT_EQ(result.outputs_size(), 3);
      EXPECT_EQ(result.outputs(2).top_size(), 0);
      for (int i = 0; i < 2; ++i) {
        ASSERT_EQ(result.outputs(i).top_size(), 1);
        ASSERT_EQ(result.outputs(i).top(0).tokens_size(), i == 0 ? 5 : 2);
        tops.push_back(result.outputs(i).top(0).SerializeAsString());
      }
      const size_t vocab = 1024;
      const std::string& bytes = result.outputs(0).logits();
      std::vector<float> row(vocab);
      std::memcpy(row.data(), bytes.data() + bytes.size() - vocab * sizeof(float), vocab * sizeof(float));
      const v1::TopTokens& top = result.outputs(0).top(0);
      EXPECT_EQ(top.tokens(0), result.outputs(0).tokens(0)) << "greedy is the best";
      EXPECT_EQ(top.logprobs(0), result.outputs(0).logprobs(0)) << "to the bit";
      for (int k = 0; k < 5; ++k) {
        const int32_t token = top.tokens(k);
        EXPECT_EQ(top.logprobs(k), LogProbability(row, token));
        const auto better = std::count_if(row.begin(), row.end(), [&](float logit) { return logit > row[token]; });
        EXPECT_EQ(better, k);
        EXPECT_EQ(result.outputs(1).top(0).tokens(std::min(k, 1)), top.tokens(std::min(k, 1)));
      }
    }
    if (expected.empty()) expected = tops;
    EXPECT_EQ(tops, expected) << "tp " << tp << " changes bits";
  }
}

TEST(Engine, PlanOfAnotherEpochIsDropped) {
  std::vector<Order> orders = {Plan(1, 0), Plan(1, 0)};
  orders[0].plan.set_epoch(9);
  const Outcome outcome = RunWorld({2, 2}, {orders});
  for (const absl::Status& end : outcome.ends) EXPECT_TRUE(end.ok()) << end;
  EXPECT_EQ(outcome.results[0].size(), 1u);
}

TEST(Engine, PlansThatCannotBeEndTheEpochWithNumbers) {
  const auto end_of = [](const std::function<void(v1::StepPlan*)>& spoil) {
    std::vector<Order> orders = {Plan(1, 0)};
    AddSequence(&orders[0].plan, 1, kOther);
    AddRows(&orders[0].plan, 1, 0, 8, true, {0});
    spoil(&orders[0].plan);
    const absl::Status end = RunWorld({1, 1}, {orders}).ends[0];
    EXPECT_EQ(end.code(), absl::StatusCode::kInternal) << end;
    return ToString(end.message());
  };
  EXPECT_NE(end_of([](auto* plan) { plan->mutable_rows(0)->set_id(5); }).find("sequence 5, not known"),
            std::string::npos);
  EXPECT_NE(end_of([](auto* plan) { plan->add_removed(4); }).find("removes sequence 4"), std::string::npos);
  EXPECT_NE(end_of([](auto* plan) { plan->set_step(3); }).find("after step 0"), std::string::npos);
  EXPECT_NE(end_of([](auto* plan) { plan->mutable_rows(0)->clear_new_blocks(); }).find("0 lines of blocks hold 0"),
            std::string::npos);
  EXPECT_NE(end_of([](auto* plan) { plan->mutable_rows(0)->set_rows(9); }).find("rows [0, 9)"), std::string::npos);
  EXPECT_NE(end_of([](auto* plan) { plan->mutable_rows(0)->set_rows(7); }).find("already has 8"), std::string::npos);
  EXPECT_NE(end_of([](auto* plan) { *plan->add_added() = plan->added(0); }).find("a second time"), std::string::npos);
}

}  // namespace
}  // namespace atl::worker
