// The report for programs: sizes are bytes, layers and ranks stand one by one.
#include <nlohmann/json.hpp>

#include "coordinator/cli/inspection.h"
#include "models/spec/families/family.h"

namespace atl::coordinator {
namespace {

using nlohmann::ordered_json;

ordered_json Layer(const Inspection& of, int64_t i) {
  const models::LayerSpec& layer = of.spec.layers[i];
  ordered_json json = {{"attention", ReachText(of.spec, i)},
                       {"rope_theta", nullptr},
                       {"kv_layer", layer.kv_layer},
                       {"feed_forward", FeedForwardText(of.spec, i)},
                       {"moe", layer.moe},
                       {"parameters", of.layers[i].parameters},
                       {"active", of.layers[i].active},
                       {"kv_bytes_per_token", of.layers[i].kv_bytes_per_token}};
  if (layer.rope >= 0) json["rope_theta"] = of.spec.ropes[layer.rope].theta;
  return json;
}

ordered_json Ranks(const Inspection& of) {
  std::vector<ordered_json> ranks(of.shape.topology.world);
  for (const RankClass& c : of.classes) {
    ordered_json weights;
    for (int kind = 0; kind < models::RankMemory::kKinds; ++kind) {
      weights[models::Name(static_cast<models::ParameterKind>(kind))] = c.memory.weights[kind];
    }
    for (const int rank : c.ranks) {
      ranks[rank] = {{"rank", rank},
                     {"weights", weights},
                     {"weight_bytes", c.memory.weight_bytes()},
                     {"kv", c.memory.kv},
                     {"workspace", c.memory.workspace},
                     {"exchange", c.memory.exchange},
                     {"total", c.memory.total()}};
    }
  }
  return ranks;
}

ordered_json FitJson(const Fit& fit) {
  ordered_json json = {{"memory", fit.bytes},
                       {"fits", fit.kv_tokens > 0},
                       {"bytes_without_kv", fit.without_kv},
                       {"kv_tokens_per_group", fit.kv_tokens},
                       {"longest_sequence", fit.longest_sequence},
                       {"sequences_of_max_positions", fit.longest_together}};
  if (fit.kv_tokens == 0 && fit.least.topology.world > 0) {
    json["works"] = {{"ranks", fit.least.topology.world}, {"tp", fit.least.topology.tp}};
  }
  return json;
}

}  // namespace

std::string ToJson(const Inspection& of) {
  const models::ModelSpec& spec = of.spec;
  ordered_json formats = ordered_json::object();
  for (const auto& [format, bytes] : of.formats) formats[format] = bytes;
  ordered_json report = {{"family", models::FamilyOf(spec).title},
                         {"architecture", spec.architecture},
                         {"model_type", spec.model_type},
                         {"parameters", {{"total", of.count.total}, {"active", of.count.active}}},
                         {"layers", spec.num_layers()},
                         {"hidden", spec.hidden},
                         {"heads", spec.heads},
                         {"vocab", spec.vocab},
                         {"max_positions", spec.max_positions},
                         {"experts", spec.moe ? spec.moe->experts : 0},
                         {"experts_per_token", spec.moe ? spec.moe->top_k : 0},
                         {"weights", {{"found", of.files.found}, {"says", of.files.says}, {"formats", formats}}},
                         {"kv_bytes_per_token", of.kv_bytes_per_token},
                         {"kv_bytes_of_max_positions", of.kv_bytes_of_longest},
                         {"shape",
                          {{"ranks", of.shape.topology.world},
                           {"tp", of.shape.topology.tp},
                           {"expert_slices", of.expert_slices},
                           {"attention_groups", of.shape.topology.groups()},
                           {"profile", of.shape.numerics.name},
                           {"kv_tokens_per_group", of.shape.kv_blocks * models::kKvBlockTokens},
                           {"max_batch_tokens", of.shape.max_batch_tokens}}}};
  for (int64_t i = 0; i < spec.num_layers(); ++i) report["per_layer"].push_back(Layer(of, i));
  report["memory"] = Ranks(of);
  if (of.fit) report["fit"] = FitJson(*of.fit);
  return report.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace atl::coordinator
