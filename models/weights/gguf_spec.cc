#include "models/weights/gguf_spec.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "parallel/base/shown.h"

namespace atl::models {
namespace {

using nlohmann::json;

// How families spell the token that ends a turn or a text. Converters state one or two of them, chat models use more:
// Gemma's files say <eos> and its answers end with <end_of_turn>.
constexpr std::string_view kEndTokens[] = {"<|im_end|>",      "<|eot_id|>",    "<|eom_id|>",
                                           "<|eot|>",         "<|end|>",       "<end_of_turn>",
                                           "<|end_of_text|>", "<|endoftext|>", "<｜end▁of▁sentence｜>"};

// The ids of special tokens that are spelled so.
absl::StatusOr<std::vector<int64_t>> EndTokens(const Gguf& gguf) {
  constexpr int32_t kControl = 3, kUserDefined = 4;
  ATOLL_ASSIGN_OR_RETURN(const GgufTokenizer tokenizer, gguf.Tokenizer());
  std::vector<int64_t> ids;
  const size_t typed = std::min(tokenizer.tokens.size(), tokenizer.token_types.size());
  for (size_t id = 0; id < typed; ++id) {
    if (tokenizer.token_types[id] != kControl && tokenizer.token_types[id] != kUserDefined) continue;
    const bool ends =
        std::find(std::begin(kEndTokens), std::end(kEndTokens), tokenizer.tokens[id]) != std::end(kEndTokens);
    if (ends) ids.push_back(static_cast<int64_t>(id));
  }
  return ids;
}

// Writes a config.json from metadata. The first key that is needed and not there is kept.
class ConfigWriter {
 public:
  ConfigWriter(const Gguf& gguf, std::string model_type) : gguf_(gguf) {
    config_["model_type"] = std::move(model_type);
  }

  // The value of "ARCHITECTURE.key", a list that says the same for every layer as that one value; null: absent.
  json Value(const std::string& key) const {
    const auto found = gguf_.values().find(gguf_.architecture() + "." + key);
    if (found == gguf_.values().end()) return nullptr;
    if (!found->is_array() || found->empty()) return *found;
    for (const json& one : *found) {
      if (one != found->front()) return *found;
    }
    return found->front();
  }
  bool Has(const std::string& key) const { return !Value(key).is_null(); }

  void Need(const char* ours, const std::string& key) {
    config_[ours] = Value(key);
    if (config_[ours].is_null() && missing_.empty()) missing_ = gguf_.architecture() + "." + key;
  }
  void Take(const char* ours, const std::string& key, json absent = nullptr) {
    json value = Value(key);
    config_[ours] = value.is_null() ? std::move(absent) : std::move(value);
  }
  void Set(const char* ours, json value) { config_[ours] = std::move(value); }

  // vocab_size, the ids that begin and end a text, and whether there is a head of its own.
  void Vocabulary() {
    const GgufTensor* embedding = gguf_.Find("token_embd.weight");
    Take("vocab_size", "vocab_size");
    if (embedding != nullptr && embedding->shape.size() == 2) Set("vocab_size", embedding->shape[0]);
    Set("tie_word_embeddings", gguf_.Find("output.weight") == nullptr);
    const auto id = [&](const char* key) {
      const auto found = gguf_.values().find(std::string("tokenizer.ggml.") + key);
      return found == gguf_.values().end() ? json() : *found;
    };
    Set("bos_token_id", id("bos_token_id"));
    json ends = json::array();
    for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
      if (!id(key).is_null()) ends.push_back(id(key));
    }
    const absl::StatusOr<std::vector<int64_t>> spelled = EndTokens(gguf_);
    if (!spelled.ok()) return Fail(spelled.status());
    for (const int64_t one : *spelled) {
      if (std::find(ends.begin(), ends.end(), json(one)) == ends.end()) ends.push_back(one);
    }
    Set("eos_token_id", ends);
  }

  // What all families but GPT-2 have.
  void Decoder() {
    Need("num_hidden_layers", "block_count");
    Need("hidden_size", "embedding_length");
    Need("intermediate_size", "feed_forward_length");
    Need("num_attention_heads", "attention.head_count");
    Need("max_position_embeddings", "context_length");
    Need("rms_norm_eps", "attention.layer_norm_rms_epsilon");
    Take("rope_theta", "rope.freq_base", 10000);
    Vocabulary();
  }

