// Gemma 3n against its formula in f64, plain loops over the checkpoint's tensors. The formula is checked against the
// reference's answer first; then it says what the reference could not: keys and values shared between layers (the
// reference was run without a cache, and then its layers use their own), and models sliced out of a larger one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/spec/matformer.h"
#include "models/weights/checkpoint.h"
#include "tests/models/world.h"

namespace atl::models {
namespace {

using Vector = std::vector<double>;

const std::string kPath = std::string(ATOLL_SOURCE_DIR) + "/tests/golden/gemma3n";
constexpr int64_t kTokens = 24;

class Formula {
 public:
  explicit Formula(const ModelSpec& spec) : spec_(spec), file_(*Checkpoint::Open(kPath)), n_(spec.gemma3n->streams) {}

  // Logits [tokens * vocab].
  Vector Run(const std::vector<int32_t>& ids) {
    std::vector<std::vector<Vector>> h;  // [token][stream]
    for (const int32_t id : ids) h.push_back(Begin(id));
    for (int64_t l = 0; l < spec_.num_layers(); ++l) Layer(l, ids, &h);
    Vector logits;
    for (auto& streams : h) {
      Vector mean = streams[0];
      for (int64_t i = 1; i < n_; ++i) {
        const Vector u = Product(fmt::format("model.altup_unembed_projections.{}", i - 1), streams[i]);
        for (size_t k = 0; k < mean.size(); ++k) mean[k] += u[k] * Match(streams[0], u);
      }
      for (double& v : mean) v /= static_cast<double>(n_);
      for (const double logit : Product("model.embed_tokens", Norm(mean, "model.norm"))) {
        logits.push_back(spec_.logit_softcap * std::tanh(logit / spec_.logit_softcap));
      }
    }
    return logits;
  }

 private:
  // [rows, columns] of a tensor; only its first rows or columns where a smaller matrix is asked for.
  const Vector& Tensor(const std::string& name) {
    Vector& values = tensors_[name];
    if (values.empty()) {
      const TensorView* tensor = file_.Find(name);
      ATOLL_CHECK(tensor != nullptr && tensor->dtype == DType::kBF16, "{}", name);
      for (int64_t i = 0; i < tensor->bytes / 2; ++i) {
        BF16 value;
        std::memcpy(&value, tensor->data + 2 * i, 2);
        values.push_back(ToFloat(value));
      }
    }
    return values;
  }
  Vector Product(const std::string& name, const Vector& x, int64_t rows = 0) {
    const Vector& w = Tensor(name + ".weight");
    const std::vector<int64_t>& shape = file_.Find(name + ".weight")->shape;
    Vector y(rows > 0 ? rows : shape[0]);
    for (size_t o = 0; o < y.size(); ++o) {
      for (size_t k = 0; k < x.size(); ++k) y[o] += w[o * shape[1] + k] * x[k];
    }
    return y;
  }
  static double MeanSquare(const Vector& x) {
    double sum = 0;
    for (const double v : x) sum += v * v;
    return sum / static_cast<double>(x.size());
  }
  static double Match(const Vector& like, const Vector& x) {
    return std::sqrt(MeanSquare(like)) / std::sqrt(std::max(MeanSquare(x), 1e-5));
  }
  Vector Norm(Vector x, const std::string& name = "") {
    const double factor = 1 / std::sqrt(MeanSquare(x) + 1e-6);
    for (size_t i = 0; i < x.size(); ++i) x[i] *= factor * (name.empty() ? 1 : Tensor(name + ".weight")[i]);
    return x;
  }
  static double Gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
  static void AddTo(const Vector& x, Vector* sum) {
    for (size_t i = 0; i < x.size(); ++i) (*sum)[i] += x[i];
  }

  std::vector<Vector> Begin(int32_t id) {
    const Vector& table = Tensor("model.embed_tokens.weight");
    Vector first(table.begin() + id * spec_.hidden, table.begin() + (id + 1) * spec_.hidden);
    for (double& v : first) v *= std::sqrt(static_cast<double>(spec_.hidden));
    std::vector<Vector> streams = {first};
    for (int64_t i = 1; i < n_; ++i) {
      Vector p = Product(fmt::format("model.altup_projections.{}", i - 1), first);
      const double match = Match(first, p);
      for (double& v : p) v *= match;
      streams.push_back(p);
    }
    return streams;
  }

  // The inputs of layer l for a token: the rows and columns of the tensors that hold all stored layers.
  Vector LayerInput(int64_t l, int32_t id) {
    const int64_t inner = spec_.gemma3n->per_layer_width, stored = spec_.layers[l].stored_layer;
    const int64_t width = spec_.gemma3n->stored_layers * inner;
    const Vector& table = Tensor("model.embed_tokens_per_layer.weight");
    const Vector all = Product("model.per_layer_model_projection", Begin(id)[0]);
    Vector x(all.begin() + stored * inner, all.begin() + (stored + 1) * inner);
    for (double& v : x) v /= std::sqrt(static_cast<double>(spec_.hidden));
    x = Norm(x, "model.per_layer_projection_norm");
    for (int64_t i = 0; i < inner; ++i) {
      x[i] += table[id * width + stored * inner + i] * std::sqrt(static_cast<double>(inner));
      x[i] /= std::sqrt(2.0);
    }
    return x;
  }

