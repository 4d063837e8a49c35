// The bytes of one rank, by kind, before anything is loaded. The worker's arenas are made with exactly these sizes.
//
//   const JobShape shape{.topology = {4, 2}, .numerics = f32, .kv_blocks = 64, .max_batch_tokens = 512};
//   ATOLL_RETURN_IF_ERROR(CheckShape(spec, shape));
//   RankMemory m = PlanRankMemory(spec, shape, rank, placement);
//   m.weights[kind], m.kv, m.workspace, m.exchange, m.total()
//
// CheckShape refuses a shape that cannot be before a byte of weights is read, and names the nearest that can (law 8).
#pragma once

#include <array>

#include "models/spec/kv_layout.h"
#include "models/spec/numerics.h"
#include "models/spec/parameters.h"

namespace atl::models {

// Tokens of one KV block, and of one attention segment: positions [64 i, 64 (i + 1)) of a sequence. Fixed, because the
// segments' borders are part of the answer's bits (law 1).
inline constexpr int64_t kKvBlockTokens = 64;
// Blocks that hold `tokens`.
constexpr int64_t BlocksFor(int64_t tokens) { return LinesFor(tokens, kKvBlockTokens); }

struct JobShape {
  parallel::Topology topology;
  Numerics numerics;
  int64_t kv_blocks = 0;         // lines of KV blocks of one attention group: so many times kKvBlockTokens tokens,
                                 // however they are cut into sequences (kv_layout.h); long ones may take less
  int64_t max_batch_tokens = 0;  // rows of one attention group's step
  int64_t max_logit_rows = 0;    // rows of a group's step whose logits are wanted at most; 0: max_batch_tokens
};

struct RankMemory {
  static constexpr int kKinds = 8;
  std::array<int64_t, kKinds> weights{};  // by ParameterKind
  int64_t kv = 0;
  int64_t workspace = 0;  // activations of a step
  int64_t exchange = 0;   // dispatch and combine
  int64_t weight_bytes() const;
  int64_t total() const { return weight_bytes() + kv + workspace + exchange; }
  bool operator==(const RankMemory&) const = default;
};

absl::Status CheckShape(const ModelSpec& spec, const JobShape& shape);
// Whether `world` ranks can hold experts in so many slices (parallel/placement.h), which must be of one size.
absl::Status CheckExpertSlices(const ModelSpec& spec, int world, int slices);
RankMemory PlanRankMemory(const ModelSpec& spec, const JobShape& shape, int rank,
                          const parallel::ExpertPlacement& placement);
// Of the whole model, and what one rank keeps of it: its key and value heads, or all of a latent cache. Layers that
// slide give most of it back.
int64_t KvBytesPerToken(const ModelSpec& spec, const Numerics& numerics);
int64_t KvBytesPerToken(const ModelSpec& spec, const Numerics& numerics, int tp_rank, int tp);
// The longest sequence that one attention group of the job can hold.
int64_t MaxContext(const ModelSpec& spec, const JobShape& shape);
// Cached values of one position and layer on a rank.
int64_t KvRowWidth(const ModelSpec& spec, int tp_rank, int tp);
// Their bytes. In int8 the values [width] are followed by an f32 scale for each KvScaleGroup of them: as many as divide
// a head (or the latent and the rotary key), at most 64, so that a shard has whole groups.
int64_t KvRowBytes(const ModelSpec& spec, const Numerics& numerics, int tp_rank, int tp);
int64_t KvScaleGroup(const ModelSpec& spec);
constexpr int64_t KvScalesAt(int64_t width) { return (width + 3) / 4 * 4; }

// One named buffer of the step's arenas. The layers take buffers by these names; models/arena.h asserts the sizes.
struct BufferPlan {
  const char* name;
  int64_t bytes;
};
std::vector<BufferPlan> WorkspacePlan(const ModelSpec& spec, const JobShape& shape, int rank);
std::vector<BufferPlan> ExchangePlan(const ModelSpec& spec, const JobShape& shape, int rank,
                                     const parallel::ExpertPlacement& placement);

}  // namespace atl::models