  // Heads of one width for queries, keys and values.
  void Gqa() {
    Take("num_key_value_heads", "attention.head_count_kv");
    Take("head_dim", "attention.key_length");
    if (!Has("attention.key_length")) config_.erase("head_dim");
    const json keys = Value("attention.key_length"), values = Value("attention.value_length");
    if (keys != values) {
      Refuse(fmt::format("keys of {} and values of {} elements", keys.dump(), values.dump()));
    }
  }

  void LinearRope() {
    const json type = Value("rope.scaling.type");
    if (type.is_null() || type == "none") return;
    Set("rope_scaling", {{"rope_type", type}, {"factor", Value("rope.scaling.factor")}});
  }

  void Fail(absl::Status status) {
    if (failed_.ok()) failed_ = std::move(status);
  }
  void Refuse(const std::string& what) {
    if (refused_.empty()) refused_ = what;
  }

  absl::StatusOr<ModelSpec> Parse() const {
    ATOLL_RETURN_IF_ERROR(failed_);
    if (!missing_.empty()) return InvalidArgument("{}: key {} is missing", gguf_.path(), missing_);
    if (!refused_.empty()) {
      return Unimplemented("{}: {} with {} is not supported", gguf_.path(), gguf_.architecture(), refused_);
    }
    absl::StatusOr<ModelSpec> spec = ParseModelSpec(config_.dump(-1, ' ', true, json::error_handler_t::replace));
    if (!spec.ok()) return Annotate(spec.status(), gguf_.path() + ", its metadata as a config.json");
    return spec;
  }

