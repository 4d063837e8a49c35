// Law 1: the shape of the cluster, the chunks of the prompt, the batch mates and the placement of experts change no bit
// of the logits. Compared byte by byte with one rank that takes the whole text at once.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "tests/models/world.h"

namespace atl::models {
namespace {

constexpr parallel::Topology kShapes[] = {{1, 1}, {2, 1}, {2, 2}, {4, 1}, {4, 2}, {4, 4}, {8, 8}};
constexpr const char* kFamilies[] = {"deepseek_v3", "kimi_k2", "moonlight",    "tiny-deepseek-v3", "llama3",
                                     "mistral",     "qwen3",   "smollm3",      "qwen3_moe",        "olmo2",
                                     "gemma3",      "gpt2",    "llama4_scout", "llama4_maverick",  "gemma3n"};
constexpr const char* kMixtures[] = {"deepseek_v3", "kimi_k2",      "moonlight",      "tiny-deepseek-v3",
                                     "qwen3_moe",   "llama4_scout", "llama4_maverick"};
// Kept in another format than they are stored in: FAMILY+WEIGHTS, the head too.
constexpr const char* kKept[] = {"deepseek_v3+int4",  "deepseek_v3-fp8+int8", "moonlight+int8", "qwen3_moe+int4",
                                 "llama4_scout+int8", "moonlight+q4_k",       "qwen3_moe+q6_k"};
constexpr const char* kKeptDense[] = {"llama3+int8", "qwen3+int4",  "gemma3n+int4",
                                      "gpt2+int8",   "llama3+q4_0", "gpt2+q8_0"};
constexpr const char* kQuantized[] = {"deepseek_v3-fp8", "kimi_k2-int4", "qwen3_moe-fp8"};
constexpr int64_t kTokens = 96, kPrompt = 60;  // the rest in emitted form; the 64th position begins a new segment

std::string Path(const std::string& family) {
  return std::string(ATOLL_SOURCE_DIR) + (family == "tiny-deepseek-v3" ? "/models/checkpoints/" : "/tests/golden/") +
         family;
}

std::vector<int32_t> RandomIds(int64_t count, int64_t vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % vocab);
  return ids;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class ShapesTest : public testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  static const char* family() { return std::get<0>(GetParam()); }
  static const char* profile() { return std::get<1>(GetParam()); }
  static WorldOptions Options(parallel::Topology topology) {
    const std::string name = family();
    const size_t plus = name.find('+');
    const std::string weights = plus == std::string::npos ? "" : name.substr(plus + 1);
    return {.path = Path(name.substr(0, plus)),
            .topology = topology,
            .profile = profile(),
            .weights = weights,
            .head_weights = weights};
  }
};

TEST_P(ShapesTest, AnyShapeAndChunk) {
  World one(Options({1, 1}));
  const auto ids = RandomIds(kTokens, one.spec().vocab, 7);
  const std::vector<float> expected = one.Score(ids, kPrompt, kTokens);
  // The two forms of latent attention round differently: the comparison does see the last bit. Where rows are rounded
  // to bf16 and then to 8 bits, so small a difference may be gone before the logits; f32 sees it in every format.
  if (one.spec().mla && !(one.spec().kept.any() && std::string(profile()) == "bf16")) {
    EXPECT_FALSE(SameBits(one.Score(ids, kTokens, kTokens), expected));
  }
  for (const parallel::Topology& topology : kShapes) {
    if (one.spec().heads % topology.tp != 0) continue;
    World world(Options(topology));
    const int group = topology.groups() - 1;  // the others stay empty
    for (const int64_t chunk : {int64_t{7}, int64_t{32}, kTokens}) {
      EXPECT_TRUE(SameBits(world.Score(ids, kPrompt, chunk, group), expected))
          << family() << " " << profile() << " " << topology.world << "x" << topology.tp << " chunk " << chunk;
    }
    // One token a step, over the end of the prompt and the border of a segment.
    const std::vector<int32_t> start(ids.begin(), ids.begin() + 70);
    const std::vector<float> same(expected.begin(), expected.begin() + 70 * world.spec().vocab);
    EXPECT_TRUE(SameBits(world.Score(start, kPrompt, 1, group, nullptr, 54), same))
        << family() << " " << profile() << " " << topology.world << "x" << topology.tp << " chunk 1";
    for (int rank = 0; rank < topology.world; ++rank) {
      const RankMemory planned = PlanRankMemory(world.spec(), world.shape(), rank, world.placement());
      const RankMemory& allocated = world.model(rank).memory();
      EXPECT_EQ(allocated.weights, planned.weights);
      EXPECT_EQ(allocated.kv, planned.kv);
      EXPECT_EQ(allocated.workspace, planned.workspace);
      EXPECT_EQ(allocated.exchange, planned.exchange);
    }
  }
}

class MixtureTest : public ShapesTest {};

TEST_P(MixtureTest, AnyPlacementOfExperts) {
  World one(Options({1, 1}));
  const auto ids = RandomIds(kTokens, one.spec().vocab, 8);
  const std::vector<float> expected = one.Score(ids, kPrompt, kTokens);
  std::mt19937 random(3);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::vector<int>> ranks_of(one.spec().moe->experts);
    for (std::vector<int>& ranks : ranks_of) ranks = {static_cast<int>(random() % 4)};
    ranks_of[0] = {0, 3};  // a replica
    WorldOptions options = Options({4, 2});
    options.placement = *parallel::ExpertPlacement::FromTable(ranks_of, 4, 1);
    World world(options);
    EXPECT_TRUE(SameBits(world.Score(ids, kPrompt, 40, round % 2), expected)) << "round " << round;
  }
  for (const int slices : {2, 4}) {
    if (!CheckExpertSlices(one.spec(), 4, slices).ok()) continue;
    std::vector<std::vector<int>> ranks_of;
    for (int64_t e = 0; e < one.spec().moe->experts; ++e) {
      std::vector<int> ranks = {0, 1, 2, 3};
      std::shuffle(ranks.begin(), ranks.end(), random);
      for (int slice = 0; slice < slices; ++slice) ranks_of.push_back({ranks[slice]});
    }
    WorldOptions options = Options({4, 2});
    options.placement = *parallel::ExpertPlacement::FromTable(ranks_of, 4, 1, slices);
    World world(options);
    for (const int64_t chunk : {int64_t{1}, int64_t{40}}) {
      const int64_t tokens = chunk == 1 ? 20 : kTokens;
      const std::vector<int32_t> start(ids.begin(), ids.begin() + tokens);
      const std::vector<float> same(expected.begin(), expected.begin() + tokens * world.spec().vocab);
      EXPECT_TRUE(SameBits(world.Score(start, kPrompt, chunk, slices / 4), same)) << slices << " slices, " << chunk;
    }
    for (int rank = 0; rank < 4; ++rank) {
      const RankMemory planned = PlanRankMemory(world.spec(), world.shape(), rank, world.placement());
      EXPECT_EQ(world.model(rank).memory(), planned) << slices << " slices, rank " << rank;
    }
  }
}

