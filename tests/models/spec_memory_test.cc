// Counts, slices and bytes: what config.json alone says of a job.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>
#include <set>

#include "models/spec/rank_memory.h"

namespace atl::models {
namespace {

using parallel::ExpertPlacement;
using parallel::Topology;
using testing::HasSubstr;

const std::string kSource = ATOLL_SOURCE_DIR;

ModelSpec Read(const std::string& path) {
  auto spec = ReadModelSpec(kSource + "/" + path);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return *spec;
}

TEST(SpecMemory, PublishedCounts) {
  struct Model {
    const char* file;
    double total, active;  // billions
    double tolerance;      // half of the published figure's last digit
    int64_t kv_bytes;      // of a token, bf16
  };
  for (const Model& m :
       {Model{"DeepSeek-V3.json", 671.03, 37.55, 0.005, 70272}, Model{"DeepSeek-R1.json", 671.03, 37.55, 0.005, 70272},
        Model{"Kimi-K2-Instruct.json", 1026.4, 32.86, 0.05, 70272},
        Model{"Kimi-K2-Thinking.json", 1026.4, 32.86, 0.05, 70272}, Model{"Kimi-K2.5.json", 1026.4, 32.86, 0.05, 70272},
        Model{"Moonlight-16B-A3B-Instruct.json", 15.96, 2.92, 0.005, 31104}}) {
    const ModelSpec spec = Read(std::string("tests/models/configs/") + m.file);
    const ParameterCount count = CountParameters(spec);
    EXPECT_NEAR(static_cast<double>(count.total) / 1e9, m.total, m.tolerance) << m.file;
    EXPECT_NEAR(static_cast<double>(count.active) / 1e9, m.active, 0.006) << m.file;  // Moonlight: 2.9148
    EXPECT_EQ(KvBytesPerToken(spec, *NumericsNamed("bf16")), m.kv_bytes) << m.file;
    EXPECT_EQ(KvBytesPerToken(spec, *NumericsNamed("f32")), 2 * m.kv_bytes) << m.file;
    // A byte a value and four for each 64 of them.
    EXPECT_EQ(KvBytesPerToken(spec, *NumericsNamed("bf16-kv8")), m.kv_bytes / 2 * 17 / 16) << m.file;
  }
}

TEST(SpecMemory, PublishedShapes) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const Parameter& p : Parameters(Read("tests/models/configs/DeepSeek-V3.json"))) shapes[p.name] = p.shape;
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shapes.at("model.layers.0.self_attn.q_a_proj.weight"), (Shape{1536, 7168}));
  EXPECT_EQ(shapes.at("model.layers.0.self_attn.q_b_proj.weight"), (Shape{24576, 1536}));
  EXPECT_EQ(shapes.at("model.layers.0.self_attn.kv_a_proj_with_mqa.weight"), (Shape{576, 7168}));
  EXPECT_EQ(shapes.at("model.layers.0.self_attn.kv_b_proj.weight"), (Shape{32768, 512}));
  EXPECT_EQ(shapes.at("model.layers.0.self_attn.o_proj.weight"), (Shape{7168, 16384}));
  EXPECT_EQ(shapes.at("model.layers.2.mlp.down_proj.weight"), (Shape{7168, 18432}));
  EXPECT_EQ(shapes.at("model.layers.3.mlp.experts.255.up_proj.weight"), (Shape{2048, 7168}));
  EXPECT_EQ(shapes.at("model.layers.60.mlp.gate.e_score_correction_bias"), (Shape{256}));
  EXPECT_EQ(shapes.at("lm_head.weight"), (Shape{129280, 7168}));
  EXPECT_EQ(shapes.count("model.layers.61.eh_proj.weight"), 0u);  // multi-token prediction
  EXPECT_EQ(shapes.count("model.layers.0.self_attn.q_proj.weight"), 0u);
}

TEST(SpecMemory, TiedHeadIsNotListed) {
  ModelSpec spec = Read("models/checkpoints/tiny-deepseek-v3");
  spec.tied_embeddings = true;
  for (const Parameter& p : Parameters(spec)) EXPECT_NE(p.name, "lm_head.weight");
}