 private:
  const Gguf& gguf_;
  json config_ = json::object();
  std::string missing_, refused_;
  absl::Status failed_;
};

absl::StatusOr<ModelSpec> Llama(const Gguf& gguf) {
  ConfigWriter config(gguf, "llama");
  config.Decoder();
  config.Gqa();
  config.LinearRope();
  if (config.Value("expert_count") != nullptr && config.Value("expert_count") != 0) config.Refuse("experts");
  ATOLL_ASSIGN_OR_RETURN(ModelSpec spec, config.Parse());
  // Llama 3's scaling of the frequencies is a tensor of divisors.
  const GgufTensor* factors = gguf.Find("rope_freqs.weight");
  if (factors == nullptr) return spec;
  const int64_t pairs = spec.gqa->head_dim / 2;
  if (factors->format != WeightFormat::kF32 || factors->shape != std::vector<int64_t>{pairs}) {
    return InvalidArgument("{}: tensor rope_freqs.weight must be {} elements of f32", gguf.path(), pairs);
  }
  std::vector<float> divisors(pairs);
  std::memcpy(divisors.data(), factors->data, factors->bytes);
  for (const float divisor : divisors) {
    if (!std::isfinite(divisor) || divisor <= 0) {
      return InvalidArgument("{}: rope_freqs.weight holds {}; is the file damaged?", gguf.path(), divisor);
    }
  }
  spec.ropes[0].divisors = std::move(divisors);
  return spec;
}

absl::StatusOr<ModelSpec> Qwen3(const Gguf& gguf) {
  ConfigWriter config(gguf, "qwen3");
  config.Decoder();
  config.Gqa();
  config.LinearRope();
  return config.Parse();
}

absl::StatusOr<ModelSpec> Qwen3Moe(const Gguf& gguf) {
  ConfigWriter config(gguf, "qwen3_moe");
  config.Decoder();
  config.Gqa();
  config.LinearRope();
  config.Need("num_experts", "expert_count");
  config.Need("num_experts_per_tok", "expert_used_count");
  config.Need("moe_intermediate_size", "expert_feed_forward_length");
  config.Set("norm_topk_prob", true);
  return config.Parse();
}

absl::StatusOr<ModelSpec> Gemma3(const Gguf& gguf) {
  constexpr int64_t kLayersOf27B =
      62;  // whose scores are divided by the root of hidden / heads, not of the head's width
  ConfigWriter config(gguf, "gemma3_text");
  config.Decoder();
  config.Gqa();
  config.LinearRope();  // of the layers that see everything
  config.Need("sliding_window", "attention.sliding_window");
  config.Take("sliding_window_pattern", "attention.sliding_window_pattern", 6);
  config.Take("rope_local_base_freq", "rope.freq_base_swa", 10000);
  config.Take("final_logit_softcapping", "final_logit_softcapping");
  json scalar = config.Value("attention.key_length");
  const auto hidden = gguf.Integer("embedding_length"), heads = gguf.Integer("attention.head_count");
  if (gguf.Integer("block_count") == kLayersOf27B && hidden && heads.value_or(0) > 0) scalar = *hidden / *heads;
  config.Set("query_pre_attn_scalar", std::move(scalar));
  ATOLL_ASSIGN_OR_RETURN(ModelSpec spec, config.Parse());
  spec.norm = NormKind::kRms;  // 1 + w is what is stored
  return spec;
}

absl::StatusOr<ModelSpec> Deepseek2(const Gguf& gguf) {
  constexpr int64_t kSigmoid = 2;
  const bool v3 = gguf.Integer("expert_gating_func").value_or(1) == kSigmoid;
  ConfigWriter config(gguf, v3 ? "deepseek_v3" : "deepseek_v2");
  config.Decoder();
  config.Take("q_lora_rank", "attention.q_lora_rank");
  config.Need("kv_lora_rank", "attention.kv_lora_rank");
  config.Need("qk_rope_head_dim", "rope.dimension_count");
  const bool mla = config.Has("attention.key_length_mla");
  const std::string suffix = mla ? "_mla" : "";
  config.Need("v_head_dim", "attention.value_length" + suffix);
  config.Need("qk_nope_head_dim", "attention.key_length" + suffix);
  const auto key = gguf.Integer("attention.key_length" + suffix), rope = gguf.Integer("rope.dimension_count");
  if (key && rope) config.Set("qk_nope_head_dim", *key - *rope);

  config.Need("n_routed_experts", "expert_count");
  config.Need("num_experts_per_tok", "expert_used_count");
  config.Need("moe_intermediate_size", "expert_feed_forward_length");
  config.Take("n_shared_experts", "expert_shared_count");
  config.Take("first_k_dense_replace", "leading_dense_block_count");
  config.Take("n_group", "expert_group_count");
  config.Take("topk_group", "expert_group_used_count");
  config.Take("norm_topk_prob", "expert_weights_norm", false);
  config.Take("routed_scaling_factor", "expert_weights_scale");
  if (config.Value("rope.scaling.type") == "yarn") {
    // 0.1 of the magnitude that scores are corrected with. Rotated values have the same one in all these models, so
    // that theirs is 1.
    const json multiplier = config.Value("rope.scaling.yarn_log_multiplier");
    const double magnitude = multiplier.is_number() ? std::round(multiplier.get<double>() * 1e7) / 1e6 : 0;
    json yarn = {{"type", "yarn"},
                 {"factor", config.Value("rope.scaling.factor")},
                 {"original_max_position_embeddings", config.Value("rope.scaling.original_context_length")},
                 {"beta_fast", config.Value("rope.scaling.yarn_beta_fast")},
                 {"beta_slow", config.Value("rope.scaling.yarn_beta_slow")},
                 {"mscale", magnitude},
                 {"mscale_all_dim", magnitude}};
    config.Set("rope_scaling", std::move(yarn));
  }
  ATOLL_ASSIGN_OR_RETURN(ModelSpec spec, config.Parse());
  spec.mla->split_up = gguf.Find("blk.0.attn_k_b.weight") != nullptr;
  return spec;
}

absl::StatusOr<ModelSpec> Gpt2(const Gguf& gguf) {
  ConfigWriter config(gguf, "gpt2");
  config.Need("n_layer", "block_count");
  config.Need("n_embd", "embedding_length");
  config.Need("n_inner", "feed_forward_length");
  config.Need("n_head", "attention.head_count");
  config.Need("n_positions", "context_length");
  config.Need("layer_norm_epsilon", "attention.layer_norm_epsilon");
  config.Vocabulary();
  return config.Parse();
}

constexpr struct {
  const char* architecture;
  absl::StatusOr<ModelSpec> (*spec)(const Gguf& gguf);
} kArchitectures[] = {
    {"deepseek2", Deepseek2}, {"gemma3", Gemma3}, {"gpt2", Gpt2},
    {"llama", Llama},         {"qwen3", Qwen3},   {"qwen3moe", Qwen3Moe},
};

}  // namespace

absl::StatusOr<ModelSpec> GgufModelSpec(const Gguf& gguf) {
  std::string known;
  for (const auto& one : kArchitectures) {
    if (gguf.architecture() == one.architecture) return one.spec(gguf);
    known += (known.empty() ? "" : ", ") + std::string(one.architecture);
  }
  return Unimplemented("{}: architecture {} is not supported; {} are", gguf.path(),
                       gguf.architecture().empty() ? "(none stated)" : Shown(gguf.architecture()), known);
}

}  // namespace atl::models