TEST_P(ShapesTest, AnyBatchMates) {
  World one(Options({1, 1}));
  const auto ids = RandomIds(kTokens, one.spec().vocab, 9);
  const std::vector<float> expected = one.Score(ids, kPrompt, kTokens);
  for (const parallel::Topology& topology : {parallel::Topology{1, 1}, {4, 2}}) {
    World world(Options(topology));
    std::mt19937 random(5);
    const auto mates = [&](int /*group*/) {
      std::vector<Chunk> chunks;
      for (int i = static_cast<int>(random() % 4); i > 0; --i) {
        const auto rows = static_cast<int64_t>(random() % 40 + 1);
        // Each mate starts anew in blocks of its own, in either form.
        const auto line = static_cast<int32_t>(KvLayoutOf(world.spec()).line);
        std::vector<int32_t> blocks(line);
        std::iota(blocks.begin(), blocks.end(), (i - 1) * line);
        chunks.push_back({RandomIds(rows, world.spec().vocab, static_cast<uint32_t>(random())), 0,
                          static_cast<int64_t>(random() % 2 * rows), blocks});
      }
      return chunks;
    };
    for (const int64_t chunk : {int64_t{13}, kTokens}) {
      EXPECT_TRUE(SameBits(world.Score(ids, kPrompt, chunk, 0, mates), expected)) << "chunk " << chunk;
    }
  }
}

TEST_P(ShapesTest, ThreadsDoNotMatter) {
  World one(Options({1, 1}));
  const auto ids = RandomIds(kTokens, one.spec().vocab, 10);
  WorldOptions options = Options({2, 2});
  options.threads = 3;
  World threaded(options);
  EXPECT_TRUE(SameBits(threaded.Score(ids, kPrompt, 50), one.Score(ids, kPrompt, kTokens)));
}

