// The report for people: aligned tables, sizes with three digits.
#include <algorithm>

#include "coordinator/cli/inspection.h"
#include "models/spec/families/family.h"

namespace atl::coordinator {
namespace {

using models::ParameterKind;
using models::RankMemory;

// Three digits and a decimal unit.
std::string Bytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  auto value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 999.5 && unit < 5; ++unit) value /= 1000;
  if (unit == 0) return fmt::format("{} B", bytes);
  return fmt::format("{:.{}f} {}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0, kUnits[unit]);
}

std::string Count(int64_t parameters) {
  return parameters >= 1'000'000'000 ? fmt::format("{:.2f} B", static_cast<double>(parameters) / 1e9)
                                     : fmt::format("{:.2f} M", static_cast<double>(parameters) / 1e6);
}

// {0, 1, 2, 5} as "0-2,5".
std::string Runs(const std::vector<int>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ",", numbers[i]);
    if (last > i) text += fmt::format("-{}", numbers[last]);
    i = last + 1;
  }
  return text;
}

// Columns as wide as their widest entry; those of `left` stand at the left, numbers at the right.
std::string Aligned(const std::vector<std::vector<std::string>>& rows, const std::vector<bool>& left) {
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += "  ";
      line += i < left.size() && left[i] ? fmt::format("{:<{}}", row[i], widths[i])
                                         : fmt::format("{:>{}}", row[i], widths[i]);
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

// Layers that are alike share a line.
std::string LayerTable(const Inspection& of) {
  std::vector<std::vector<std::string>> rows = {
      {"attention", "rope", "feed-forward", "parameters", "active", "KV B/token", "layers"}};
  std::vector<std::vector<int>> alike(1);
  for (int64_t i = 0; i < of.spec.num_layers(); ++i) {
    const int rope = of.spec.layers[i].rope;
    std::vector<std::string> row = {ReachText(of.spec, i),
                                    rope < 0 ? "-" : fmt::format("{:g}", of.spec.ropes[rope].theta),
                                    FeedForwardText(of.spec, i),
                                    Count(of.layers[i].parameters),
                                    Count(of.layers[i].active),
                                    std::to_string(of.layers[i].kv_bytes_per_token),
                                    ""};
    const size_t same = std::find(rows.begin() + 1, rows.end(), row) - rows.begin();
    if (same == rows.size()) {
      rows.push_back(std::move(row));
      alike.emplace_back();
    }
    alike[same].push_back(static_cast<int>(i));
  }
  for (size_t i = 1; i < rows.size(); ++i) rows[i].back() = Runs(alike[i]);
  return Aligned(rows, {true, false, true, false, false, false, true});
}

// One line for each kind of memory, one column for each class of ranks.
std::string MemoryTable(const std::vector<RankClass>& classes) {
  std::vector<std::vector<std::string>> rows(1, {"memory of rank"});
  for (const RankClass& c : classes) {
    const std::string runs = Runs(c.ranks);
    rows[0].push_back(runs.size() <= 16 ? runs : fmt::format("{}... ({})", c.ranks[0], c.ranks.size()));
  }
  const auto add = [&](const std::string& name, const auto& bytes_of) {
    std::vector<std::string> row{"  " + name};
    for (const RankClass& c : classes) row.push_back(Bytes(bytes_of(c.memory)));
    rows.push_back(std::move(row));
  };
  for (int kind = 0; kind < RankMemory::kKinds; ++kind) {
    add(models::Name(static_cast<ParameterKind>(kind)), [&](const RankMemory& m) { return m.weights[kind]; });
  }
  add("KV cache", [](const RankMemory& m) { return m.kv; });
  add("workspace", [](const RankMemory& m) { return m.workspace; });
  add("exchange", [](const RankMemory& m) { return m.exchange; });
  add("total", [](const RankMemory& m) { return m.total(); });
  return Aligned(rows, {true});
}

std::string FitText(const Fit& fit, int64_t max_positions) {
  if (fit.kv_tokens > 0) {
    return fmt::format("{} KV tokens for each attention group, one sequence of {} at most, {} of {} together",
                       fit.kv_tokens, fit.longest_sequence, fit.longest_together, max_positions);
  }
  const std::string need = fmt::format("nothing: the fullest rank needs {} beside its KV cache", Bytes(fit.without_kv));
  if (fit.least.topology.world == 0) return need + "; no number of ranks is enough";
  return fmt::format("{}; --ranks {} --tp {} works", need, fit.least.topology.world, fit.least.topology.tp);
}

}  // namespace

std::string ToText(const Inspection& of) {
  const models::ModelSpec& spec = of.spec;
  std::string text;
  const auto line = [&](const std::string& key, const std::string& value) {
    text += fmt::format("{:<16}{}\n", key, value);
  };
  line("family", fmt::format("{} (model_type {}, architecture {})", models::FamilyOf(spec).title, spec.model_type,
                             spec.architecture));
  line("parameters", fmt::format("{} in all, {} active for a token", Count(of.count.total), Count(of.count.active)));
  line("layers",
       fmt::format("{}, hidden {}, {} query heads{}, vocabulary {}, {} positions", spec.num_layers(), spec.hidden,
                   spec.heads,
                   spec.gqa ? fmt::format(", {} key heads of {}", spec.gqa->kv_heads, spec.gqa->head_dim) : "",
                   spec.vocab, spec.max_positions));
  if (spec.moe) {
    line("experts",
         fmt::format("{} of width {}, {} for a token", spec.moe->experts, spec.moe->intermediate, spec.moe->top_k));
  }
  std::string formats;
  for (const auto& [format, bytes] : of.formats) {
    formats += fmt::format("{}{} {}", formats.empty() ? "" : " + ", format, Bytes(bytes));
  }
  line("weights", fmt::format("{}; {}", formats, of.files.says));
  line("KV cache", fmt::format("{} bytes per token, {} for a sequence of {} tokens (profile {})", of.kv_bytes_per_token,
                               Bytes(of.kv_bytes_of_longest), spec.max_positions, of.shape.numerics.name));
  line("shape",
       fmt::format("{} ranks, tp {}{}: {} attention groups, each with {} KV tokens and {} tokens a step",
                   of.shape.topology.world, of.shape.topology.tp,
                   of.expert_slices > 1 ? fmt::format(", {} slices of each expert", of.expert_slices) : "",
                   of.shape.topology.groups(), of.shape.kv_blocks * models::kKvBlockTokens, of.shape.max_batch_tokens));
  if (of.fit) line("fits " + Bytes(of.fit->bytes), FitText(*of.fit, spec.max_positions));
  return text + "\n" + LayerTable(of) + "\n" + MemoryTable(of.classes);
}

}  // namespace atl::coordinator
