// Dispatch and combine: whatever the ranks, the placement and who is home to which rows, the same bits come out, and
// every row travels exactly where its routing demands. Linked into one program for each backend.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "parallel/base/partition.h"
#include "parallel/dispatch_reference.h"
#include "parallel/exchange_size.h"
#include "tests/parallel/on_ranks.h"

namespace atl::parallel {
namespace {

constexpr int kExperts = 16;
constexpr int64_t kWidth = 24;

// The rows of a whole step with their routing, before they are given homes.
struct Step {
  int64_t rows = 0;
  int top_k = 0;
  std::vector<float> x;          // [rows, kWidth]
  std::vector<int32_t> experts;  // [rows, top_k]
  std::vector<float> weights;    // [rows, top_k]
};

Step RandomStep(int64_t rows, int top_k, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> value(-2, 2);
  Step step{rows, top_k, {}, {}, {}};
  for (int64_t i = 0; i < rows * kWidth; ++i) step.x.push_back(value(random));
  std::vector<int32_t> all(kExperts);
  std::iota(all.begin(), all.end(), 0);
  for (int64_t row = 0; row < rows; ++row) {
    std::shuffle(all.begin(), all.end(), random);
    step.experts.insert(step.experts.end(), all.begin(), all.begin() + top_k);
    for (int k = 0; k < top_k; ++k) step.weights.push_back(value(random));
  }
  return step;
}

// The wire: f32 or bf16 elements as bytes.
std::vector<std::byte> ToWire(std::span<const float> values, DType type) {
  std::vector<std::byte> wire(values.size() * SizeOf(type));
  for (size_t i = 0; i < values.size(); ++i) {
    if (type == DType::kBF16) {
      reinterpret_cast<BF16*>(wire.data())[i] = ToBF16(values[i]);
    } else {
      reinterpret_cast<float*>(wire.data())[i] = values[i];
    }
  }
  return wire;
}

std::vector<float> FromWire(const void* wire, int64_t count, DType type) {
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) {
    values[i] = type == DType::kBF16 ? ToFloat(static_cast<const BF16*>(wire)[i]) : static_cast<const float*>(wire)[i];
  }
  return values;
}

// Expert e, or slice `slice` of `slices` of it: terms that differ for each expert and canonical block and need
// rounding, added as the tree over the blocks.
float ExpertOf(int expert, float x, int slice = 0, int slices = 1) {
  const auto tree = [&](auto& self, int begin, int end) -> float {
    const float slope = 0.37f * static_cast<float>(expert) / static_cast<float>(end);
    if (end - begin == 1) return x * (1.0f + slope) + 0.1f * static_cast<float>(expert);
    const int middle = (begin + end) / 2;
    return self(self, begin, middle) + self(self, middle, end);
  };
  const int blocks = kExpertBlocks / slices;
  return tree(tree, slice * blocks, (slice + 1) * blocks);
}

// What must come out, without any ranks.
std::vector<float> Expected(const Step& step, DType type, bool identity) {
  const std::vector<std::byte> wire = ToWire(step.x, type);
  const std::vector<float> x = FromWire(wire.data(), static_cast<int64_t>(step.x.size()), type);
  std::vector<float> out(step.x.size());
  for (int64_t row = 0; row < step.rows; ++row) {
    for (int64_t c = 0; c < kWidth; ++c) {
      float sum = 0;
      for (int k = 0; k < step.top_k; ++k) {
        const int expert = step.experts[row * step.top_k + k];
        float y = identity ? x[row * kWidth + c] : ExpertOf(expert, x[row * kWidth + c]);
        if (type == DType::kBF16) y = ToFloat(ToBF16(y));
        const float term = step.weights[row * step.top_k + k] * y;
        sum = k == 0 ? term : sum + term;
      }
      out[row * kWidth + c] = sum;
    }
  }
  return out;
}

// Which rows are at home on `rank`. Even, or all on the last rank, so that the others have none.
Range HomeRows(const Step& step, const Communicator& comm, bool lopsided) {
  if (!lopsided) return EvenPart(step.rows, comm.rank(), comm.size());
  return comm.rank() == comm.size() - 1 ? Range{0, step.rows} : Range{};
}

// The exchange of one rank, from its rows to its sums.
struct Exchange {
  Exchange(Communicator& comm, const ExpertPlacement& placement, const Step& step, Range home, DType type)
      : placement(placement),
        type(type),
        context{.topology = {comm.size(), 1}, .rank = comm.rank(), .world = &comm, .tp_group = nullptr},
        routing{home.size(), step.top_k,
                std::span(step.experts).subspan(home.begin * step.top_k, home.size() * step.top_k),
                std::span(step.weights).subspan(home.begin * step.top_k, home.size() * step.top_k)},
        x(ToWire(std::span(step.x).subspan(home.begin * kWidth, home.size() * kWidth), type)),
        out(home.size() * kWidth, -1) {
    const ExchangeBytes bytes =
        WorstExchange({.world_rows = step.rows,
                       .home_rows = home.size(),
                       .world = comm.size(),
                       .top_k = step.top_k,
                       .width = kWidth,
                       .wire = type,
                       .local_experts = static_cast<int64_t>(placement.ExpertsOf(comm.rank()).size()),
                       .slices = placement.slices()});
    send.resize(bytes.send);
    recv.resize(bytes.recv);
    lists.resize(bytes.lists);
    most_pairs = bytes.pairs;
  }
  ExchangeScratch scratch() { return {send, recv, lists}; }
  ConstBuffer rows() const { return {x.data(), routing.rows * kWidth, type}; }

