// A parameter, by its published name, in a GGUF model: llama.cpp's names for the same tensors, all experts of a layer
// in one, the rows of Llama's query and key heads in rotary pairs.
#include <charconv>

#include "models/weights/formats/gguf.h"
#include "models/weights/formats/table.h"
#include "parallel/base/shown.h"

namespace atl::models {
namespace {

struct Rename {
  std::string_view ours, theirs;
};

// Below "model.layers.N." and "blk.N."
constexpr Rename kLayer[] = {
    {"input_layernorm.", "attn_norm."},
    {"self_attn.q_proj.", "attn_q."},
    {"self_attn.k_proj.", "attn_k."},
    {"self_attn.v_proj.", "attn_v."},
    {"self_attn.o_proj.", "attn_output."},
    {"self_attn.q_norm.", "attn_q_norm."},
    {"self_attn.k_norm.", "attn_k_norm."},
    {"self_attn.q_a_proj.", "attn_q_a."},
    {"self_attn.q_a_layernorm.", "attn_q_a_norm."},
    {"self_attn.q_b_proj.", "attn_q_b."},
    {"self_attn.kv_a_proj_with_mqa.", "attn_kv_a_mqa."},
    {"self_attn.kv_a_layernorm.", "attn_kv_a_norm."},
    {"self_attn.kv_b_proj.", "attn_kv_b."},
    {"self_attn.k_b_proj.", "attn_k_b."},
    {"self_attn.v_b_proj.", "attn_v_b."},
    {"pre_feedforward_layernorm.", "ffn_norm."},
    {"post_feedforward_layernorm.", "post_ffw_norm."},
    {"post_attention_layernorm.", "ffn_norm."},
    {"mlp.gate_proj.", "ffn_gate."},
    {"mlp.up_proj.", "ffn_up."},
    {"mlp.down_proj.", "ffn_down."},
    {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
    {"mlp.gate.", "ffn_gate_inp."},
    {"mlp.shared_experts.gate_proj.", "ffn_gate_shexp."},
    {"mlp.shared_experts.up_proj.", "ffn_up_shexp."},
    {"mlp.shared_experts.down_proj.", "ffn_down_shexp."},
    {"ln_1.", "attn_norm."},  // GPT-2, below "h.N."
    {"attn.c_attn.q.", "attn_qkv."},
    {"attn.c_attn.k.", "attn_qkv."},
    {"attn.c_attn.v.", "attn_qkv."},
    {"attn.c_proj.", "attn_output."},
    {"ln_2.", "ffn_norm."},
    {"mlp.c_fc.", "ffn_up."},
    {"mlp.c_proj.", "ffn_down."},
};
constexpr Rename kExperts[] = {
    {"gate_proj.", "ffn_gate_exps."}, {"up_proj.", "ffn_up_exps."}, {"down_proj.", "ffn_down_exps."}};
constexpr Rename kModel[] = {
    {"model.embed_tokens.", "token_embd."},
    {"model.norm.", "output_norm."},
    {"lm_head.", "output."},
    {"wte.", "token_embd."},
    {"wpe.", "position_embd."},
    {"ln_f.", "output_norm."},
};

template <size_t n>
std::string Renamed(const Rename (&table)[n], std::string_view name) {
  for (const Rename& rename : table) {
    if (name.starts_with(rename.ours)) return std::string(rename.theirs) + std::string(name.substr(rename.ours.size()));
  }
  return {};
}

// Takes a number and the dot after it off the front.
std::optional<int64_t> TakeNumber(std::string_view* text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc() || end == text->data() + text->size() || *end != '.') return std::nullopt;
  text->remove_prefix(end + 1 - text->data());
  return number;
}

bool Take(std::string_view prefix, std::string_view* text) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

struct Place {
  std::string tensor;
  int64_t slab = -1;  // of a stack of experts
  int64_t third = 0;  // of a fused projection of queries, keys and values
};

Place PlaceOf(const std::string& architecture, const Parameter& p) {
  std::string_view name = p.name;
  if (!Take("model.layers.", &name) && !Take("h.", &name)) return {Renamed(kModel, name)};
  const auto layer = TakeNumber(&name);
  if (!layer) return {};
  const std::string block = fmt::format("blk.{}.", *layer);
  if (Take("mlp.experts.", &name)) {
    const auto expert = TakeNumber(&name);
    if (!expert) return {};
    return {block + Renamed(kExperts, name), *expert};
  }
  // Gemma norms a branch's output too; the name of the norm before the MLP in other families is free for that.
  if (architecture == "gemma3" && Take("post_attention_layernorm.", &name)) {
    return {block + "post_attention_norm." + std::string(name)};
  }
  const int64_t third = name.starts_with("attn.c_attn.k.") ? 1 : name.starts_with("attn.c_attn.v.") ? 2 : 0;
  return {block + Renamed(kLayer, name), -1, third};
}

// The rows of a head that stand in rotary pairs; 0: they do not.
int64_t PairedRows(const Gguf& gguf, const Parameter& p) {
  const bool rotates = p.name.ends_with("self_attn.q_proj.weight") || p.name.ends_with("self_attn.k_proj.weight");
  if (gguf.architecture() != "llama" || !rotates) return 0;
  const int64_t heads = gguf.Integer("attention.head_count").value_or(0);
  const int64_t hidden = gguf.Integer("embedding_length").value_or(0);
  return gguf.Integer("attention.key_length").value_or(heads > 0 ? hidden / heads : 0);
}

}  // namespace

absl::StatusOr<std::optional<StoredTensor>> InGguf(const Checkpoint& checkpoint, const Parameter& p) {
  const Gguf* gguf = checkpoint.gguf();
  if (gguf == nullptr) return std::nullopt;
  const Place place = PlaceOf(gguf->architecture(), p);
  const GgufTensor* tensor = gguf->Find(place.tensor);
  if (tensor == nullptr) {
    return NotFound("{} has no tensor {} (for {}), which its metadata asks for", gguf->path(), place.tensor, p.name);
  }
  const int64_t rows = p.shape[0], columns = p.shape.size() > 1 ? p.shape[1] : 1;
  std::vector<int64_t> shape = tensor->shape;
  bool fits = true;
  if (place.slab >= 0) {  // [experts, rows, columns]
    fits = shape.size() == 3 && place.slab < shape[0];
    if (fits) shape.erase(shape.begin());
  } else if (shape.size() == 3) {  // a matrix for each head
    shape = {shape[0] * shape[1], shape[2]};
  }
  const bool fused = p.name.find("attn.c_attn.") != std::string::npos;
  if (fused) fits = fits && shape[0] == 3 * rows;
  if (fused && fits) shape[0] = rows;
  if (!fits || shape != p.shape) {
    return InvalidArgument("{}: tensor {} is {}, its metadata asks for {} as {}", gguf->path(), place.tensor,
                           Shown(tensor->shape), p.name, Shown(p.shape));
  }
  const bool plain = tensor->format && *tensor->format <= WeightFormat::kBF16;
  if (!tensor->format || (p.shape.size() == 1 && !plain)) {
    return InvalidArgument(
        "{}: tensor {} is stored as {}; {} can be read", gguf->path(), place.tensor,
        tensor->format ? Name(*tensor->format) : fmt::format("GGUF's type {}", tensor->type),
        p.shape.size() == 1 ? "f32, f16 and bf16" : "f32, f16, bf16 and the block types of README.md");
  }
  const WeightFormatInfo info = InfoOf(*tensor->format);
  StoredTensor stored;
  stored.format = *tensor->format;
  stored.tensor = tensor;
  stored.column_bytes = info.group_bytes;
  stored.row_bytes = columns / info.group * info.group_bytes;
  stored.data = tensor->data + (std::max<int64_t>(place.slab, 0) + place.third) * rows * stored.row_bytes;
  stored.paired_rows = PairedRows(*gguf, p);
  if (stored.paired_rows < 0 ||
      (stored.paired_rows > 0 && (rows % stored.paired_rows != 0 || stored.paired_rows % 2))) {
    return InvalidArgument("{}: tensor {} has {} rows, not heads of {}", gguf->path(), place.tensor, rows,
                           stored.paired_rows);
  }
  return stored;
}

}  // namespace atl::models
