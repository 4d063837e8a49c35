// config.json as checked values: everything that a planner, a loader or a layer asks about a model's shape, said as
// data. What distinguishes an architecture (which layers slide, which turn positions, which are mixtures, who reads
// whose keys and values) stands here once; the engine branches on these values and never on a model's name.
//
//   ATOLL_ASSIGN_OR_RETURN(ModelSpec spec, ReadModelSpec("models/checkpoints/tiny-deepseek-v3"));  // or a config.json
//   spec.layers[3].moe, spec.moe->experts
//
// Each family has a file under families/ that reads its config.json. Errors are InvalidArgument with the key's name,
// its value and what would be accepted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/spec/kept_formats.h"
#include "models/spec/stored_formats.h"
#include "parallel/base/status.h"

namespace atl::models {

// Which earlier positions a query sees; always its own.
enum class Reach : uint8_t {
  kFull,     // all
  kSliding,  // the last `extent` positions, its own included
  kChunked,  // those of its own run of `extent` positions: [extent i, extent (i + 1))
};

struct LayerSpec {
  Reach reach = Reach::kFull;
  int64_t extent = 0;      // of a sliding or chunked reach
  int rope = 0;            // of ModelSpec::ropes; -1: queries and keys are not rotated
  int kv_layer = 0;        // whose keys and values it reads; another layer's: it has none of its own
  bool moe = false;        // mixture of experts instead of the MLP
  int64_t mlp = 0;         // width of the MLP; 0 in a mixture layer
  double sparsity = 0;     // share of gate values that are set to 0 before the activation (Gemma 3n)
  int stored_layer = 0;    // its number in the checkpoint and the width of its MLP there: a sliced model
  int64_t stored_mlp = 0;  // (MatFormer) leaves layers out and keeps the first part of wider ones
};

// Multi-head latent attention (DeepSeek-V2 and later).
struct MlaSpec {
  int64_t q_lora_rank = 0;  // 0: q_proj straight from the hidden state (Moonlight, V2-Lite)
  int64_t kv_lora_rank = 0;
  int64_t nope_dim = 0;  // per head, without rope
  int64_t rope_dim = 0;  // per head, with rope; the key's is shared by all heads
  int64_t v_dim = 0;
  bool split_up = false;  // keys' and values' up projections are stored apart, the keys' transposed (GGUF)
  int64_t qk_dim() const { return nope_dim + rope_dim; }
  int64_t latent_dim() const { return kv_lora_rank + rope_dim; }  // cached values a token and layer
};

enum class QkNorm : uint8_t {
  kNone,
  kPerHead,   // RMSNorm of each head, with weights, before the rotation (Qwen3, Gemma 3 and 3n)
  kAllHeads,  // RMSNorm of the whole projection, with weights, before the rotation (OLMo 2)
  kL2,        // each head, without weights, after the rotation and only in layers that have one (Llama 4)
};

// Queries of layers without rope grow with the position (Llama 4): q *= ln(floor((p + 1) / floor) + 1) scale + 1.
struct TemperatureSpec {
  double floor = 8192;
  double scale = 0.1;
};

// Plain and grouped-query attention: query head h reads key and value head h / (heads / kv_heads).
struct GqaSpec {
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  double scale = 1;  // of scores
  QkNorm qk_norm = QkNorm::kNone;
  bool v_norm = false;  // values too, per head and without weights (Gemma 3n)
  std::optional<TemperatureSpec> temperature{};
};

enum class RouterKind : uint8_t {
  kSigmoid,       // sigmoid scores; a bias takes part in the choice, groups of experts are masked (DeepSeek-V3)
  kSoftmax,       // softmax over all experts (Qwen3-MoE, DeepSeek-V2-Lite)
  kScaledInputs,  // the best raw score; its sigmoid multiplies the expert's input, not its output (Llama 4)
};

inline constexpr int64_t kMaxExpertGroups = 256;  // DeepSeek-V3 has 8
struct MoeSpec {
  RouterKind router = RouterKind::kSigmoid;
  int64_t experts = 0;
  int64_t top_k = 0;
  int64_t intermediate = 0;         // of one expert
  int64_t shared_intermediate = 0;  // of all shared experts together; 0: none
  int64_t groups = 1;               // expert groups; groups_kept of them take part in a token's choice
  int64_t groups_kept = 1;
  bool normalize = true;  // weights divided by their sum
  double scaling = 1.0;
};

struct YarnSpec {
  double factor = 1;
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 1;
  double mscale_all_dim = 0;
  int64_t original_positions = 4096;
};

// Wave lengths below original / high stay, above original / low are stretched by the factor, a ramp between.
struct Llama3RopeSpec {
  double factor = 1;
  double low = 1;
  double high = 4;
  int64_t original_positions = 8192;
};

struct RopeSpec {
  double theta = 10000;
  bool interleaved = false;       // pairs (2i, 2i + 1); otherwise (i, i + dim / 2)
  double linear = 1;              // all frequencies divided by it
  std::vector<float> divisors{};  // frequency i divided by divisors[i]; empty: none (GGUF's rope_freqs)
  std::optional<Llama3RopeSpec> llama3{};
  std::optional<YarnSpec> yarn{};
};

enum class NormKind : uint8_t {
  kRms,         // x / sqrt(mean(x^2) + eps) * w
  kRmsPlusOne,  // ... * (1 + w) (Gemma 3)
  kLayer,       // (x - mean) / sqrt(variance + eps) * w + b (GPT-2)
};

enum class Activation : uint8_t { kSilu, kGeluTanh };

// What only Gemma 3n has: several residual streams predicted from one another and corrected (AltUp), a low-rank branch
// beside attention (LAuReL), and an embedding for each layer.
struct Gemma3nSpec {
  int64_t streams = 4;         // the first is the active one
  double correction_clip = 0;  // correction coefficients are clamped to +- it; 0: not
  int64_t laurel_rank = 0;
  int64_t per_layer_width = 0;
  int64_t per_layer_vocab = 0;  // ids beyond read row 0
  int64_t stored_layers = 0;    // layers of the checkpoint's per-layer tables
};

struct ModelSpec {
  std::string model_type;    // config.json's: deepseek_v3, kimi_k2, gemma3_text
  std::string architecture;  // the file under models/arch/ that runs it
  int64_t vocab = 0;         // rows of embedding and head
  int64_t hidden = 0;
  int64_t heads = 0;  // of queries
  int64_t max_positions = 0;
  std::vector<LayerSpec> layers;
  std::vector<RopeSpec> ropes;
  std::optional<MlaSpec> mla;  // one of these two
  std::optional<GqaSpec> gqa;
  std::optional<MoeSpec> moe;
  std::optional<Gemma3nSpec> gemma3n;
  NormKind norm = NormKind::kRms;
  double norm_eps = 1e-6;
  Activation activation = Activation::kSilu;
  double embedding_scale = 1;         // of the token's embedding
  bool learned_positions = false;     // an embedding of the position is added (GPT-2)
  double logit_softcap = 0;           // c: logits become c tanh(logit / c); 0: not
  bool tied_embeddings = false;       // the head is the embedding
  bool embeddings_are_active = true;  // the family counts its embedding tables among its active parameters
  int64_t mtp_layers = 0;             // multi-token prediction layers in the checkpoint (skipped so far)
  StoredFormats formats;              // of the weights
  KeptFormats kept;                   // what a job keeps them in
  int64_t bos_id = -1;
  std::vector<int64_t> eos_ids;  // config.json's and generation_config.json's together

  int64_t num_layers() const { return static_cast<int64_t>(layers.size()); }
};

// Parses the text of a config.json.
absl::StatusOr<ModelSpec> ParseModelSpec(const std::string& config_json);
// Reads a model directory (config.json, and generation_config.json for stop ids where there is one) or a config file.
absl::StatusOr<ModelSpec> ReadModelSpec(const std::string& path);

}  // namespace atl::models
