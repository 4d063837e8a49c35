#include "coordinator/api/service.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "models/spec/parameters.h"

namespace atl::coordinator {

uint64_t RandomSeed() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return generator();
}

std::string MakeId(const std::string& prefix) { return fmt::format("{}-{:016x}", prefix, RandomSeed()); }

int64_t Service::context() const { return models::MaxContext(options.spec, options.shape); }

v1::ModelInfoResponse Service::ModelInfo() const {
  const models::ModelSpec& spec = options.spec;
  const models::ParameterCount count = models::CountParameters(spec);
  const EngineStats stats = engine->stats();
  v1::ModelInfoResponse info;
  info.set_name(name);
  info.set_architecture(spec.architecture);
  info.set_parameters(count.total);
  info.set_active_parameters(count.active);
  info.set_max_positions(context());
  info.set_vocab(spec.vocab);
  v1::ClusterShape* shape = info.mutable_cluster();
  shape->set_epoch(stats.epoch);
  shape->set_ranks(options.shape.topology.world);
  shape->set_tensor_parallel(options.shape.topology.tp);
  shape->set_attention_groups(options.shape.topology.groups());
  shape->set_experts(spec.moe ? static_cast<int32_t>(spec.moe->experts) : 0);
  shape->set_profile(options.shape.numerics.name);
  shape->set_kv_blocks_per_group(options.shape.kv_blocks);
  shape->set_kv_block_tokens(models::kKvBlockTokens);
  shape->set_ready(stats.ready);
  return info;
}

v1::Sampling ReadSamplingDefaults(const std::string& model_directory) {
  v1::Sampling sampling;
  sampling.set_temperature(1);
  std::ifstream file(std::filesystem::path(model_directory) / "generation_config.json");
  const nlohmann::json config = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return sampling;
  const auto number = [&](const char* key, double absent) {
    const auto found = config.find(key);
    return found != config.end() && found->is_number() ? found->get<double>() : absent;
  };
  sampling.set_temperature(static_cast<float>(number("temperature", 1)));
  sampling.set_top_p(static_cast<float>(number("top_p", 1)));
  sampling.set_top_k(static_cast<int>(std::clamp(number("top_k", 0), -1.0, 1e6)));
  sampling.set_repetition_penalty(static_cast<float>(number("repetition_penalty", 1)));
  return sampling;
}

}  // namespace atl::coordinator
