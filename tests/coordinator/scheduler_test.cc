#include "coordinator/scheduler/scheduler.h"

#include <gmock/gmock.h>

#include "coordinator/scheduler/block_manager.h"
#include "tests/coordinator/fake_ranks.h"

namespace atl::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Sequence Make(uint64_t id, int prompt, int64_t max_tokens, v1::Output output = v1::OUTPUT_SAMPLE) {
  Sequence sequence;
  sequence.id = id;
  for (int i = 0; i < prompt; ++i) sequence.prompt_ids.push_back(static_cast<int32_t>(id * 100) + i);
  sequence.max_tokens = max_tokens;
  sequence.sampling.set_seed(id);
  sequence.output = output;
  return sequence;
}

// A scheduler and its ranks; results come when asked for.
struct Bench {
  explicit Bench(SchedulerOptions o) : options(o), scheduler(o) { Start(1); }

  void Start(uint64_t epoch) {
    ranks.clear();
    results.clear();
    for (int g = 0; g < options.groups; ++g) {
      ranks.emplace_back(options.kv_blocks, options.kv_block_tokens, options.max_batch_tokens, 1000, options.kv_groups);
    }
    scheduler.Reset(epoch);
  }
  std::optional<std::vector<v1::StepPlan>> Plan() {
    auto plans = scheduler.PlanStep();
    if (plans) {
      EXPECT_EQ(plans->size(), static_cast<size_t>(options.groups));
      for (size_t g = 0; g < plans->size(); ++g) results.push_back(ranks[g].Run((*plans)[g]));
    }
    return plans;
  }
  std::vector<Emitted> Results() {
    std::vector<Emitted> all;
    while (!results.empty()) {
      for (Emitted& e : scheduler.OnResult(results.front())) all.push_back(std::move(e));
      results.pop_front();
    }
    return all;
  }
  // Runs until nothing is left to plan; tokens by id. Finished sequences are removed.
  std::map<uint64_t, std::vector<int32_t>> RunAll(const std::map<uint64_t, int64_t>& max_tokens) {
    std::map<uint64_t, std::vector<int32_t>> tokens;
    for (;;) {
      const bool planned = Plan().has_value();
      const bool news = !results.empty();
      for (const Emitted& e : Results()) {
        for (const int32_t token : e.output.tokens()) tokens[e.id].push_back(token);
        if (static_cast<int64_t>(tokens[e.id].size()) == max_tokens.at(e.id)) scheduler.Remove(e.id);
      }
      if (!planned && !news) return tokens;
    }
  }

  SchedulerOptions options;
  Scheduler scheduler;
  std::vector<FakeGroup> ranks;
  std::deque<v1::StepResult> results;
};

std::vector<int32_t> Alone(const Sequence& s) {
  std::vector<int32_t> all = s.prompt_ids, out;
  while (static_cast<int64_t>(out.size()) < s.max_tokens) {
    out.push_back(NextToken(s.sampling.seed(), all, 1000));
    all.push_back(out.back());
  }
  return out;
}

std::vector<int> RowsOf(const v1::StepPlan& plan) {
  std::vector<int> rows;
  for (const auto& r : plan.rows()) rows.push_back(r.rows());
  return rows;
}

TEST(Scheduler, CutsPromptsIntoChunksWithinTheBudget) {
  Bench b({.kv_blocks = 20, .kv_block_tokens = 4, .max_batch_tokens = 8, .max_prompt_chunk = 5});
  ASSERT_TRUE(b.scheduler.Add(Make(1, 12, 1)).ok());
  ASSERT_TRUE(b.scheduler.Add(Make(2, 6, 1)).ok());
  auto first = b.Plan();
  ASSERT_TRUE(first);
  EXPECT_THAT(RowsOf((*first)[0]), ElementsAre(5, 3));
  EXPECT_FALSE((*first)[0].rows(0).sample());
  EXPECT_EQ((*first)[0].rows(0).new_blocks_size(), 2);
  auto second = b.Plan();
  EXPECT_THAT(RowsOf((*second)[0]), ElementsAre(5, 3));
  EXPECT_TRUE((*second)[0].rows(1).sample());
  EXPECT_EQ((*second)[0].added_size(), 0);
}