  Vector Modalities(const std::string& name, const Vector& x) {
    Vector normed = Norm(x, name + "altup.router_norm");
    for (double& v : normed) v /= static_cast<double>(spec_.hidden);
    Vector m = Product(name + "altup.modality_router", normed);
    for (double& v : m) v = std::tanh(v);
    return m;
  }

  std::vector<Vector> Heads(const Vector& x, const std::string& norm, bool turn, int64_t position, double theta) {
    const int64_t width = spec_.gqa->head_dim, half = width / 2;
    std::vector<Vector> heads;
    for (size_t at = 0; at < x.size(); at += width) {
      Vector head = Norm(Vector(x.begin() + at, x.begin() + at + width), norm);
      for (int64_t i = 0; turn && i < half; ++i) {
        const double angle = position * std::pow(theta, -2.0 * i / width), a = head[i], b = head[i + half];
        head[i] = a * std::cos(angle) - b * std::sin(angle);
        head[i + half] = b * std::cos(angle) + a * std::sin(angle);
      }
      heads.push_back(head);
    }
    return heads;
  }

  Vector Attention(int64_t l, const Vector& x, int64_t position) {
    const LayerSpec& layer = spec_.layers[l];
    const std::string name = fmt::format("model.layers.{}.self_attn.", layer.stored_layer);
    const double theta = spec_.ropes[layer.rope].theta;
    if (layer.kv_layer == l) {
      keys_[l].push_back(Heads(Product(name + "k_proj", x), name + "k_norm", true, position, theta));
      values_[l].push_back(Heads(Product(name + "v_proj", x), "", false, 0, 0));
    }
    const auto& keys = keys_[layer.kv_layer];
    const auto& values = values_[layer.kv_layer];
    const auto queries = Heads(Product(name + "q_proj", x), name + "q_norm", true, position, theta);
    Vector out;
    for (size_t head = 0; head < queries.size(); ++head) {
      const size_t kv = head / (spec_.heads / spec_.gqa->kv_heads);
      const int64_t first = layer.reach == Reach::kFull ? 0 : std::max<int64_t>(position - layer.extent + 1, 0);
      Vector sum(spec_.gqa->head_dim);
      double total = 0;
      for (int64_t p = first; p <= position; ++p) {
        double score = 0;
        for (size_t i = 0; i < sum.size(); ++i) score += queries[head][i] * keys[p][kv][i];
        total += std::exp(score);
        for (size_t i = 0; i < sum.size(); ++i) sum[i] += std::exp(score) * values[p][kv][i];
      }
      for (const double v : sum) out.push_back(v / total);
    }
    return Norm(Product(name + "o_proj", out),
                fmt::format("model.layers.{}.post_attention_layernorm", layer.stored_layer));
  }

  Vector Mlp(int64_t l, const Vector& x) {
    const LayerSpec& layer = spec_.layers[l];
    const std::string name = fmt::format("model.layers.{}.", layer.stored_layer);
    Vector gate = Product(name + "mlp.gate_proj", x, layer.mlp);
    const Vector up = Product(name + "mlp.up_proj", x, layer.mlp);
    if (layer.sparsity > 0) {
      double mean = 0, square = 0;
      for (const double v : gate) mean += v / static_cast<double>(gate.size());
      for (const double v : gate) square += (v - mean) * (v - mean) / static_cast<double>(gate.size());
      for (double& v : gate) v = std::max(v - mean - 1.6448536269514722 * std::sqrt(square), 0.0);
    }
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = Gelu(gate[i]) * up[i];
    return Norm(Product(name + "mlp.down_proj", gate), name + "post_feedforward_layernorm");
  }

  void Layer(int64_t l, const std::vector<int32_t>& ids, std::vector<std::vector<Vector>>* all) {
    const std::string name = fmt::format("model.layers.{}.", spec_.layers[l].stored_layer);
    for (size_t t = 0; t < ids.size(); ++t) {
      std::vector<Vector>& h = (*all)[t];
      const Vector coefficients = Product(name + "altup.prediction_coefs", Modalities(name, h[0]));
      std::vector<Vector> p = h;
      for (int64_t to = 0; to < n_; ++to) {
        for (int64_t from = 0; from < n_; ++from) {
          for (size_t i = 0; i < p[to].size(); ++i) p[to][i] += coefficients[to * n_ + from] * h[from][i];
        }
      }
      const Vector n = Norm(p[0], name + "input_layernorm");
      Vector y = p[0];
      AddTo(Attention(l, n, static_cast<int64_t>(t)), &y);
      AddTo(n, &y);
      const Vector low = Product(name + "laurel.linear_left", n);
      AddTo(Norm(Product(name + "laurel.linear_right", low), name + "laurel.post_laurel_norm"), &y);
      for (double& v : y) v /= std::sqrt(2.0);
      AddTo(Mlp(l, Norm(y, name + "pre_feedforward_layernorm")), &y);
      const Vector correction = Product(name + "altup.correction_coefs", Modalities(name, y));
      h = p;
      for (int64_t s = 0; s < n_; ++s) {
        for (size_t i = 0; i < y.size(); ++i) h[s][i] += (y[i] - p[0][i]) * (correction[s] + 1);
      }
      Vector gated = h[0];
      for (size_t i = 0; i < gated.size(); ++i) gated[i] *= Tensor(name + "altup.correct_output_scale")[i];
      gated = Product(name + "per_layer_input_gate", gated);
      const Vector input = LayerInput(l, ids[t]);
      for (size_t i = 0; i < gated.size(); ++i) gated[i] = Gelu(gated[i]) * input[i];
      const Vector added = Norm(Product(name + "per_layer_projection", gated), name + "post_per_layer_input_norm");
      for (int64_t s = 1; s < n_; ++s) AddTo(added, &h[s]);
    }
  }

