#include "models/spec/model_spec.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/spec/config_reader.h"
#include "models/spec/families/family.h"
#include "models/spec/json_text.h"
#include "parallel/base/shown.h"

namespace atl::models {
namespace {

constexpr int64_t kMaxExpertsInAll = 1 << 18;  // of all layers; Kimi K2 has 23,040
constexpr double kMaxParameters = 1e14;

absl::Status AddEosIds(const nlohmann::json& config, const char* file, int64_t vocab, std::vector<int64_t>* ids) {
  const auto found = config.find("eos_token_id");
  if (found == config.end() || found->is_null()) return absl::OkStatus();
  const nlohmann::json list = found->is_array() ? *found : nlohmann::json::array({*found});
  for (const nlohmann::json& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(vocab)) {
      return InvalidArgument("{}: eos_token_id must be an id or a list of ids below vocab_size {}", file, vocab);
    }
    const auto value = id.get<int64_t>();
    if (std::find(ids->begin(), ids->end(), value) == ids->end()) ids->push_back(value);
  }
  return absl::OkStatus();
}

// Each key can be in range and their product still absurd: such a file must not make us list billions of tensors.
absl::Status CheckSize(const ModelSpec& spec) {
  const int64_t layers = spec.num_layers(), experts = layers * (spec.moe ? spec.moe->experts : 0);
  if (experts > kMaxExpertsInAll) {
    return InvalidArgument("config.json: {} layers x {} experts are {} experts; at most {} make sense", layers,
                           spec.moe->experts, experts, kMaxExpertsInAll);
  }
  const auto product = [](int64_t a, int64_t b) { return static_cast<double>(a) * static_cast<double>(b); };
  const int64_t head_width = spec.mla ? spec.mla->q_lora_rank + spec.mla->kv_lora_rank + spec.mla->qk_dim() +
                                            spec.mla->nope_dim + 2 * spec.mla->v_dim
                                      : 4 * spec.gqa->head_dim;
  double width = product(layers * spec.heads, head_width);
  for (const LayerSpec& layer : spec.layers) width += 3.0 * static_cast<double>(layer.mlp);
  if (spec.moe) {
    width += 3 * product(experts, spec.moe->intermediate) + 3 * product(layers, spec.moe->shared_intermediate);
  }
  double parameters = width * static_cast<double>(spec.hidden) + product(spec.vocab, spec.hidden);
  if (spec.gemma3n) parameters += product(spec.gemma3n->per_layer_vocab, layers * spec.gemma3n->per_layer_width);
  if (parameters > kMaxParameters) {
    return InvalidArgument("config.json: these sizes make about {:.0e} parameters; at most {:.0e} make sense",
                           parameters, kMaxParameters);
  }
  return absl::OkStatus();
}

// The text tower of a multimodal model, where the config names only the whole.
std::string TowerName(const std::string& model_type) {
  constexpr std::pair<const char*, const char*> kTowers[] = {
      {"gemma3", "gemma3_text"}, {"gemma3n", "gemma3n_text"}, {"llama4", "llama4_text"}, {"mistral3", "mistral"}};
  for (const auto& [whole, tower] : kTowers) {
    if (model_type == whole) return tower;
  }
  return model_type;
}

absl::StatusOr<std::string> ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return NotFound("{} cannot be opened; give a model directory or a config.json", path.string());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

absl::StatusOr<ModelSpec> ParseModelSpec(const std::string& config_json) {
  ATOLL_ASSIGN_OR_RETURN(const nlohmann::json config, ParseJsonObject(config_json, "config.json"));
  // A multimodal model's text tower is described by an object of its own, which often leaves out what the outer one
  // says.
  const auto tower = config.find("text_config");
  const nlohmann::json& text = tower != config.end() && tower->is_object() ? *tower : config;
  ConfigReader read(text, "config.json");
  ModelSpec spec;
  spec.model_type = TowerName(read.Text("model_type", ConfigReader(config, "config.json").Text("model_type")));
  ATOLL_RETURN_IF_ERROR(read.status());
  if (spec.model_type.empty()) return InvalidArgument("config.json: model_type is missing");
  const Family* family = FindFamily(spec.model_type);
  if (family == nullptr) {
    return InvalidArgument("config.json: model_type {} is not supported; {} are", Shown(spec.model_type),
                           KnownFamilies());
  }
  spec.architecture = family->architecture;
  family->read(&read, &spec);
  nlohmann::json stored = nlohmann::json::object();
  for (const char* key : {"torch_dtype", "dtype", "quantization_config"}) {
    for (const nlohmann::json* object : {&config, &text}) {
      if (const auto found = object->find(key); found != object->end() && !found->is_null()) stored[key] = *found;
    }
  }
  ATOLL_ASSIGN_OR_RETURN(spec.formats, StoredFormats::FromConfig(stored));
  spec.bos_id = read.Integer("bos_token_id", 0, 1 << 24, -1);
  ATOLL_RETURN_IF_ERROR(read.status());
  ATOLL_RETURN_IF_ERROR(CheckSize(spec));
  ATOLL_RETURN_IF_ERROR(AddEosIds(text, "config.json", spec.vocab, &spec.eos_ids));
  if (&text != &config) ATOLL_RETURN_IF_ERROR(AddEosIds(config, "config.json", spec.vocab, &spec.eos_ids));
  return spec;
}

absl::StatusOr<ModelSpec> ReadModelSpec(const std::string& path) {
  const bool directory = std::filesystem::is_directory(path);
  const std::filesystem::path config =
      directory ? std::filesystem::path(path) / "config.json" : std::filesystem::path(path);
  ATOLL_ASSIGN_OR_RETURN(const std::string text, ReadFile(config));
  absl::StatusOr<ModelSpec> spec = ParseModelSpec(text);
  if (!spec.ok()) return Annotate(spec.status(), path);
  const std::filesystem::path generation = config.parent_path() / "generation_config.json";
  if (directory && std::filesystem::exists(generation)) {
    ATOLL_ASSIGN_OR_RETURN(const std::string generation_text, ReadFile(generation));
    ATOLL_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJsonObject(generation_text, "generation_config.json"));
    ATOLL_RETURN_IF_ERROR(AddEosIds(json, "generation_config.json", spec->vocab, &spec->eos_ids));
  }
  return spec;
}

}  // namespace atl::models