  DType result_type() const { return ResultType(placement.slices(), type); }

  // Runs local expert e over rows [begin, end) of pair_row.
  std::vector<std::byte> Experts(const Dispatched& in, bool identity) const {
    const std::vector<float> rows = FromWire(in.rows.data, in.num_rows * kWidth, type);
    std::vector<float> results(in.num_pairs * kWidth);
    const std::span<const int> local = placement.ExpertsOf(context.rank);
    for (size_t e = 0; e < local.size(); ++e) {
      const int slice = placement.SliceAt(context.rank, static_cast<int>(e));
      for (int32_t p = in.pair_begin[e]; p < in.pair_begin[e + 1]; ++p) {
        for (int64_t c = 0; c < kWidth; ++c) {
          const float value = rows[in.pair_row[p] * kWidth + c];
          results[p * kWidth + c] = !identity    ? ExpertOf(local[e], value, slice, placement.slices())
                                    : slice == 0 ? value
                                                 : 0;
        }
      }
    }
    return ToWire(results, result_type());
  }

  const ExpertPlacement& placement;
  const DType type;
  const ParallelContext context;
  const Routing routing;
  const std::vector<std::byte> x;
  std::vector<float> out;
  std::vector<std::byte> send, recv, lists;
  int64_t most_pairs = 0;
};

// Every slice of an expert on `replicas` ranks of its own, as far as there are so many.
ExpertPlacement Permuted(int world, int replicas, unsigned seed, int slices = 1) {
  std::mt19937 random(seed);
  std::vector<std::vector<int>> ranks_of;
  for (int e = 0; e < kExperts; ++e) {
    std::vector<int> all(world);
    std::iota(all.begin(), all.end(), 0);
    std::shuffle(all.begin(), all.end(), random);
    const int each = std::min(world / slices, replicas);
    for (int s = 0; s < slices; ++s) ranks_of.emplace_back(all.begin() + s * each, all.begin() + (s + 1) * each);
  }
  return std::move(ExpertPlacement::FromTable(ranks_of, world, seed, slices)).value();
}

void ExpectOut(const Step& step, const ExpertPlacement& placement, DType type, bool lopsided, bool identity,
               const std::vector<float>& expected) {
  OnRanks(placement.world(), [&](Communicator& comm) {
    const Range home = HomeRows(step, comm, lopsided);
    Exchange exchange(comm, placement, step, home, type);
    const auto in =
        Dispatch(exchange.context, placement, 5, exchange.rows(), kWidth, exchange.routing, exchange.scratch());
    ASSERT_TRUE(in.ok()) << in.status();
    EXPECT_LE(in->num_pairs, exchange.most_pairs);
    const std::vector<std::byte> results = exchange.Experts(*in, identity);
    const absl::Status combined =
        Combine(exchange.context, *in, {results.data(), in->num_pairs * kWidth, exchange.result_type()}, kWidth,
                exchange.routing, exchange.out, exchange.scratch());
    ASSERT_TRUE(combined.ok()) << combined;
    EXPECT_EQ(exchange.out,
              std::vector<float>(expected.begin() + home.begin * kWidth, expected.begin() + home.end * kWidth));
  });
}

TEST(Dispatch, SameBitsForAnyRanksPlacementAndHomes) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const int64_t rows : {0, 1, 19}) {
      const Step step = RandomStep(rows, 4, 11);
      const std::vector<float> expected = Expected(step, type, false);
      for (const int ranks : {1, 2, 3, 4, 8}) {
        if (ranks > MaxRanks()) continue;
        for (const bool lopsided : {false, true}) {
          ExpectOut(step, ExpertPlacement::Contiguous(kExperts, ranks), type, lopsided, false, expected);
          ExpectOut(step, Permuted(ranks, 1, 21), type, lopsided, false, expected);
          ExpectOut(step, Permuted(ranks, 2, 22), type, lopsided, false, expected);  // replicas
          for (const int slices : {2, 4}) {
            if (ranks % slices != 0) continue;
            ExpectOut(step, ExpertPlacement::Contiguous(kExperts, ranks, slices), type, lopsided, false, expected);
            ExpectOut(step, Permuted(ranks, 2, 23, slices), type, lopsided, false, expected);
          }
        }
      }
    }
  }
}