std::string CaseName(const testing::TestParamInfo<std::tuple<const char*, const char*>>& info) {
  std::string name = std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
  std::replace(name.begin(), name.end(), '-', '_');
  std::replace(name.begin(), name.end(), '+', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Families, ShapesTest,
                         testing::Combine(testing::ValuesIn(kFamilies), testing::Values("f32", "bf16")), CaseName);
INSTANTIATE_TEST_SUITE_P(Families, MixtureTest,
                         testing::Combine(testing::ValuesIn(kMixtures), testing::Values("f32", "bf16")), CaseName);
constexpr const char* kInt8Cache[] = {"deepseek_v3", "qwen3_moe", "gemma3n"};
INSTANTIATE_TEST_SUITE_P(Int8Cache, ShapesTest,
                         testing::Combine(testing::ValuesIn(kInt8Cache), testing::Values("f32-kv8")), CaseName);
INSTANTIATE_TEST_SUITE_P(Quantized, ShapesTest, testing::Combine(testing::ValuesIn(kQuantized), testing::Values("f32")),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(Quantized, MixtureTest,
                         testing::Combine(testing::ValuesIn(kQuantized), testing::Values("f32")), CaseName);

INSTANTIATE_TEST_SUITE_P(Kept, ShapesTest, testing::Combine(testing::ValuesIn(kKept), testing::Values("f32", "bf16")),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(Kept, MixtureTest, testing::Combine(testing::ValuesIn(kKept), testing::Values("f32", "bf16")),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(KeptDense, ShapesTest, testing::Combine(testing::ValuesIn(kKeptDense), testing::Values("f32")),
                         CaseName);

// What crosses is what the routing demands: with one expert a rank, a step of one row tells its experts.
TEST(ExchangeTest, RowsAndPairsEqualTheRouting) {
  const std::string path = Path("one_moe_layer.json");
  World apart({.path = path, .topology = {16, 1}, .dummy_weights = true});
  ASSERT_EQ(apart.spec().moe->experts, 16);
  const auto ids = RandomIds(20, apart.spec().vocab, 11);
  std::vector<std::vector<bool>> uses;  // [row][expert]
  for (size_t row = 0; row < ids.size(); ++row) {
    const auto position = static_cast<int64_t>(row);
    apart.Step({{Chunk{{ids[row]}, position, 20, {0}}}});
    uses.emplace_back(16);
    for (int e = 0; e < 16; ++e) {
      ASSERT_EQ(apart.model(0).last_exchange().rows_to[e], apart.model(0).last_exchange().pairs_to[e]);
      uses[row][e] = apart.model(0).last_exchange().rows_to[e] == 1;
    }
    ASSERT_EQ(std::count(uses[row].begin(), uses[row].end(), true), apart.spec().moe->top_k);
  }
  for (const parallel::Topology& topology : {parallel::Topology{4, 1}, {4, 2}, {2, 2}}) {
    World world({.path = path, .topology = topology, .dummy_weights = true});
    world.Score(ids, 20, 20);
    const int experts = 16 / topology.world;
    std::printf("%dx%d rows sent, by source and destination:", topology.world, topology.tp);
    for (int source = 0; source < topology.world; ++source) {
      const Range home = topology.GroupOf(source) == 0 ? EvenPart(20, topology.TpRankOf(source), topology.tp) : Range{};
      std::printf("%s", source == 0 ? "" : " |");
      for (int to = 0; to < topology.world; ++to) {
        int64_t rows = 0, pairs = 0;
        for (int64_t row = home.begin; row < home.end; ++row) {
          const auto first = uses[row].begin() + to * experts;
          const auto here = std::count(first, first + experts, true);
          pairs += here;
          if (here > 0) ++rows;
        }
        EXPECT_EQ(world.model(source).last_exchange().rows_to[to], rows) << source << " to " << to;
        EXPECT_EQ(world.model(source).last_exchange().pairs_to[to], pairs) << source << " to " << to;
        std::printf(" %lld", static_cast<long long>(world.model(source).last_exchange().rows_to[to]));
      }
    }
    std::printf("\n");
  }
}

}  // namespace
}  // namespace atl::models