// Every element of a tensor is on as many ranks as its sharding says: head- and axis-sharded ones on one rank of each
// attention group, each routed expert once in the world, replicated ones everywhere.
TEST(SpecMemory, EveryElementIsWhereItBelongs) {
  for (const char* path : {"tests/golden/deepseek_v3", "tests/golden/kimi_k2", "tests/golden/moonlight",
                           "models/checkpoints/tiny-deepseek-v3", "tests/golden/olmo2", "tests/golden/gpt2",
                           "tests/golden/gemma3n", "tests/golden/llama4_maverick"}) {
    const ModelSpec spec = Read(path);
    for (const Topology topology : {Topology{1, 1}, {2, 1}, {2, 2}, {4, 1}, {4, 2}, {4, 4}, {8, 4}, {8, 8}}) {
      const int experts = spec.moe ? static_cast<int>(spec.moe->experts) : 1 << 20;
      if (spec.heads % topology.tp != 0 || topology.world > experts) continue;
      const int slices = spec.moe ? std::gcd(topology.world, kExpertBlocks) : 1;
      const auto placement = ExpertPlacement::Contiguous(spec.moe ? experts : 1, topology.world, slices);
      for (const Parameter& p : Parameters(spec)) {
        std::vector<int> owners(p.elements());
        const int64_t stride = p.shape.size() > 1 ? p.shape[1] : 1;
        for (int rank = 0; rank < topology.world; ++rank) {
          const auto slice = SliceOf(p, spec, topology, rank, placement);
          if (!slice) continue;
          for (int64_t r = slice->rows.begin; r < slice->rows.end; ++r) {
            for (int64_t c = slice->columns.begin; c < slice->columns.end; ++c) ++owners[r * stride + c];
          }
        }
        // A key head is wherever query heads read it: with 4 of them on 8 ranks, on two.
        const int64_t readers = spec.gqa ? std::max<int64_t>(topology.tp / spec.gqa->kv_heads, 1) : 1;
        const int64_t wanted = p.sharding == Sharding::kReplicated   ? topology.world
                               : p.expert >= 0                       ? 1
                               : p.sharding == Sharding::kNowhere    ? 0
                               : p.sharding == Sharding::kKvHeadRows ? topology.groups() * readers
                                                                     : topology.groups();
        EXPECT_EQ(std::set<int64_t>(owners.begin(), owners.end()), std::set<int64_t>{wanted})
            << path << " " << p.name << " on " << topology.world << "x" << topology.tp;
      }
    }
  }
}

// The matrices that must be cut are cut; a rank's heads and the columns of its o_proj are the same heads.
TEST(SpecMemory, HeadsAndOutputColumnsAgree) {
  const ModelSpec spec = Read("tests/models/configs/DeepSeek-V3.json");
  const auto placement = ExpertPlacement::Contiguous(256, 8);
  for (const Parameter& p : Parameters(spec)) {
    if (p.layer != 0) continue;
    for (int rank = 0; rank < 8; ++rank) {
      const auto slice = SliceOf(p, spec, {8, 8}, rank, placement);
      if (p.name.ends_with("q_b_proj.weight")) {
        EXPECT_EQ(slice->rows, (Range{rank * 16 * 192, (rank + 1) * 16 * 192}));
      }
      if (p.name.ends_with("kv_b_proj.weight")) {
        EXPECT_EQ(slice->rows, (Range{rank * 16 * 256, (rank + 1) * 16 * 256}));
      }
      if (p.name.ends_with("o_proj.weight")) {
        EXPECT_EQ(slice->columns, (Range{rank * 16 * 128, (rank + 1) * 16 * 128}));
      }
    }
  }
}

// A plain sum over the list, beside the planner's.
TEST(SpecMemory, WeightBytesAreTheSlicesBytes) {
  const ModelSpec spec = Read("models/checkpoints/tiny-deepseek-v3");
  const JobShape shape{.topology = {4, 2}, .numerics = {}, .kv_blocks = 10, .max_batch_tokens = 64};
  const auto placement = ExpertPlacement::Contiguous(static_cast<int>(spec.moe->experts), 4);
  for (int rank = 0; rank < 4; ++rank) {
    int64_t bytes = 0;
    for (const Parameter& p : Parameters(spec)) {
      const auto slice = SliceOf(p, spec, shape.topology, rank, placement);
      if (slice) bytes += (PackingOf(p.format, slice->rows, slice->columns).bytes + 63) / 64 * 64;
    }
    const RankMemory memory = PlanRankMemory(spec, shape, rank, placement);
    EXPECT_EQ(memory.weight_bytes(), bytes);
    EXPECT_EQ(memory.kv, 10 * 64 * KvBytesPerToken(spec, shape.numerics));
    EXPECT_EQ(memory.total(), bytes + memory.kv + memory.workspace + memory.exchange);
    EXPECT_GT(memory.workspace, 0);
    EXPECT_GT(memory.exchange, 0);
  }
}