// Law 3: identity experts and eight weights of 1/8 give the rows back, bit for bit. (Sums of eighths of a value with a
// mantissa shorter by three bits are exact.)
TEST(Dispatch, ThenCombineIsTheIdentity) {
  Step step = RandomStep(33, 8, 31);
  for (float& x : step.x) x = std::round(x * 1024) / 1024;
  std::fill(step.weights.begin(), step.weights.end(), 0.125f);
  for (const int ranks : {1, 2, 4, 8}) {
    if (ranks > MaxRanks()) continue;
    ExpectOut(step, Permuted(ranks, 1, 41), DType::kF32, false, true, step.x);
    if (ranks > 1) ExpectOut(step, Permuted(ranks, 1, 42, 2), DType::kF32, false, true, step.x);
  }
}

TEST(Dispatch, EqualsTheReferenceAndCountsWhatRoutingDemands) {
  for (const auto& [wire, slices] :
       {std::pair(DType::kF32, 1), {DType::kBF16, 1}, {DType::kF32, 2}, {DType::kBF16, 2}}) {
    const DType type = wire;
    const Step step = RandomStep(23, 5, 51);
    const int ranks = std::min(4, MaxRanks());
    if (ranks % slices != 0) continue;
    const ExpertPlacement placement = Permuted(ranks, 2, 52, slices);
    OnRanks(ranks, [&](Communicator& comm) {
      Exchange exchange(comm, placement, step, HomeRows(step, comm, false), type);
      const auto& context = exchange.context;
      const auto reference = ReferenceDispatch(context, placement, exchange.rows(), kWidth, exchange.routing);
      ASSERT_TRUE(reference.ok()) << reference.status();
      const auto in = Dispatch(context, placement, 2, exchange.rows(), kWidth, exchange.routing, exchange.scratch());
      ASSERT_TRUE(in.ok()) << in.status();
      EXPECT_THAT(in->rows_to, testing::ElementsAreArray(reference->rows_to));
      EXPECT_THAT(in->pairs_to, testing::ElementsAreArray(reference->pairs_to));
      ASSERT_EQ(in->num_rows, static_cast<int64_t>(reference->sources.size()));
      EXPECT_EQ(std::memcmp(in->rows.data, reference->rows.data(), reference->rows.size()), 0);
      for (size_t e = 0; e < reference->expert_rows.size(); ++e) {
        EXPECT_EQ(std::vector<int32_t>(in->pair_row.begin() + in->pair_begin[e],
                                       in->pair_row.begin() + in->pair_begin[e + 1]),
                  reference->expert_rows[e]);
      }
      const std::vector<std::byte> results = exchange.Experts(*in, false);
      const ConstBuffer made{results.data(), in->num_pairs * kWidth, exchange.result_type()};
      std::vector<float> expected(exchange.out.size());
      ASSERT_TRUE(ReferenceCombine(context, placement, *reference, made, kWidth, exchange.routing, expected).ok());
      ASSERT_TRUE(Combine(context, *in, made, kWidth, exchange.routing, exchange.out, exchange.scratch()).ok());
      EXPECT_EQ(exchange.out, expected);
    });
  }
}