TEST(Scheduler, RunningSequencesComeBeforePrompts) {
  Bench b({.kv_blocks = 40, .kv_block_tokens = 4, .max_batch_tokens = 4, .max_steps_in_flight = 1});
  ASSERT_TRUE(b.scheduler.Add(Make(1, 2, 9)).ok());
  ASSERT_TRUE(b.scheduler.Add(Make(2, 20, 9)).ok());
  b.Plan();
  b.Results();
  const auto plan = b.Plan();
  EXPECT_EQ((*plan)[0].rows(0).id(), 1u);
  EXPECT_THAT(RowsOf((*plan)[0]), ElementsAre(1, 3));
}

TEST(Scheduler, PlansAheadOfResultsButNotBeyondTheBoundOrMaxTokens) {
  Bench b({.kv_blocks = 9, .kv_block_tokens = 4, .max_batch_tokens = 8, .max_steps_in_flight = 2});
  ASSERT_TRUE(b.scheduler.Add(Make(1, 3, 3)).ok());
  ASSERT_TRUE(b.Plan());
  const auto ahead = b.Plan();  // its input is still being sampled
  ASSERT_TRUE(ahead);
  EXPECT_EQ((*ahead)[0].rows(0).position(), 3);
  EXPECT_FALSE(b.Plan()) << "two are in flight";
  EXPECT_EQ(b.Results().size(), 2u);
  ASSERT_TRUE(b.Plan());
  EXPECT_FALSE(b.Plan()) << "three tokens are planned";
  EXPECT_EQ(b.Results().size(), 1u);
  b.scheduler.Remove(1);
  EXPECT_FALSE(b.Plan()) << "a removal alone is no step";
  EXPECT_EQ(b.scheduler.stats().free_blocks, 9);
}

TEST(Scheduler, AStepEndsWhenEveryGroupHasAnswered) {
  Bench b({.groups = 2, .kv_blocks = 9, .kv_block_tokens = 4, .max_steps_in_flight = 1});
  ASSERT_TRUE(b.scheduler.Add(Make(1, 3, 3)).ok());
  const auto plans = b.Plan();
  EXPECT_EQ((*plans)[0].rows_size() + (*plans)[1].rows_size(), 1);
  b.scheduler.OnResult(b.results[1]);
  EXPECT_FALSE(b.Plan());
  b.scheduler.OnResult(b.results[0]);
  b.results.clear();
  EXPECT_TRUE(b.Plan());
}

TEST(Scheduler, PlacesOnTheGroupWithTheMostRoom) {
  Bench b({.groups = 2, .kv_blocks = 10, .kv_block_tokens = 4, .max_batch_tokens = 64});
  ASSERT_TRUE(b.scheduler.Add(Make(1, 20, 2)).ok());
  ASSERT_TRUE(b.scheduler.Add(Make(2, 4, 2)).ok());
  ASSERT_TRUE(b.scheduler.Add(Make(3, 4, 2)).ok());
  const auto plans = b.Plan();
  EXPECT_EQ((*plans)[0].added_size(), 1);
  EXPECT_EQ((*plans)[1].added_size(), 2);
}

TEST(Scheduler, TheYoungestGivesUpItsBlocksAndContinuesWithTheSameTokens) {
  for (const int ahead : {1, 2}) {
    Bench b({.kv_blocks = 6, .kv_block_tokens = 2, .max_batch_tokens = 16, .max_steps_in_flight = ahead});
    std::map<uint64_t, int64_t> max_tokens;
    std::map<uint64_t, std::vector<int32_t>> alone;
    for (uint64_t id = 1; id <= 4; ++id) {
      const Sequence s = Make(id, 3, 8);
      alone[id] = Alone(s);
      max_tokens[id] = 8;
      ASSERT_TRUE(b.scheduler.Add(s).ok());
    }
    EXPECT_EQ(b.RunAll(max_tokens), alone);
    EXPECT_GT(b.scheduler.stats().preemptions, 0);
    EXPECT_EQ(b.scheduler.stats().free_blocks, 6);
  }
}

// Full, sliding and chunked layers: 1 + 2 + 1 blocks for each 4 positions.
const std::vector<models::KvGroup> kGroups = {
    {models::Reach::kFull, 0, 1}, {models::Reach::kSliding, 8, 2}, {models::Reach::kChunked, 12, 1}};

