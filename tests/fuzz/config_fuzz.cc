// A config.json of any bytes: it is refused in one sentence, or whatever is counted and planned from it is in range.
#include "models/spec/model_spec.h"
#include "models/spec/rank_memory.h"
#include "tests/fuzz/read_slices.h"

using namespace atl::models;  // NOLINT(google-build-using-namespace): a program of one file

namespace {

void Plan(const ModelSpec& spec, const JobShape& shape) {
  if (const absl::Status status = CheckShape(spec, shape); !status.ok()) return CheckSentence(status);
  const int world = shape.topology.world, experts = spec.moe ? static_cast<int>(spec.moe->experts) : 1;
  const auto placement = atl::parallel::ExpertPlacement::Contiguous(experts, world);
  for (const int rank : {0, world - 1}) {
    const RankMemory memory = PlanRankMemory(spec, shape, rank, placement);
    for (const int64_t bytes : memory.weights) ATOLL_CHECK(bytes >= 0, "weights of {} bytes", bytes);
    ATOLL_CHECK(memory.kv > 0 && memory.workspace > 0 && memory.exchange >= 0 && memory.total() > 0,
                "kv {} workspace {} exchange {}", memory.kv, memory.workspace, memory.exchange);
  }
  const int64_t context = MaxContext(spec, shape);
  ATOLL_CHECK(context > 0 && context <= spec.max_positions, "a context of {}", context);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto spec = ParseModelSpec(std::string(reinterpret_cast<const char*>(data), size));
  if (!spec.ok()) {
    CheckSentence(spec.status());
    return 0;
  }
  const int64_t experts = spec->moe ? spec->moe->experts : 0;
  if (spec->num_layers() * (experts + 1) > 512) return 0;  // a list of that many tensors takes its time
  const ParameterCount count = CountParameters(*spec);
  ATOLL_CHECK(count.total > 0 && count.active > 0, "{} parameters, {} active", count.total, count.active);
  const auto plan = [&](int world, int tp, int64_t kv_blocks, int64_t batch) {
    Plan(*spec, {.topology = {.world = world, .tp = tp},
                 .numerics = *NumericsNamed("f32"),
                 .kv_blocks = kv_blocks,
                 .max_batch_tokens = batch,
                 .max_logit_rows = 0});
  };
  plan(1, 1, 1, 1);
  plan(4, 2, 100, 512);
  plan(8, 8, int64_t{1} << 26, 1 << 20);
  return 0;
}