TEST(Dispatch, ScratchThatIsTooSmallIsAnError) {
  const Step step = RandomStep(4, 4, 61);
  OnRanks(1, [&](Communicator& comm) {
    const ExpertPlacement placement = ExpertPlacement::Contiguous(kExperts, 1);
    Exchange exchange(comm, placement, step, {0, 4}, DType::kF32);
    for (std::vector<std::byte> Exchange::*part : {&Exchange::send, &Exchange::recv, &Exchange::lists}) {
      std::vector<std::byte> enough(8);
      (exchange.*part).swap(enough);
      const auto in =
          Dispatch(exchange.context, placement, 7, exchange.rows(), kWidth, exchange.routing, exchange.scratch());
      EXPECT_EQ(in.status().code(), absl::StatusCode::kInternal);
      EXPECT_THAT(ToString(in.status().message()), testing::HasSubstr("layer 7, rank 0"));
      (exchange.*part).swap(enough);
    }
  });
}

TEST(Placement, RefusesWhatIsNoPlacement) {
  EXPECT_FALSE(ExpertPlacement::FromTable({{0}, {}}, 2, 0).ok());
  EXPECT_FALSE(ExpertPlacement::FromTable({{0}, {2}}, 2, 0).ok());
  EXPECT_FALSE(ExpertPlacement::FromTable({{0}, {1, 1}}, 2, 0).ok());
  const ExpertPlacement even = ExpertPlacement::Contiguous(10, 4);
  EXPECT_EQ(even.RankFor(0, 0, 3), 0);
  EXPECT_EQ(even.RankFor(9, 0, 0), 3);
  EXPECT_EQ(even.LocalIndex(3, 9), static_cast<int>(even.ExpertsOf(3).size()) - 1);
  EXPECT_EQ(even.LocalIndex(0, 9), -1);

  EXPECT_FALSE(ExpertPlacement::FromTable({{0}, {1}, {0}}, 2, 0, 2).ok());  // half an expert
  EXPECT_FALSE(ExpertPlacement::FromTable({{0}, {0}}, 2, 0, 2).ok());       // both halves on one rank
  EXPECT_FALSE(ExpertPlacement::FromTable({{0}, {1}, {2}}, 3, 0, 3).ok());
  const ExpertPlacement halves = ExpertPlacement::Contiguous(10, 4, 2);
  EXPECT_EQ(halves.experts(), 10);
  EXPECT_EQ(halves.RankFor(4, 1, 0), 1);
  EXPECT_EQ(halves.RankFor(5, 0, 0), 2);
  EXPECT_EQ(halves.SliceAt(3, halves.LocalIndex(3, 5)), 1);
  EXPECT_EQ(halves.LocalIndex(0, 5), -1);
}

}  // namespace
}  // namespace atl::parallel
