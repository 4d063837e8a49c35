// Sharding is real: head-sharded and axis-sharded matrices exist once in a tensor-parallel group, each routed expert
// once in the world, and what a rank allocates is what it keeps.
#include <gtest/gtest.h>

#include <array>
#include <tuple>

#include "tests/models/world.h"

namespace atl::models {
namespace {

constexpr size_t kKinds = std::tuple_size_v<decltype(RankMemory::weights)>;

// On how many ranks each element of a parameter must be.
int64_t CopiesOf(const Parameter& p, const parallel::Topology& topology) {
  if (p.expert >= 0) return 1;
  return p.sharding == Sharding::kReplicated ? topology.world : topology.groups();
}

TEST(ShardingTest, EveryShareIsKeptOnce) {
  const std::string path = std::string(ATOLL_SOURCE_DIR) + "/models/checkpoints/tiny-deepseek-v3";
  World one({.path = path, .topology = {1, 1}, .kv_blocks = 1, .max_batch_tokens = 8});
  const std::array<int64_t, kKinds>& whole = one.model(0).memory().weights;
  for (const parallel::Topology& topology :
       {parallel::Topology{1, 1}, {2, 1}, {2, 2}, {4, 1}, {4, 2}, {4, 4}, {8, 8}}) {
    World world({.path = path, .topology = topology, .kv_blocks = 1, .max_batch_tokens = 8});
    std::array<int64_t, kKinds> elements{}, wanted{};  // of each kind: once, and over all ranks
    for (const Parameter& p : Parameters(world.spec())) {
      int64_t kept = 0;
      for (int rank = 0; rank < topology.world; ++rank) {
        if (const auto slice = SliceOf(p, world.spec(), topology, rank, world.placement())) kept += slice->elements();
      }
      const int64_t copies = CopiesOf(p, topology);
      EXPECT_EQ(kept, copies * p.elements()) << p.name;
      elements[static_cast<size_t>(p.kind)] += p.elements();
      wanted[static_cast<size_t>(p.kind)] += copies * p.elements();
    }
    // What the ranks have allocated says the same, kind by kind.
    std::printf("%dx%d weight bytes:", topology.world, topology.tp);
    std::array<int64_t, kKinds> allocated{};
    for (int rank = 0; rank < topology.world; ++rank) {
      const RankMemory& memory = world.model(rank).memory();
      for (size_t kind = 0; kind < kKinds; ++kind) allocated[kind] += memory.weights[kind];
      std::printf(" %lld", static_cast<long long>(memory.weight_bytes()));
    }
    for (size_t kind = 0; kind < kKinds; ++kind) {
      const char* name = Name(static_cast<ParameterKind>(kind));
      EXPECT_EQ(allocated[kind] * elements[kind], whole[kind] * wanted[kind]) << name;
      if (elements[kind] == 0) continue;
      std::printf("%s %s x%.4g", kind == 0 ? "; over all ranks:" : ",", name,
                  static_cast<double>(allocated[kind]) / static_cast<double>(whole[kind]));
    }
    std::printf("\n");
  }
}

TEST(ShardingTest, ImpossibleShapesAreRefused) {
  LoadOptions options{.path = std::string(ATOLL_SOURCE_DIR) + "/models/checkpoints/tiny-deepseek-v3",
                      .spec = {},
                      .shape = {.topology = {8, 8}, .numerics = {}, .kv_blocks = 1, .max_batch_tokens = 8}};
  options.spec = *ReadModelSpec(options.path);
  const parallel::ParallelContext context;
  EXPECT_EQ(LoadModel(options, context, nullptr).status().code(), absl::StatusCode::kInvalidArgument);  // placement
  options.shape.topology = {3, 3};
  EXPECT_EQ(LoadModel(options, context, nullptr).status().code(), absl::StatusCode::kInvalidArgument);  // degree
}

}  // namespace
}  // namespace atl::models
