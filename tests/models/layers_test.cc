// The traps of single layers, each against values worked out by hand or a plain second way.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "models/layers/attention.h"
#include "models/layers/embedding.h"
#include "models/layers/gqa.h"
#include "models/layers/mlp.h"
#include "models/layers/rope.h"
#include "models/layers/router.h"
#include "models/layers/segment.h"
#include "models/spec/workspace.h"

namespace atl::models {
namespace {

struct NormalValues {
  std::mt19937 random;
  std::normal_distribution<float> normal{};
  std::vector<float> operator()(int64_t n) {
    std::vector<float> drawn(n);
    for (float& value : drawn) value = normal(random);
    return drawn;
  }
};

struct Choice {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};
Choice Choose(const MoeSpec& spec, const std::vector<float>& scores, const std::vector<float>& bias) {
  Choice choice{std::vector<int32_t>(spec.top_k), std::vector<float>(spec.top_k)};
  std::vector<float> scratch(spec.experts);
  ChooseExperts(spec, scores, bias.data(), scratch, choice.experts.data(), choice.weights.data());
  return choice;
}

TEST(RouterTest, DroppedGroupsStayDroppedWhenEveryChoiceIsNegative) {
  const MoeSpec spec{.experts = 4, .top_k = 2, .groups = 2, .groups_kept = 1, .scaling = 2};
  // Group 1 wins by its sum, though expert 0 has the best single choice. A mask of 0 would beat all of these.
  const Choice choice = Choose(spec, {0.9f, 0.1f, 0.6f, 0.7f}, {-1, -1, -1, -1});
  EXPECT_EQ(choice.experts, (std::vector<int32_t>{3, 2}));  // best first
  EXPECT_FLOAT_EQ(choice.weights[0], 2 * 0.7f / 1.3f);      // without the bias
  EXPECT_FLOAT_EQ(choice.weights[1], 2 * 0.6f / 1.3f);
}

TEST(RouterTest, TiesGoToTheLowestIndex) {
  const MoeSpec spec{.experts = 6, .top_k = 3};
  EXPECT_EQ(Choose(spec, {0.5f, 0.25f, 0.5f, 0.5f, 0.5f, 0.5f}, std::vector<float>(6)).experts,
            (std::vector<int32_t>{0, 2, 3}));
}

// Llama 4 chooses by the raw score; Qwen3's probabilities of the chosen sum to one only if it says so.
TEST(RouterTest, ScoresOfOtherRouters) {
  const MoeSpec plain{.router = RouterKind::kSoftmax, .experts = 4, .top_k = 2, .normalize = false};
  const Choice choice = Choose(plain, {0.1f, 0.5f, 0.1f, 0.3f}, std::vector<float>(4));
  EXPECT_EQ(choice.experts, (std::vector<int32_t>{1, 3}));
  EXPECT_FLOAT_EQ(choice.weights[0], 0.5f);
  MoeSpec normed = plain;
  normed.normalize = true;
  EXPECT_FLOAT_EQ(Choose(normed, {0.1f, 0.5f, 0.1f, 0.3f}, std::vector<float>(4)).weights[0], 0.5f / 0.8f);
  const MoeSpec one{.router = RouterKind::kScaledInputs, .experts = 3, .top_k = 1, .normalize = false};
  EXPECT_EQ(Choose(one, {-3, -1, -2}, std::vector<float>(3)).experts, (std::vector<int32_t>{1}));
}

TEST(RouterTest, NotANumberChoosesDistinctExperts) {
  const MoeSpec spec{.experts = 4, .top_k = 2, .groups = 2, .groups_kept = 1};
  const Choice choice = Choose(spec, std::vector<float>(4, std::nanf("")), std::vector<float>(4));
  EXPECT_NE(choice.experts[0], choice.experts[1]);
  for (const int32_t e : choice.experts) EXPECT_TRUE(e >= 0 && e < 4) << e;
}

ModelSpec RotarySpec(double theta, std::optional<YarnSpec> yarn) {
  ModelSpec spec;
  spec.mla = MlaSpec{.q_lora_rank = 0, .kv_lora_rank = 512, .nope_dim = 128, .rope_dim = 64, .v_dim = 128};
  spec.ropes = {{.theta = theta, .interleaved = true, .yarn = yarn}};
  return spec;
}

TEST(RopeTest, SoftmaxScalesOfPublishedModels) {
  const YarnSpec v3{.factor = 40, .mscale_all_dim = 1}, k2{.factor = 32, .beta_fast = 1, .mscale_all_dim = 1};
  EXPECT_NEAR(ScoreScale(RotarySpec(1e4, v3)), 0.13523378, 1e-8);
  EXPECT_NEAR(ScoreScale(RotarySpec(5e4, k2)), 0.13086080, 1e-8);
  EXPECT_NEAR(ScoreScale(RotarySpec(5e4, std::nullopt)), 0.07216878, 1e-8);
  EXPECT_EQ(MakeRope(RotarySpec(1e4, v3), 0).magnitude, 1.0f);
}

TEST(RopeTest, YarnKeepsFastAndStretchesSlowFrequencies) {
  const Rope plain = MakeRope(RotarySpec(1e4, std::nullopt), 0);
  const Rope yarn = MakeRope(RotarySpec(1e4, YarnSpec{.factor = 40, .mscale_all_dim = 1}), 0);  // ramp from 10 to 23
  EXPECT_EQ(yarn.frequencies[10], plain.frequencies[10]);
  EXPECT_LT(yarn.frequencies[11], plain.frequencies[11]);
  EXPECT_GT(yarn.frequencies[22], plain.frequencies[22] / 40);
  EXPECT_FLOAT_EQ(yarn.frequencies[23], plain.frequencies[23] / 40);
}

TEST(RopeTest, PairsAreInterleaved) {
  float x[4] = {1, 2, 3, 4};
  const float table[4] = {0, 1, 1, 0};  // a quarter turn, then none
  Rotate(table, 4, x);
  EXPECT_EQ(std::vector<float>(x, x + 4), (std::vector<float>{-2, 1, 3, 4}));
}

TEST(RopeTest, HalvesAreApart) {
  float x[4] = {1, 2, 3, 4};
  const float table[4] = {0, 1, 1, 0};  // pair (0, 2) a quarter turn, pair (1, 3) none
  RotateHalves(table, 4, x);
  EXPECT_EQ(std::vector<float>(x, x + 4), (std::vector<float>{-3, 2, 1, 4}));
}

ModelSpec PlainSpec(const RopeSpec& rope) {
  ModelSpec spec;
  spec.heads = 4;
  spec.gqa = GqaSpec{.kv_heads = 2, .head_dim = 64};
  spec.ropes = {rope};
  return spec;
}

TEST(RopeTest, Llama3KeepsFastAndStretchesSlowFrequencies) {
  const Rope plain = MakeRope(PlainSpec({.theta = 5e5}), 0);
  const Llama3RopeSpec llama3{.factor = 32, .low = 1, .high = 4, .original_positions = 8192};
  const Rope scaled = MakeRope(PlainSpec({.theta = 5e5, .llama3 = llama3}), 0);
  int between = 0;
  for (int i = 0; i < 32; ++i) {
    const double wave = 2 * M_PI / plain.frequencies[i];
    const float whole = plain.frequencies[i];
    if (wave < 8192.0 / 4) {
      EXPECT_EQ(scaled.frequencies[i], whole) << i;
    } else if (wave > 8192) {
      EXPECT_FLOAT_EQ(scaled.frequencies[i], whole / 32) << i;
    } else {
      ++between;
      const double share = (8192 / wave - 1) / 3;
      EXPECT_FLOAT_EQ(scaled.frequencies[i], static_cast<float>((1 - share) * whole / 32 + share * whole)) << i;
    }
  }
  EXPECT_GT(between, 0);
  // Llama 4 Scout: both borders are one, no band lies between them.
  const Llama3RopeSpec scout{.factor = 16, .low = 1, .high = 1, .original_positions = 8192};
  const Rope sharp = MakeRope(PlainSpec({.theta = 5e5, .llama3 = scout}), 0);
  for (int i = 0; i < 32; ++i) {
    const bool fast = 2 * M_PI / plain.frequencies[i] < 8192;
    EXPECT_FLOAT_EQ(sharp.frequencies[i], fast ? plain.frequencies[i] : plain.frequencies[i] / 16) << i;
  }
}

TEST(RopeTest, FrequenciesAreDivided) {
  const Rope plain = MakeRope(PlainSpec({.theta = 1e6}), 0),
             linear = MakeRope(PlainSpec({.theta = 1e6, .linear = 8}), 0);
  std::vector<float> divisors(32, 1);
  divisors[5] = 4;
  const Rope divided = MakeRope(PlainSpec({.theta = 1e6, .divisors = divisors}), 0);
  for (int i = 0; i < 32; ++i) {
    EXPECT_FLOAT_EQ(linear.frequencies[i], plain.frequencies[i] / 8);
    EXPECT_FLOAT_EQ(divided.frequencies[i], plain.frequencies[i] / divisors[i]);
  }
}

TEST(MlpTest, SpreadIsTheNormalQuantile) {
  EXPECT_FLOAT_EQ(SpreadOf(0.95), 1.6448536f);
  EXPECT_FLOAT_EQ(SpreadOf(0.999), 3.0902323f);
  EXPECT_NEAR(SpreadOf(0.5), 0, 1e-7);
  EXPECT_FLOAT_EQ(SpreadOf(0.1), -1.2815516f);
}

// The published widths, in the type that Gemma was trained in.
TEST(EmbeddingTest, GemmasScales) {
  for (const auto& [width, scale] :
       {std::pair{640, 25.25f}, {1152, 34.0f}, {2560, 50.5f}, {3840, 62.0f}, {5376, 73.5f}}) {
    EXPECT_EQ(EmbeddingScale(std::sqrt(width), DType::kBF16), scale) << width;
    EXPECT_FLOAT_EQ(EmbeddingScale(std::sqrt(width), DType::kF32), std::sqrt(static_cast<float>(width))) << width;
  }
}

TEST(NormTest, KindsByHand) {
  const float x[4] = {1, 2, 3, 4}, weight[4] = {1, -1, 0, 2}, bias[4] = {0, 1, 2, 3};
  float y[4];
  const double rms = std::sqrt(30.0 / 4), deviation = std::sqrt(1.25);
  Norm{weight, 4, 0, NormKind::kRms}.Apply(x, 1, y);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(y[i], x[i] / rms * weight[i], 1e-6);
  Norm{weight, 4, 0, NormKind::kRmsPlusOne}.Apply(x, 1, y);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(y[i], x[i] / rms * (1 + weight[i]), 1e-6);
  Norm{weight, 4, 0, NormKind::kLayer, bias}.Apply(x, 1, y);
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(y[i], (x[i] - 2.5) / deviation * weight[i] + bias[i], 1e-6);
}

// Sliding and chunked layers against softmax(q k) v in f64 over more than two segments; what lies before the first
// row's reach is not in the table.
TEST(AttentionTest, ReachesEqualThePlainFormula) {
  ModelSpec spec;
  spec.heads = 4;
  spec.hidden = spec.vocab = 8;
  spec.gqa = GqaSpec{.kv_heads = 2, .head_dim = 12, .scale = 0.3};
  spec.ropes = {{}};
  constexpr int64_t kAll = 210, kFirst = 150, kRows = kAll - kFirst;
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const KvGroup& reach : {KvGroup{}, KvGroup{Reach::kSliding, 70, 1}, KvGroup{Reach::kSliding, 1, 1},
                               KvGroup{Reach::kChunked, 50, 1}, KvGroup{Reach::kChunked, 64, 1}}) {
    spec.layers = {{.reach = reach.reach, .extent = reach.extent, .mlp = 8}};
    const JobShape shape{.topology = {}, .numerics = {}, .kv_blocks = 4, .max_batch_tokens = kRows};
    const Arena workspace(WorkspacePlan(spec, shape, 0));
    const KvCache cache(spec, shape, 0);
    std::vector<int32_t> blocks = {2, 0, 3, 1};
    std::vector<float> keys(kAll * 48), query(kRows * 48);  // a row: 2 key heads, 2 value heads
    for (float& v : keys) v = normal(random);
    for (float& v : query) v = normal(random);
    for (int64_t p = 0; p < kAll; ++p) kernels::Round(keys.data() + p * 48, 48, DType::kF32, cache.Row(0, blocks, p));
    for (int64_t line = 0; line < reach.FirstVisible(kFirst) / kKvBlockTokens; ++line) blocks[line] = -1;
    Gqa gqa;
    gqa.spec = *spec.gqa;
    gqa.reach = reach;
    gqa.heads = {0, 4}, gqa.kv_heads = {0, 2}, gqa.readers = 2;
    const std::vector<int32_t> ids(kRows);
    const std::vector<SequenceRows> sequences = {{0, kRows, kFirst, kAll, blocks}};
    const Batch batch{.ids = ids, .sequences = sequences, .logit_rows = {}};
    const parallel::ParallelContext context;
    const Step step{batch, context, workspace, nullptr, DType::kF32, kRows, {0, kRows}, {kRows}, {}};
    std::vector<float> out(kRows * 48);
    Attend(step, gqa, cache, 0, query, out);
    double worst = 0;
    for (int64_t row = 0; row < kRows; ++row) {
      const int64_t position = kFirst + row;
      for (int64_t head = 0; head < 4; ++head) {
        const int64_t first = reach.reach == Reach::kFull      ? 0
                              : reach.reach == Reach::kSliding ? position - reach.extent + 1
                                                               : position - position % reach.extent;
        std::vector<double> sums(12);
        double total = 0;
        for (int64_t p = std::max<int64_t>(first, 0); p <= position; ++p) {
          double score = 0;
          for (int i = 0; i < 12; ++i) score += query[row * 48 + head * 12 + i] * keys[p * 48 + head / 2 * 12 + i];
          total += std::exp(0.3 * score);
          for (int i = 0; i < 12; ++i) sums[i] += std::exp(0.3 * score) * keys[p * 48 + 24 + head / 2 * 12 + i];
        }
        for (int i = 0; i < 12; ++i) {
          const double difference = std::fabs(sums[i] / total - out[row * 48 + head * 12 + i]);
          worst = difference <= worst ? worst : difference;
        }
      }
    }
    EXPECT_LT(worst, 2e-6) << static_cast<int>(reach.reach) << " " << reach.extent;
  }
}

// One layer of latent attention.
ModelSpec LatentSpec(int64_t heads, int64_t rank) {
  ModelSpec spec;
  spec.layers = {{.mlp = 8}};
  spec.ropes = {{}};
  spec.heads = heads;
  spec.hidden = spec.vocab = 8;
  spec.mla = MlaSpec{.q_lora_rank = 0, .kv_lora_rank = rank, .nope_dim = 12, .rope_dim = 4, .v_dim = 20};
  return spec;
}

// Both forms of MLA against softmax(q k) v in f64, over more than two segments.
TEST(AttentionTest, BothFormsEqualThePlainFormula) {
  const ModelSpec spec = LatentSpec(2, 24);
  const MlaSpec& mla = *spec.mla;
  constexpr int64_t kRows = 150;
  const JobShape shape{.topology = {}, .numerics = {}, .kv_blocks = 3, .max_batch_tokens = kRows};
  const Arena workspace(WorkspacePlan(spec, shape, 0));
  const KvCache cache(spec, shape, 0);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<BF16> up(spec.heads * (mla.nope_dim + mla.v_dim) * mla.kv_lora_rank);
  for (BF16& w : up) w = ToBF16(0.3f * normal(random));
  std::vector<float> query(kRows * spec.heads * mla.qk_dim());
  for (float& q : query) q = normal(random);
  const std::vector<int32_t> blocks = {2, 0, 1};
  std::vector<float> latents(kRows * mla.latent_dim());
  for (float& c : latents) c = normal(random);
  for (int64_t p = 0; p < kRows; ++p) {
    kernels::Round(latents.data() + p * mla.latent_dim(), mla.latent_dim(), DType::kF32, cache.Row(0, blocks, p));
  }
  const LatentAttention attention{mla, spec.heads,
                                  kernels::PlainMatrix(up.data(), static_cast<int64_t>(up.size()) / mla.kv_lora_rank,
                                                       mla.kv_lora_rank, mla.kv_lora_rank),
                                  0.25f};
  const std::vector<int32_t> ids(kRows);
  for (const int64_t prompt : {kRows, int64_t{0}, int64_t{70}}) {
    const std::vector<SequenceRows> sequences = {{0, kRows, 0, prompt, blocks}};
    const Batch batch{.ids = ids, .sequences = sequences, .logit_rows = {}};
    const parallel::ParallelContext context;
    const Step step{batch, context, workspace, nullptr, DType::kF32, kRows, {0, kRows}, {kRows}, {}};
    std::vector<float> out(kRows * spec.heads * mla.v_dim);
    Attend(step, attention, cache, 0, query, out);
    double worst = 0;
    for (int64_t row = 0; row < kRows; row += 7) {
      for (int64_t head = 0; head < spec.heads; ++head) {
        const auto weight = [&](int64_t o, int64_t c) {
          return ToFloat(up[(head * (mla.nope_dim + mla.v_dim) + o) * mla.kv_lora_rank + c]);
        };
        const auto up_of = [&](int64_t o, int64_t p) {
          double sum = 0;
          for (int64_t c = 0; c < mla.kv_lora_rank; ++c) sum += weight(o, c) * latents[p * mla.latent_dim() + c];
          return sum;
        };
        const float* q = query.data() + (row * spec.heads + head) * mla.qk_dim();
        std::vector<double> sums(mla.v_dim);
        double total = 0;
        for (int64_t p = 0; p <= row; ++p) {
          double score = 0;
          for (int64_t i = 0; i < mla.nope_dim; ++i) score += q[i] * up_of(i, p);
          for (int64_t i = 0; i < mla.rope_dim; ++i) {
            score += q[mla.nope_dim + i] * latents[p * mla.latent_dim() + mla.kv_lora_rank + i];
          }
          const double e = std::exp(0.25 * score);
          total += e;
          for (int64_t i = 0; i < mla.v_dim; ++i) sums[i] += e * up_of(mla.nope_dim + i, p);
        }
        for (int64_t i = 0; i < mla.v_dim; ++i) {
          const double difference = std::fabs(sums[i] / total - out[(row * spec.heads + head) * mla.v_dim + i]);
          worst = difference <= worst ? worst : difference;
        }
      }
    }
    EXPECT_LT(worst, 2e-5) << "prompt " << prompt;
  }
}

// One row over a cache that is long enough for threads to take its segments: one thread alone gives the same bits.
TEST(AttentionTest, ThreadsShareALongCacheWithoutChangingABit) {
  const ModelSpec spec = LatentSpec(3, 32);
  const MlaSpec& mla = *spec.mla;
  constexpr int64_t kContext = 70 * kKvBlockTokens + 5;  // more segments than are taken at once
  NormalValues values{.random = std::mt19937(1)};
  std::vector<BF16> up;
  for (const float w : values(spec.heads * (mla.nope_dim + mla.v_dim) * mla.kv_lora_rank)) {
    up.push_back(ToBF16(0.3f * w));
  }
  const LatentAttention attention{mla, spec.heads,
                                  kernels::PlainMatrix(up.data(), static_cast<int64_t>(up.size()) / mla.kv_lora_rank,
                                                       mla.kv_lora_rank, mla.kv_lora_rank),
                                  0.25f};
  const std::vector<float> query = values(2 * spec.heads * mla.qk_dim()), latents = values(kContext * mla.latent_dim());
  std::vector<int32_t> blocks(kContext / kKvBlockTokens + 1);
  std::iota(blocks.rbegin(), blocks.rend(), 0);
  const std::vector<int32_t> ids(2);
  for (const char* profile : {"f32", "bf16", "f32-kv8"}) {
    const Numerics numerics = NumericsNamed(profile).value();
    const JobShape shape{.topology = {}, .numerics = numerics, .kv_blocks = std::ssize(blocks), .max_batch_tokens = 2};
    const Arena workspace(WorkspacePlan(spec, shape, 0));
    const KvCache cache(spec, shape, 0);
    for (int64_t p = 0; p < kContext; ++p) {
      cache.Store(latents.data() + p * mla.latent_dim(), {0, mla.latent_dim()}, cache.Row(0, blocks, p));
    }
    // Two sequences of one row each, both long; the first ends with a whole segment.
    const std::vector<SequenceRows> sequences = {{0, 1, kContext - 6, 1, blocks}, {1, 1, kContext - 1, 1, blocks}};
    const Batch batch{.ids = ids, .sequences = sequences, .logit_rows = {}};
    const auto attend = [&](ThreadPool* pool) {
      const parallel::ParallelContext context;
      const Step step{batch, context, workspace, pool, DType::kF32, 2, {0, 2}, {2}, nullptr, {}};
      std::vector<float> out(2 * spec.heads * mla.v_dim);
      Attend(step, attention, cache, 0, query, out);
      return out;
    };
    const std::vector<float> alone = attend(nullptr);
    for (const int threads : {2, 3, 16}) {
      ThreadPool pool(threads);
      const std::vector<float> shared = attend(&pool);
      EXPECT_EQ(std::memcmp(shared.data(), alone.data(), alone.size() * sizeof(float)), 0) << profile << " " << threads;
    }
  }
}

// Rows that go through a segment together, all seeing as much of it or each one position more, against row after row.
TEST(SegmentTest, BlocksHaveTheBitsOfTheirRows) {
  constexpr int64_t kWidth = 24, kValues = 40, kBegin = 64, kCount = 50;
  NormalValues values{.random = std::mt19937(3)};
  const std::vector<float> keys = values(kWidth * kKvBlockTokens), rows_of_values = values(kCount * kValues);
  for (const bool by_column : {true, false}) {
    const Segment segment{.begin = kBegin,
                          .count = kCount,
                          .keys = keys.data(),
                          .key_stride = by_column ? kKvBlockTokens : kWidth,
                          .key_width = kWidth,
                          .keys_by_column = by_column,
                          .values = rows_of_values.data(),
                          .value_stride = kValues,
                          .value_width = kValues};
    for (const bool first : {true, false}) {
      for (const auto& [rows, seen, more] :
           {std::array<int64_t, 3>{1, 1, 1}, {4, 1, 1}, {kRisingRows, 46, 1}, {3, 20, 1}, {9, 50, 0}, {64, 50, 0}}) {
        const std::vector<float> queries = values(rows * kWidth), before = values(rows * kValues);
        std::vector<float> want = before, got = before, term(kValues);
        std::vector<Running> want_state(rows, {.max = 0.5f, .sum = 2}), got_state = want_state;
        for (int64_t r = 0; r < rows; ++r) {
          const SegmentRow row{.query = queries.data() + r * kWidth,
                               .first = first ? kBegin : 0,
                               .position = kBegin + seen + more * r - 1,
                               .running = &want_state[r],
                               .sum = want.data() + r * kValues};
          AddSegment(segment, row, 0.3f, term.data());
        }
        std::vector<float> scratch(SegmentScratch(rows, kValues));
        const SegmentBlock block{.rows = rows,
                                 .seen = seen,
                                 .more = more,
                                 .first = first,
                                 .queries = queries.data(),
                                 .query_stride = kWidth,
                                 .running = got_state.data(),
                                 .sums = got.data(),
                                 .sum_stride = kValues};
        AddSegment(segment, block, 0.3f, scratch.data());
        EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0) << rows << " rows";
        EXPECT_EQ(std::memcmp(got_state.data(), want_state.data(), rows * sizeof(Running)), 0) << rows << " rows";
      }
    }
  }
}

}  // namespace
}  // namespace atl::models