TEST(Scheduler, GroupsThatSlideOrChunkKeepWhatTheyCanStillRead) {
  for (const int64_t chunk : {1, 3, 16}) {
    SchedulerOptions options{.kv_block_tokens = 4, .kv_groups = kGroups, .max_batch_tokens = chunk};
    const Sequence s = Make(1, 60, 41);
    // 25 lines of the full group; 8 positions, and 12, end in at most 3 and 4 lines.
    options.kv_blocks = 25 + 2 * 3 + 4;
    Bench b(options);
    ASSERT_TRUE(b.scheduler.Add(s).ok());
    EXPECT_EQ(b.scheduler.Add(Make(2, 60, 42)).code(), absl::StatusCode::kInvalidArgument) << "one line more";
    EXPECT_EQ(b.RunAll({{1, 41}}).at(1), Alone(s)) << "chunk " << chunk;
    EXPECT_LE(b.ranks[0].most_blocks(), static_cast<size_t>(options.kv_blocks));
    EXPECT_EQ(b.scheduler.stats().free_blocks, options.kv_blocks);
  }
}

TEST(Scheduler, ManySequencesShareWhatWindowsGiveBack) {
  for (const int ahead : {1, 2, 3}) {
    Bench b({.kv_blocks = 60,
             .kv_block_tokens = 4,
             .kv_groups = kGroups,
             .max_batch_tokens = 20,
             .max_prompt_chunk = 7,
             .max_steps_in_flight = ahead});
    std::map<uint64_t, int64_t> max_tokens;
    std::map<uint64_t, std::vector<int32_t>> alone;
    for (uint64_t id = 1; id <= 6; ++id) {
      const Sequence s = Make(id, static_cast<int>(5 + 3 * id), 60);
      alone[id] = Alone(s);
      max_tokens[id] = 60;
      ASSERT_TRUE(b.scheduler.Add(s).ok());
    }
    EXPECT_EQ(b.RunAll(max_tokens), alone);
    EXPECT_GT(b.scheduler.stats().preemptions, 0);
    EXPECT_EQ(b.scheduler.stats().free_blocks, 60);
  }
}

TEST(BlockManager, ABlockIsFreeWhenNobodyHoldsIt) {
  BlockManager blocks(8, kGroups, 4);
  BlockTable table;
  ASSERT_TRUE(blocks.Extend(&table));
  ASSERT_TRUE(blocks.Extend(&table));
  EXPECT_FALSE(blocks.Extend(&table));
  EXPECT_EQ(blocks.free(), 0);
  blocks.Drop(&table, 11);  // sliding sees 4 to 11, chunked 0 to 11
  EXPECT_EQ(blocks.free(), 2);
  EXPECT_THAT(table.dropped, ElementsAre(0, 1, 0));
  EXPECT_EQ(table.blocks[1], -1);
  blocks.Drop(&table, 12);
  blocks.Drop(&table, 12);
  EXPECT_EQ(blocks.free(), 4);
  EXPECT_EQ(table.held, 4);
  blocks.Give(&table);
  EXPECT_EQ(blocks.free(), 8);
  EXPECT_TRUE(table.blocks.empty());
}

TEST(Scheduler, APausedSequenceGetsNoRowsAndYieldsItsBlocks) {
  Bench b({.kv_blocks = 4, .kv_block_tokens = 2, .max_batch_tokens = 16, .max_steps_in_flight = 1});
  const Sequence slow = Make(1, 5, 3), other = Make(2, 4, 4);
  ASSERT_TRUE(b.scheduler.Add(slow).ok());
  b.Plan();
  std::vector<int32_t> tokens;
  for (const Emitted& e : b.Results()) tokens.push_back(e.output.tokens(0));
  b.scheduler.Pause(1);
  EXPECT_FALSE(b.Plan());
  EXPECT_EQ(b.scheduler.stats().free_blocks, 1) << "it keeps them while nobody needs them";
  ASSERT_TRUE(b.scheduler.Add(other).ok());
  EXPECT_EQ(b.RunAll({{2, 4}}).at(2), Alone(other));
  b.scheduler.Resume(1);
  const auto plan = b.Plan();
  ASSERT_TRUE(plan);
  EXPECT_EQ((*plan)[0].added(0).emitted_ids_size(), 1);
  for (const Emitted& e : b.Results()) tokens.push_back(e.output.tokens(0));
  b.Plan();
  for (const Emitted& e : b.Results()) tokens.push_back(e.output.tokens(0));
  EXPECT_EQ(tokens, Alone(slow));
}

