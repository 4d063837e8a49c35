// GGUF models: the reference's logits; the very bits of the safetensors checkpoint that they were made from; and of a
// quantised one, the bits of its decoded weights, in every shape of the cluster.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>
#include <random>
#include <utility>

#include "models/kernels/kernels.h"
#include "models/weights/checkpoint.h"
#include "models/weights/formats/gguf_file.h"
#include "models/weights/formats/table.h"
#include "models/weights/slice_reader.h"
#include "tests/models/gguf_writer.h"
#include "tests/models/row_differences.h"
#include "tests/models/world.h"

namespace atl::models {
namespace {

constexpr float kTolerance = 1e-3f;
constexpr parallel::Topology kShapes[] = {{1, 1}, {2, 1}, {2, 2}, {4, 2}, {4, 4}, {8, 8}};
const std::string kGolden = std::string(ATOLL_SOURCE_DIR) + "/tests/golden/";

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

template <typename T>
std::vector<T> Values(const Checkpoint& file, const std::string& name) {
  const TensorView* tensor = file.Find(name);
  if (tensor == nullptr) throw std::runtime_error("no tensor " + name);
  std::vector<T> values(tensor->bytes / sizeof(T));
  std::memcpy(values.data(), tensor->data, tensor->bytes);
  return values;
}

struct Case {
  const char *file, *family;
  // As the safetensors checkpoint: the same products in the same order. Not where up projections are apart, and not
  // with Llama 3's rotary factors, which the file holds rounded to f32.
  bool same_bits;
};

class GgufGolden : public testing::TestWithParam<Case> {};

TEST_P(GgufGolden, LogitsInEveryShape) {
  const Case& c = GetParam();
  const auto golden = Checkpoint::Open(kGolden + c.family + "/golden.safetensors");
  ASSERT_TRUE(golden.ok()) << golden.status();
  const auto ids = Values<int32_t>(*golden, "input_ids");
  const auto want = Values<float>(*golden, "logits");
  const std::vector<int64_t> shape = golden->Find("input_ids")->shape;
  const std::string path = kGolden + "gguf/" + c.file;
  World one({.path = path, .topology = {1, 1}});
  World original({.path = kGolden + c.family, .topology = {1, 1}});
  const int64_t vocab = one.spec().vocab, prompt = shape[1] * 2 / 3;  // the rest in emitted form
  for (int64_t row = 0; row < shape[0]; ++row) {
    const std::vector<int32_t> text(ids.begin() + row * shape[1], ids.begin() + (row + 1) * shape[1]);
    const std::vector<float> all = one.Score(text, shape[1], shape[1]);
    float worst = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      const float difference = std::fabs(all[i] - want[row * shape[1] * vocab + i]);
      worst = difference <= worst ? worst : difference;
    }
    std::printf("%s row %d: worst difference %.3g\n", c.file, static_cast<int>(row), worst);
    EXPECT_LE(worst, kTolerance);
    const std::vector<float> expected = one.Score(text, prompt, shape[1]);
    EXPECT_EQ(SameBits(original.Score(text, prompt, shape[1]), expected), c.same_bits);
    for (const parallel::Topology& topology : kShapes) {
      if (row > 0 && topology.world != 4) continue;
      World world({.path = path, .topology = topology});
      EXPECT_TRUE(SameBits(world.Score(text, prompt, 37, topology.groups() - 1), expected))
          << topology.world << "x" << topology.tp;
    }
  }
}

// Renamed, unstacked and with its heads' rows in order again, every tensor is the published one.
TEST_P(GgufGolden, TensorsAreTheOriginals) {
  const Case& c = GetParam();
  const auto spec = ReadModel(kGolden + "gguf/" + c.file);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto gguf = Checkpoint::Open(kGolden + "gguf/" + c.file), original = Checkpoint::Open(kGolden + c.family);
  ASSERT_TRUE(gguf.ok() && original.ok());
  const float one = std::string(c.family) == "gemma3" ? 1 : 0;  // added to its norms
  const auto whole = [&](const Checkpoint& checkpoint, Parameter p) {
    const auto stored = FindStored(checkpoint, p);
    if (!stored.ok()) throw std::runtime_error(ToString(stored.status().message()));
    const Slice slice{{0, p.shape[0]}, {0, p.shape.size() > 1 ? p.shape[1] : 1}};
    if (p.shape.size() > 1) p.format = stored->format;
    std::vector<std::byte> bytes(PackingOf(p.format, slice.rows, slice.columns).bytes);
    if (!ReadSlice(p, *stored, slice, bytes.data()).ok()) throw std::runtime_error("not read: " + p.name);
    std::vector<float> values(p.elements());
    const kernels::Matrix matrix = kernels::PackedMatrix(bytes.data(), p.format, slice.rows, slice.columns);
    for (int64_t r = 0; r < matrix.rows; ++r) kernels::WidenRow(matrix, r, values.data() + r * matrix.cols);
    return values;
  };
  for (const Parameter& p : Parameters(*spec)) {
    if (p.name.find(".k_b_proj") != std::string::npos || p.name.find(".v_b_proj") != std::string::npos) {
      const bool keys = p.name.find(".k_b_proj") != std::string::npos;
      const MlaSpec& mla = *spec->mla;
      Parameter fused = p;
      fused.name.replace(fused.name.find(keys ? ".k_b" : ".v_b"), 4, ".kv_b");
      const int64_t width = mla.nope_dim + mla.v_dim, rank = mla.kv_lora_rank;
      fused.shape = {spec->heads * width, rank};
      const std::vector<float> want = whole(*original, fused), got = whole(*gguf, p);
      for (int64_t h = 0; h < spec->heads; ++h) {
        for (int64_t i = 0; i < (keys ? mla.nope_dim : mla.v_dim); ++i) {
          for (int64_t r = 0; r < rank; ++r) {
            ASSERT_EQ(keys ? got[(h * rank + r) * mla.nope_dim + i] : got[(h * mla.v_dim + i) * rank + r],
                      want[(h * width + (keys ? 0 : mla.nope_dim) + i) * rank + r]);
          }
        }
      }
      continue;
    }
    std::vector<float> want = whole(*original, p);
    for (float& v : want) v += p.kind == ParameterKind::kNorm ? one : 0;
    ASSERT_EQ(whole(*gguf, p), want) << p.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GgufGolden,
                         testing::Values(Case{"llama3.gguf", "llama3", false},
                                         Case{"qwen3_moe.gguf", "qwen3_moe", true}, Case{"gemma3.gguf", "gemma3", true},
                                         Case{"deepseek_v3.fused_kv.gguf", "deepseek_v3", true},
                                         Case{"deepseek_v3.split_kv.gguf", "deepseek_v3", false},
                                         Case{"kimi_k2.gguf", "kimi_k2", false}),
                         [](const auto& info) {
                           std::string name = info.param.file;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

// The fixtures that tests/golden/gguf has no file of, laid out as llama.cpp's converter does: each tensor renamed,
// Conv1D matrices as [out, in], the rest as it is.
void Convert(const std::string& family, GgufWriter* gguf) {
  const std::vector<std::pair<std::string, std::string>> names = {{"model.layers.", "blk."},
                                                                  {"input_layernorm", "attn_norm"},
                                                                  {"self_attn.q_proj", "attn_q"},
                                                                  {"self_attn.k_proj", "attn_k"},
                                                                  {"self_attn.v_proj", "attn_v"},
                                                                  {"self_attn.o_proj", "attn_output"},
                                                                  {"self_attn.q_norm", "attn_q_norm"},
                                                                  {"self_attn.k_norm", "attn_k_norm"},
                                                                  {"post_attention_layernorm", "ffn_norm"},
                                                                  {"mlp.gate_proj", "ffn_gate"},
                                                                  {"mlp.up_proj", "ffn_up"},
                                                                  {"mlp.down_proj", "ffn_down"},
                                                                  {"model.embed_tokens", "token_embd"},
                                                                  {"model.norm", "output_norm"},
                                                                  {"transformer.", ""},
                                                                  {"h.", "blk."},
                                                                  {"ln_1", "attn_norm"},
                                                                  {"ln_2", "ffn_norm"},
                                                                  {"ln_f", "output_norm"},
                                                                  {"attn.c_attn", "attn_qkv"},
                                                                  {"attn.c_proj", "attn_output"},
                                                                  {"mlp.c_fc", "ffn_up"},
                                                                  {"mlp.c_proj", "ffn_down"},
                                                                  {"wte", "token_embd"},
                                                                  {"wpe", "position_embd"}};
  const auto checkpoint = Checkpoint::Open(kGolden + family);
  for (const auto& [published, tensor] : checkpoint->tensors()) {
    if (published.ends_with(".attn.bias")) continue;  // GPT-2's causal mask
    std::string name = published;
    for (const auto& [ours, theirs] : names) {
      if (const size_t at = name.find(ours); at != std::string::npos) name.replace(at, ours.size(), theirs);
    }
    std::string bytes(reinterpret_cast<const char*>(tensor.data), tensor.bytes);
    std::vector<int64_t> shape = tensor.shape;
    const bool conv1d = published.find(".c_") != std::string::npos && shape.size() == 2;
    if (conv1d) {
      for (int64_t i = 0; i < shape[0]; ++i) {
        for (int64_t o = 0; o < shape[1]; ++o) {
          std::memcpy(&bytes[2 * (o * shape[0] + i)], tensor.data + 2 * (i * shape[1] + o), 2);
        }
      }
      std::swap(shape[0], shape[1]);
    }
    if (shape.size() == 1) {  // vectors are f32
      bytes.clear();
      for (int64_t i = 0; i < shape[0]; ++i) {
        GgufWriter::Put(ToFloat(reinterpret_cast<const BF16*>(tensor.data)[i]), &bytes);
      }
    }
    gguf->Tensor(name, shape, shape.size() == 1 ? 0 : 30, bytes);
  }
}

void ExpectTheBitsOf(const std::string& family, const GgufWriter& gguf) {
  const std::string path = (std::filesystem::path(testing::TempDir()) / (family + ".gguf")).string();
  gguf.Write(path);
  World original({.path = kGolden + family, .topology = {1, 1}});
  std::vector<int32_t> ids;
  for (int i = 0; i < 90; ++i) ids.push_back(static_cast<int32_t>(i * 37 % original.spec().vocab));
  const std::vector<float> expected = original.Score(ids, 60, 90);
  for (const parallel::Topology& topology : {parallel::Topology{1, 1}, {4, 4}}) {
    World world({.path = path, .topology = topology});
    EXPECT_TRUE(SameBits(world.Score(ids, 60, 31), expected)) << family << " tp " << topology.tp;
  }
  std::filesystem::remove(path);
}

TEST(GgufConverted, Qwen3) {
  const ModelSpec spec = *ReadModelSpec(kGolden + "qwen3");
  GgufWriter gguf;
  gguf.Text("general.architecture", "qwen3");
  gguf.Number("qwen3.block_count", static_cast<uint32_t>(spec.num_layers()));
  gguf.Number("qwen3.context_length", static_cast<uint32_t>(spec.max_positions));
  gguf.Number("qwen3.embedding_length", static_cast<uint32_t>(spec.hidden));
  gguf.Number("qwen3.feed_forward_length", static_cast<uint32_t>(spec.layers[0].mlp));
  gguf.Number("qwen3.attention.head_count", static_cast<uint32_t>(spec.heads));
  // One number for each layer is another way to say it.
  gguf.Array("qwen3.attention.head_count_kv",
             std::vector<int32_t>(spec.num_layers(), static_cast<int32_t>(spec.gqa->kv_heads)));
  gguf.Number("qwen3.attention.key_length", static_cast<uint32_t>(spec.gqa->head_dim));
  gguf.Number("qwen3.attention.value_length", static_cast<uint32_t>(spec.gqa->head_dim));
  gguf.Number("qwen3.attention.layer_norm_rms_epsilon", static_cast<float>(spec.norm_eps));
  gguf.Number("qwen3.rope.freq_base", static_cast<float>(spec.ropes[0].theta));
  Convert("qwen3", &gguf);
  ExpectTheBitsOf("qwen3", gguf);
}

TEST(GgufConverted, Gpt2) {
  const ModelSpec spec = *ReadModelSpec(kGolden + "gpt2");
  GgufWriter gguf;
  gguf.Text("general.architecture", "gpt2");
  gguf.Number("gpt2.block_count", static_cast<uint32_t>(spec.num_layers()));
  gguf.Number("gpt2.context_length", static_cast<uint32_t>(spec.max_positions));
  gguf.Number("gpt2.embedding_length", static_cast<uint32_t>(spec.hidden));
  gguf.Number("gpt2.feed_forward_length", static_cast<uint32_t>(spec.layers[0].mlp));
  gguf.Number("gpt2.attention.head_count", static_cast<uint32_t>(spec.heads));
  gguf.Number("gpt2.attention.layer_norm_epsilon", static_cast<float>(spec.norm_eps));
  Convert("gpt2", &gguf);
  ExpectTheBitsOf("gpt2", gguf);
}

// A Llama of 256 wide, whose matrices are all of one block type, and the same with its weights decoded.
class QuantisedLlama {
 public:
  static constexpr int64_t kHidden = 256, kVocab = 64, kHeads = 8, kKvHeads = 4, kHeadDim = 32, kMlp = 512;

  QuantisedLlama(std::string type, uint32_t number)
      : type_(std::move(type)), number_(number), format_(*GgufFormat(number)), random_(number) {
    for (GgufWriter* file : {&quantised, &decoded}) {
      file->Text("general.architecture", "llama");
      file->Number("llama.block_count", 2u);
      file->Number("llama.context_length", 256u);
      file->Number("llama.embedding_length", static_cast<uint32_t>(kHidden));
      file->Number("llama.feed_forward_length", static_cast<uint32_t>(kMlp));
      file->Number("llama.attention.head_count", static_cast<uint32_t>(kHeads));
      file->Number("llama.attention.head_count_kv", static_cast<uint32_t>(kKvHeads));
      file->Number("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    }
    Matrix("token_embd.weight", kVocab, kHidden);
    for (int layer = 0; layer < 2; ++layer) {
      const std::string block = fmt::format("blk.{}.", layer);
      Norm(block + "attn_norm.weight");
      Matrix(block + "attn_q.weight", kHeads * kHeadDim, kHidden);
      Matrix(block + "attn_k.weight", kKvHeads * kHeadDim, kHidden);
      Matrix(block + "attn_v.weight", kKvHeads * kHeadDim, kHidden);
      Matrix(block + "attn_output.weight", kHidden, kHeads * kHeadDim);
      Norm(block + "ffn_norm.weight");
      Matrix(block + "ffn_gate.weight", kMlp, kHidden);
      Matrix(block + "ffn_up.weight", kMlp, kHidden);
      Matrix(block + "ffn_down.weight", kHidden, kMlp);
    }
    Norm("output_norm.weight");  // the head is the embedding
  }

  GgufWriter quantised, decoded;

 private:
  void Norm(const std::string& name) {
    std::string bytes;
    for (int64_t i = 0; i < kHidden; ++i) GgufWriter::Put(0.5f + static_cast<float>(random_() % 100) / 100, &bytes);
    quantised.Tensor(name, {kHidden}, 0, bytes);
    decoded.Tensor(name, {kHidden}, 0, bytes);
  }
  void Matrix(const std::string& name, int64_t rows, int64_t columns) {
    static const Checkpoint blocks = *Checkpoint::Open(kGolden + "gguf/blocks.safetensors");
    const WeightFormatInfo info = InfoOf(format_);
    const auto* raw = reinterpret_cast<const char*>(blocks.Find(type_ + ".raw")->data);
    std::string bytes, values;
    for (int64_t i = 0; i < rows * columns / info.group; ++i) {
      bytes.append(raw + random_() % 24 * info.group_bytes, info.group_bytes);
    }
    const kernels::Matrix matrix =
        kernels::PackedMatrix(reinterpret_cast<const std::byte*>(bytes.data()), format_, {0, rows}, {0, columns});
    std::vector<float> row(columns);
    for (int64_t r = 0; r < rows; ++r) {
      kernels::WidenRow(matrix, r, row.data());
      for (const float value : row) GgufWriter::Put(value, &values);
    }
    quantised.Tensor(name, {rows, columns}, number_, bytes);
    decoded.Tensor(name, {rows, columns}, 0, values);
  }

  const std::string type_;
  const uint32_t number_;
  const WeightFormat format_;
  std::mt19937 random_;
};

// Its two files, and the logits of the decoded one.
class GgufQuantised : public testing::TestWithParam<std::pair<const char*, uint32_t>> {
 protected:
  void SetUp() override {
    const QuantisedLlama model(type(), GetParam().second);
    std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    std::replace(name.begin(), name.end(), '/', '_');
    directory_ = std::filesystem::path(testing::TempDir()) / ("gguf_" + name);
    std::filesystem::create_directories(directory_);
    quantised_ = directory_ / "quantised.gguf";
    model.quantised.Write(quantised_);
    const std::string decoded = directory_ / "decoded.gguf";
    model.decoded.Write(decoded);
    for (int i = 0; i < 40; ++i) ids_.push_back(i * 7 % QuantisedLlama::kVocab);
    plain_.emplace(WorldOptions{.path = decoded, .topology = {1, 1}});
    expected_ = plain_->Score(ids_, 40, 40);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  static const char* type() { return GetParam().first; }

  std::filesystem::path directory_;
  std::string quantised_;
  std::vector<int32_t> ids_;
  std::optional<World> plain_;
  std::vector<float> expected_;  // [ids, kVocab]
};

TEST_P(GgufQuantised, HasTheBitsOfItsDecodedWeightsInEveryShape) {
  for (const float logit : expected_) ASSERT_TRUE(std::isfinite(logit));
  ASSERT_FALSE(SameBits({expected_.begin(), expected_.begin() + 64}, {expected_.end() - 64, expected_.end()}));
  for (const parallel::Topology& topology : {parallel::Topology{1, 1}, {2, 2}, {4, 4}, {8, 8}}) {
    World world({.path = quantised_, .topology = topology});
    EXPECT_TRUE(SameBits(world.Score(ids_, 40, 23), expected_)) << type() << " tp " << topology.tp;
    EXPECT_LT(world.model(0).memory().weight_bytes(), plain_->model(0).memory().weight_bytes() / topology.tp);
    for (int rank = 0; rank < topology.world; ++rank) {
      EXPECT_EQ(world.model(rank).memory().weights,
                PlanRankMemory(world.spec(), world.shape(), rank, world.placement()).weights);
    }
  }
}

// The same as products of integers, each type as it is stored: the same bits in every shape (tp 8 cuts o_proj inside
// the blocks of 256), and near the decoded weights, for activations are rounded to 8 bits.
class GgufNative : public GgufQuantised {};

TEST_P(GgufNative, HasTheSameBitsInEveryShapeNearItsDecodedWeights) {
  std::optional<std::vector<float>> logits_of_all;
  for (const parallel::Topology& topology : {parallel::Topology{1, 1}, {2, 2}, {4, 4}, {8, 8}}) {
    World world({.path = quantised_, .topology = topology, .weights = "native", .head_weights = "native"});
    for (const Parameter& p : Parameters(world.spec())) {
      if (p.shape.size() > 1) EXPECT_EQ(p.format, PackedFrom(*GgufFormat(GetParam().second))) << p.name;
    }
    const std::vector<float> logits = world.Score(ids_, 40, 23);
    if (!logits_of_all) logits_of_all = logits;
    EXPECT_TRUE(SameBits(logits, *logits_of_all)) << type() << " tp " << topology.tp;
  }
  const std::vector<double> differences = RowDifferences(*logits_of_all, expected_, QuantisedLlama::kVocab, type());
  EXPECT_LE(differences[differences.size() / 2], 0.06);
  EXPECT_GT(differences.front(), 0) << "activations were not rounded";
}

INSTANTIATE_TEST_SUITE_P(Types, GgufNative,
                         testing::Values(std::pair{"Q4_0", 2u}, std::pair{"Q8_0", 8u}, std::pair{"Q4_K", 12u},
                                         std::pair{"Q6_K", 14u}),
                         [](const auto& info) { return info.param.first; });

INSTANTIATE_TEST_SUITE_P(Types, GgufQuantised,
                         testing::Values(std::pair{"Q4_0", 2u}, std::pair{"Q4_1", 3u}, std::pair{"Q5_0", 6u},
                                         std::pair{"Q5_1", 7u}, std::pair{"Q8_0", 8u}, std::pair{"Q2_K", 10u},
                                         std::pair{"Q3_K", 11u}, std::pair{"Q4_K", 12u}, std::pair{"Q5_K", 13u},
                                         std::pair{"Q6_K", 14u}, std::pair{"IQ2_XXS", 16u}, std::pair{"IQ2_XS", 17u},
                                         std::pair{"IQ3_XXS", 18u}, std::pair{"IQ1_S", 19u}, std::pair{"IQ4_NL", 20u},
                                         std::pair{"IQ3_S", 21u}, std::pair{"IQ2_S", 22u}, std::pair{"IQ4_XS", 23u},
                                         std::pair{"IQ1_M", 29u}, std::pair{"MXFP4", 39u}),
                         [](const auto& info) { return info.param.first; });

}  // namespace
}  // namespace atl::models