  const ModelSpec& spec_;
  const Checkpoint file_;
  const int64_t n_;
  std::map<std::string, Vector> tensors_;
  std::map<int64_t, std::vector<std::vector<Vector>>> keys_, values_;  // [layer][position][head]
};

std::vector<int32_t> GoldenIds() {
  const Checkpoint golden = *Checkpoint::Open(kPath + "/golden.safetensors");
  std::vector<int32_t> ids(kTokens);
  std::memcpy(ids.data(), golden.Find("input_ids")->data, kTokens * sizeof(int32_t));
  return ids;
}

template <typename T>
double Worst(const Vector& want, const T* got) {
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = std::fabs(want[i] - static_cast<double>(got[i]));
    worst = difference <= worst ? worst : difference;
  }
  return worst;
}

TEST(Gemma3nTest, TheFormulaIsTheReferences) {
  const ModelSpec spec = *ReadModelSpec(kPath);
  const Checkpoint golden = *Checkpoint::Open(kPath + "/golden.safetensors");
  EXPECT_LT(Worst(Formula(spec).Run(GoldenIds()), reinterpret_cast<const float*>(golden.Find("logits")->data)), 1e-3);
}

ModelSpec SharedSpec() {
  std::ifstream file(kPath + "/config.json");
  nlohmann::json config = nlohmann::json::parse(file);
  config["num_kv_shared_layers"] = 4;
  return *ParseModelSpec(config.dump());
}

void ExpectFormula(const ModelSpec& spec) {
  const std::vector<int32_t> ids = GoldenIds();
  const Vector want = Formula(spec).Run(ids);
  std::vector<float> first;
  for (const parallel::Topology& topology : {parallel::Topology{1, 1}, {4, 2}, {8, 8}}) {
    World world({.path = kPath, .topology = topology, .spec = spec});
    const std::vector<float> got = world.Score(ids, kTokens, topology.world == 4 ? 7 : kTokens);
    EXPECT_LT(Worst(want, got.data()), 1e-3) << topology.world << "x" << topology.tp;
    if (first.empty()) first = got;
    EXPECT_EQ(std::memcmp(first.data(), got.data(), got.size() * sizeof(float)), 0);
  }
}

TEST(Gemma3nTest, LastLayersReadTheKeysAndValuesOfEarlierOnes) {
  const ModelSpec spec = SharedSpec();
  EXPECT_EQ(spec.layers[8].kv_layer, 5);
  EXPECT_EQ(spec.layers[9].kv_layer, 4);
  ExpectFormula(spec);
}

TEST(Gemma3nTest, SlicedOutOfALargerModel) {
  ModelSpec spec = SharedSpec();
  ASSERT_TRUE(SliceMatFormer("skip=1,7-8 mlp=128,96*4,256*2", &spec).ok());
  ASSERT_EQ(spec.num_layers(), 7);
  EXPECT_EQ(spec.layers[6].stored_layer, 9);
  EXPECT_EQ(spec.layers[6].kv_layer, 3);  // the checkpoint's layer 4
  ExpectFormula(spec);
}

TEST(Gemma3nTest, SlicesThatCannotBeAreRefused) {
  const auto says = [](const char* slice) {
    ModelSpec spec = SharedSpec();
    return ToString(SliceMatFormer(slice, &spec).message());
  };
  EXPECT_NE(says("skip=5").find("layer 6 reads its keys"), std::string::npos) << says("skip=5");
  EXPECT_NE(says("skip=9-12").find("layers 0 to 9"), std::string::npos);
  EXPECT_NE(says("mlp=512").find("more than the checkpoint's 256"), std::string::npos);
  EXPECT_NE(says("mlp=16,32").find("2 widths, 10 layers"), std::string::npos);
  EXPECT_NE(says("mlp=x").find("not understood"), std::string::npos);
  EXPECT_NE(says("width=16").find("not understood"), std::string::npos);
  ModelSpec other;
  other.model_type = "llama";
  EXPECT_FALSE(SliceMatFormer("mlp=16", &other).ok());
}

}  // namespace
}  // namespace atl::models