// Buffers have names of their own and sizes; more rows never need less.
TEST(SpecMemory, BuffersGrowWithTheStep) {
  const ModelSpec spec = Read("tests/models/configs/DeepSeek-V3.json");
  const auto placement = ExpertPlacement::Contiguous(256, 16);
  JobShape small{.topology = {16, 8}, .numerics = {}, .kv_blocks = 10, .max_batch_tokens = 1}, large = small;
  large.max_batch_tokens = 4096;
  const auto a = WorkspacePlan(spec, small, 3), b = WorkspacePlan(spec, large, 3);
  ASSERT_EQ(a.size(), b.size());
  std::set<std::string> names;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(names.insert(a[i].name).second) << a[i].name;
    EXPECT_GE(a[i].bytes, 0);
    EXPECT_GE(b[i].bytes, a[i].bytes) << a[i].name;
  }
  EXPECT_GT(PlanRankMemory(spec, large, 3, placement).exchange, PlanRankMemory(spec, small, 3, placement).exchange);
}

// Shards hold whole groups: all ranks' rows together are the row of one.
TEST(SpecMemory, Int8CacheRowsAreCutAtHeads) {
  for (const char* file : {"tests/golden/llama3/config.json", "tests/golden/qwen3_moe/config.json"}) {
    const ModelSpec spec = Read(file);
    const Numerics numerics = *NumericsNamed("f32-kv8");
    EXPECT_EQ(spec.gqa->head_dim % KvScaleGroup(spec), 0);
    EXPECT_LE(KvScaleGroup(spec), 64);
    int64_t sum = 0;
    for (int rank = 0; rank < 2; ++rank) sum += KvRowBytes(spec, numerics, rank, 2);
    EXPECT_EQ(sum, KvRowBytes(spec, numerics, 0, 1)) << file;
  }
}

TEST(SpecMemory, ShapesThatCannotBeAreRefusedWithOneThatCan) {
  ModelSpec spec = Read("tests/models/configs/DeepSeek-V3.json");
  const auto says = [&](int ranks, int tp, int64_t blocks = 16, int64_t tokens = 512) {
    const absl::Status status =
        CheckShape(spec, {.topology = {ranks, tp}, .numerics = {}, .kv_blocks = blocks, .max_batch_tokens = tokens});
    return status.ok() ? "ok" : ToString(status.message());
  };
  EXPECT_EQ(says(1, 1), "ok");
  EXPECT_EQ(says(256, 8), "ok");
  EXPECT_THAT(says(4, 3), HasSubstr("--tp 2 works"));
  EXPECT_THAT(says(4, 0), HasSubstr("--tp 1 works"));
  EXPECT_THAT(says(4, -2), HasSubstr("--tp 1 works"));
  EXPECT_THAT(says(6, 4), HasSubstr("--tp 2 works"));
  EXPECT_THAT(says(16, 16), HasSubstr("--tp 8 works"));
  EXPECT_THAT(says(0, 1), HasSubstr("at least 1"));
  EXPECT_THAT(says(-4, 1), HasSubstr("at least 1"));
  EXPECT_THAT(says(257, 1), HasSubstr("--ranks 256 works"));
  EXPECT_THAT(says(264, 8), HasSubstr("--ranks 256 works"));
  EXPECT_THAT(says(4, 2, 0), HasSubstr("--kv-tokens"));
  const auto slices_say = [&](int ranks, int slices) {
    const absl::Status status = CheckExpertSlices(spec, ranks, slices);
    return status.ok() ? "ok" : ToString(status.message());
  };
  EXPECT_EQ(slices_say(4, 4), "ok");
  EXPECT_THAT(slices_say(4, 3), HasSubstr("1, 2 or 4; --expert-slices 2 works"));
  EXPECT_THAT(slices_say(8, 8), HasSubstr("--expert-slices 4 works"));
  EXPECT_THAT(slices_say(4, 0), HasSubstr("--expert-slices 1 works"));
  EXPECT_THAT(slices_say(6, 4), HasSubstr("divide the ranks; --expert-slices 2 works"));
  EXPECT_THAT(says(4, 2, -1), HasSubstr("--kv-tokens"));
  EXPECT_THAT(says(4, 2, INT64_MAX / 64), HasSubstr("--kv-tokens"));
  EXPECT_THAT(says(4, 2, 16, 0), HasSubstr("--max-batch-tokens"));
  EXPECT_THAT(says(4, 2, 16, INT64_MAX), HasSubstr("--max-batch-tokens"));
  spec.heads = 12;
  EXPECT_THAT(says(8, 8), HasSubstr("12 query heads cannot be: it must divide the query heads; --tp 4 works"));
}

TEST(SpecMemory, BlocksForRoundsUp) {
  EXPECT_EQ(BlocksFor(0), 0);
  EXPECT_EQ(BlocksFor(-5), 0);
  EXPECT_EQ(BlocksFor(1), 1);
  EXPECT_EQ(BlocksFor(64), 1);
  EXPECT_EQ(BlocksFor(65), 2);
  EXPECT_GT(BlocksFor(INT64_MAX), 0);
}

}  // namespace
}  // namespace atl::models
