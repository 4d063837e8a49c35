#include "parallel/dispatch_reference.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "parallel/communicator.h"

namespace atl::parallel {
namespace {

// Everyone's bytes, by rank.
absl::StatusOr<std::vector<std::vector<std::byte>>> GatherAll(const ParallelContext& context, const void* data,
                                                              int64_t bytes) {
  const int world = context.topology.world;
  std::vector<int64_t> sizes(world);
  ATOLL_ASSIGN_OR_RETURN(Pending counted, context.world->StartAllGather(ConstBuffer(&bytes, 1, DType::kI64),
                                                                        Buffer::Of(std::span(sizes)), {"reference"}));
  ATOLL_RETURN_IF_ERROR(counted.Wait(context.NextDeadline()));
  int64_t total = 0;
  for (const int64_t size : sizes) total += size;
  std::vector<std::byte> all(total);
  ATOLL_ASSIGN_OR_RETURN(Pending gathered,
                         context.world->StartAllGatherV(ConstBuffer(data, bytes, DType::kU8),
                                                        Buffer{all.data(), total, DType::kU8}, sizes, {"reference"}));
  ATOLL_RETURN_IF_ERROR(gathered.Wait(context.NextDeadline()));
  std::vector<std::vector<std::byte>> by_rank(world);
  auto from = all.begin();
  for (int rank = 0; rank < world; ++rank) {
    by_rank[rank].assign(from, from + sizes[rank]);
    from += sizes[rank];
  }
  return by_rank;
}

template <typename T>
std::span<const T> As(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

// Which slice of the expert `rank` serves for rows of `home`.
std::optional<int> SliceServed(const ExpertPlacement& placement, int expert, int home, int rank) {
  for (int slice = 0; slice < placement.slices(); ++slice) {
    if (placement.RankFor(expert, slice, home) == rank) return slice;
  }
  return std::nullopt;
}

// One of my rows: it goes once to each rank that holds experts of it.
void CountSent(const ExpertPlacement& placement, int home, std::span<const int32_t> wanted, ReferenceRows* in) {
  for (int rank = 0; rank < placement.world(); ++rank) {
    int64_t here = 0;
    for (const int32_t expert : wanted) here += SliceServed(placement, expert, home, rank) ? 1 : 0;
    if (here > 0) ++in->rows_to[rank];
    in->pairs_to[rank] += here;
  }
}

// Anyone's row: mine to work on if an expert of it is served here.
void Receive(const ExpertPlacement& placement, int rank, ReferenceRows::Source source, std::span<const int32_t> wanted,
             const std::byte* row, int64_t row_bytes, ReferenceRows* in) {
  const auto index = static_cast<int32_t>(in->sources.size());
  bool mine = false;
  for (const int32_t expert : wanted) {
    if (!SliceServed(placement, expert, source.home, rank)) continue;
    mine = true;
    const std::span<const int> local = placement.ExpertsOf(rank);
    in->expert_rows[std::find(local.begin(), local.end(), expert) - local.begin()].push_back(index);
  }
  if (!mine) return;
  in->sources.push_back(source);
  in->rows.insert(in->rows.end(), row, row + row_bytes);
}

}  // namespace

absl::StatusOr<ReferenceRows> ReferenceDispatch(const ParallelContext& context, const ExpertPlacement& placement,
                                                ConstBuffer x, int64_t width, const Routing& routing) {
  const int64_t row_bytes = width * SizeOf(x.type);
  const int64_t pairs = routing.rows * routing.top_k;
  ATOLL_ASSIGN_OR_RETURN(const auto all_x, GatherAll(context, x.data, routing.rows * row_bytes));
  ATOLL_ASSIGN_OR_RETURN(const auto all_experts,
                         GatherAll(context, routing.experts.data(), pairs * static_cast<int64_t>(sizeof(int32_t))));
  ReferenceRows in;
  in.wire = x.type;
  in.expert_rows.resize(placement.ExpertsOf(context.rank).size());
  in.rows_to.assign(context.topology.world, 0);
  in.pairs_to.assign(context.topology.world, 0);
  for (int home = 0; home < context.topology.world; ++home) {
    const std::span<const int32_t> experts = As<int32_t>(all_experts[home]);
    const int64_t rows = static_cast<int64_t>(experts.size()) / routing.top_k;
    for (int64_t row = 0; row < rows; ++row) {
      const std::span<const int32_t> wanted = experts.subspan(row * routing.top_k, routing.top_k);
      if (home == context.rank) CountSent(placement, home, wanted, &in);
      Receive(placement, context.rank, {home, row}, wanted, all_x[home].data() + row * row_bytes, row_bytes, &in);
    }
  }
  return in;
}

absl::Status ReferenceCombine(const ParallelContext& context, const ExpertPlacement& placement,
                              const ReferenceRows& rows, ConstBuffer results, int64_t width, const Routing& routing,
                              std::span<float> out) {
  // Each result is published under (home, row, expert, slice); everyone reads them all.
  const int64_t row_bytes = width * SizeOf(results.type);
  const auto element = [&](const std::byte* values, int64_t c) {
    return results.type == DType::kBF16 ? ToFloat(reinterpret_cast<const BF16*>(values)[c])
                                        : reinterpret_cast<const float*>(values)[c];
  };
  std::vector<int64_t> keys;  // [pairs, 4]
  for (size_t e = 0; e < rows.expert_rows.size(); ++e) {
    for (const int32_t r : rows.expert_rows[e]) {
      const int expert = placement.ExpertsOf(context.rank)[e];
      const int slice = SliceServed(placement, expert, rows.sources[r].home, context.rank).value();
      keys.insert(keys.end(), {rows.sources[r].home, rows.sources[r].row, expert, slice});
    }
  }
  const int64_t pairs = static_cast<int64_t>(keys.size()) / 4;
  ATOLL_ASSIGN_OR_RETURN(const auto all_keys, GatherAll(context, keys.data(), pairs * 32));
  ATOLL_ASSIGN_OR_RETURN(const auto all_results, GatherAll(context, results.data, pairs * row_bytes));
  std::map<std::tuple<int64_t, int64_t, int64_t, int64_t>, const std::byte*> found;
  for (int rank = 0; rank < context.topology.world; ++rank) {
    const std::span<const int64_t> key = As<int64_t>(all_keys[rank]);
    for (size_t p = 0; p * 4 < key.size(); ++p) {
      found[{key[p * 4], key[p * 4 + 1], key[p * 4 + 2], key[p * 4 + 3]}] = all_results[rank].data() + p * row_bytes;
    }
  }
  for (int64_t row = 0; row < routing.rows; ++row) {
    for (int64_t c = 0; c < width; ++c) {
      float sum = 0;
      for (int k = 0; k < routing.top_k; ++k) {
        const int64_t pair = row * routing.top_k + k;
        std::vector<float> values;  // by slice
        for (int slice = 0; slice < placement.slices(); ++slice) {
          const auto result = found.find({context.rank, row, routing.experts[pair], slice});
          if (result == found.end()) {
            return Internal("no result for rank {}, row {}, expert {}", context.rank, row, routing.experts[pair]);
          }
          values.push_back(element(result->second, c));
        }
        for (; values.size() > 1; values.resize(values.size() / 2)) {
          for (size_t i = 0; i < values.size() / 2; ++i) values[i] = values[2 * i] + values[2 * i + 1];
        }
        const float value = rows.wire == DType::kBF16 ? ToFloat(ToBF16(values[0])) : values[0];
        const float term = routing.weights[pair] * value;
        sum = k == 0 ? term : sum + term;
      }
      out[row * width + c] = sum;
    }
  }
  return absl::OkStatus();
}

}  // namespace atl::parallel