TEST(Scheduler, CancellationFreesBlocksAndDropsLateResults) {
  Bench b({.kv_blocks = 8, .kv_block_tokens = 2, .max_batch_tokens = 16});
  ASSERT_TRUE(b.scheduler.Add(Make(1, 5, 9)).ok());
  ASSERT_TRUE(b.scheduler.Add(Make(2, 30, 1)).code() == absl::StatusCode::kInvalidArgument);
  b.Plan();
  b.scheduler.Remove(1);
  EXPECT_EQ(b.scheduler.stats().free_blocks, 8);
  EXPECT_THAT(b.Results(), IsEmpty());
  ASSERT_TRUE(b.scheduler.Add(Make(3, 2, 1)).ok());
  ASSERT_TRUE(b.scheduler.Add(Make(4, 2, 1)).ok());
  b.scheduler.Remove(4);
  const auto plan = b.Plan();
  EXPECT_THAT((*plan)[0].removed(), ElementsAre(1u)) << "the ranks never knew 4";
}

TEST(Scheduler, ScoresEveryPromptRowOnceAlsoAcrossAReplay) {
  for (const auto output : {v1::OUTPUT_LOGITS, v1::OUTPUT_TARGET_LOGPROBS}) {
    Bench b({.kv_blocks = 8, .kv_block_tokens = 2, .max_batch_tokens = 3, .max_steps_in_flight = 1});
    ASSERT_TRUE(b.scheduler.Add(Make(1, 10, 0, output)).ok());
    std::string logits;
    std::vector<float> logprobs;
    bool done = false;
    for (int step = 0; b.Plan(); ++step) {
      for (const Emitted& e : b.Results()) {
        EXPECT_FALSE(done);
        done = e.prompt_done;
        logits += e.output.logits();
        for (const float p : e.output.target_logprobs()) logprobs.push_back(p);
      }
      if (step == 1) {
        b.scheduler.Lost();
        b.Start(2);
      }
    }
    EXPECT_TRUE(done);
    if (output == v1::OUTPUT_LOGITS) {
      std::string expected;
      for (int p = 0; p < 10; ++p) expected += FakeGroup::LogitsOf(1, p);
      EXPECT_EQ(logits, expected);
    } else {
      EXPECT_THAT(logprobs, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9));
    }
  }
}

TEST(Scheduler, SecondCrashRunsAloneThirdIsGivenUpOthersLive) {
  Bench b({.kv_blocks = 40, .kv_block_tokens = 4, .max_batch_tokens = 64});
  const Sequence bad = Make(1, 6, 20), good = Make(2, 6, 2);
  ASSERT_TRUE(b.scheduler.Add(bad).ok());
  for (uint64_t epoch = 2; epoch <= 3; ++epoch) {
    ASSERT_TRUE(b.Plan());
    b.scheduler.Lost();
    EXPECT_FALSE(b.Plan()) << "no ranks";
    b.Start(epoch);
  }
  ASSERT_TRUE(b.scheduler.Add(good).ok());
  const auto alone = b.Plan();
  ASSERT_TRUE(alone);
  ASSERT_EQ((*alone)[0].rows_size(), 1);
  EXPECT_EQ((*alone)[0].rows(0).id(), 1u);
  EXPECT_THAT(b.scheduler.TakeFailed(), IsEmpty());
  b.scheduler.Lost();
  EXPECT_THAT(b.scheduler.TakeFailed(), ElementsAre(1u));
  b.Start(4);
  EXPECT_EQ(b.RunAll({{2, 2}}).at(2), Alone(good));
  EXPECT_EQ(b.scheduler.stats().free_blocks, 40);
}

TEST(Scheduler, WaitingForASuspectIsNoCrime) {
  Bench b({.kv_blocks = 40, .kv_block_tokens = 4, .max_batch_tokens = 64});
  ASSERT_TRUE(b.scheduler.Add(Make(1, 6, 20)).ok());
  ASSERT_TRUE(b.scheduler.Add(Make(2, 6, 20)).ok());
  for (uint64_t epoch = 2; epoch <= 4; ++epoch) {  // both at once, twice; then 1 alone
    ASSERT_TRUE(b.Plan());
    b.scheduler.Lost();
    b.Start(epoch);
  }
  EXPECT_THAT(b.scheduler.TakeFailed(), ElementsAre(1u));
  EXPECT_EQ(b.RunAll({{2, 20}}).at(2), Alone(Make(2, 6, 20)));
}

}  // namespace
}  // namespace atl::coordinator
