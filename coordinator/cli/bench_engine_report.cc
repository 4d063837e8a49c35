#include <nlohmann/json.hpp>

#include "coordinator/cli/bench_engine.h"

namespace atl::coordinator {

std::string ToText(const BenchReport& r) {
  std::string text =
      fmt::format("{}, weights {}, profile {}: {} ranks, tp {}{}, {} threads each; {:.2f} GB of weights on rank 0\n",
                  r.model, r.weights, r.profile, r.ranks, r.tp,
                  r.expert_slices > 1 ? fmt::format(", {} slices of each expert", r.expert_slices) : "", r.threads,
                  static_cast<double>(r.bytes_on_rank_0) / 1e9);
  if (r.read_bytes_per_s > 0) {
    text += fmt::format("this machine: reads {:.1f} GB/s, multiply-adds {:.0f} GOP/s of 8 bits, {:.0f} of f32\n",
                        r.read_bytes_per_s / 1e9, r.int8_per_s / 1e9, r.f32_per_s / 1e9);
  }
  text += fmt::format("\n{:<14}{:>10}{:>10}{:>9}{:>8}{:>9}{:>10}", "", "tokens/s", "ms/step", "GB/step", "GB/s",
                      "GOP/s", "of limit");
  for (const char* phase : kPhaseNames) text += fmt::format("{:>10}", phase);
  text += "  (ms)\n";
  for (const BenchRow& row : r.rows) {
    text += fmt::format("{:<14}{:>10.1f}{:>10.2f}{:>9.3f}{:>8.1f}{:>9.0f}", row.name,
                        static_cast<double>(row.tokens) / row.seconds, row.step_seconds * 1e3, row.weight_bytes / 1e9,
                        row.weight_bytes / row.step_seconds / 1e9, row.operations / row.step_seconds / 1e9);
    text += row.limit_seconds > 0 ? fmt::format("{:>9.0f}%", 100 * row.limit_seconds / row.seconds)
                                  : fmt::format("{:>10}", "-");
    for (const double seconds : row.phase_seconds) text += fmt::format("{:>10.2f}", seconds * 1e3);
    text += "\n";
  }
  return text;
}

std::string ToJson(const BenchReport& r) {
  nlohmann::json rows = nlohmann::json::array();
  for (const BenchRow& row : r.rows) {
    nlohmann::json phases;
    for (size_t i = 0; i < kPhaseNames.size(); ++i) phases[kPhaseNames[i]] = row.phase_seconds[i];
    rows.push_back({{"name", row.name},
                    {"tokens", row.tokens},
                    {"seconds", row.seconds},
                    {"tokens_per_s", static_cast<double>(row.tokens) / row.seconds},
                    {"step_seconds", row.step_seconds},
                    {"phase_seconds", phases},
                    {"weight_bytes", row.weight_bytes},
                    {"operations", row.operations},
                    {"limit_seconds", row.limit_seconds}});
  }
  return nlohmann::json{{"model", r.model},
                        {"weights", r.weights},
                        {"profile", r.profile},
                        {"ranks", r.ranks},
                        {"tp", r.tp},
                        {"expert_slices", r.expert_slices},
                        {"threads", r.threads},
                        {"bytes_on_rank_0", r.bytes_on_rank_0},
                        {"read_bytes_per_s", r.read_bytes_per_s},
                        {"operations_per_s", {{"int8", r.int8_per_s}, {"f32", r.f32_per_s}}},
                        {"rows", rows}}
             .dump() +
         "\n";
}

}  // namespace atl::coordinator
