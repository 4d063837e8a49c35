#include "models/weight_arena.h"

#include "models/weight_conversion.h"
#include "models/weights/dummy.h"
#include "models/weights/formats/table.h"
#include "models/weights/slice_reader.h"

namespace atl::models {

absl::StatusOr<WeightArena> WeightArena::Load(const LoadOptions& options, int rank, ThreadPool* pool,
                                              const LoadProgress& progress) {
  struct Kept {
    Parameter parameter;
    Slice slice;
    Packing packing;
  };
  std::vector<Kept> kept;
  WeightArena arena;
  int64_t total = 0;
  for (Parameter& p : Parameters(options.spec)) {
    const auto slice = SliceOf(p, options.spec, options.shape.topology, rank, options.placement);
    if (!slice) continue;
    const Packing packing = PackingOf(p.format, slice->rows, slice->columns);
    arena.bytes_by_kind_[static_cast<size_t>(p.kind)] += ArenaAligned(packing.bytes);
    total += ArenaAligned(packing.bytes);
    kept.push_back({std::move(p), *slice, packing});
  }
  Checkpoint checkpoint;
  if (!options.dummy_weights) {
    ATOLL_ASSIGN_OR_RETURN(checkpoint, Checkpoint::Open(options.path));
  }
  arena.bytes_ = AlignedBytes(total);
  std::byte* at = arena.bytes_.data();
  int64_t done = 0;
  for (const auto& [p, slice, packing] : kept) {
    if (options.dummy_weights) {
      IsPacked(p.format) ? DummyPackedSlice(p, slice, at, pool) : DummySlice(p, slice, at);
    } else {
      ATOLL_ASSIGN_OR_RETURN(const StoredTensor stored, FindStored(checkpoint, p));
      const bool convert =
          stored.format != p.format && p.shape.size() > 1 && options.spec.kept.any() && CanConvertTo(p.format);
      Moved moved;
      ATOLL_RETURN_IF_ERROR(convert ? ConvertSlice(p, stored, slice, at, pool, options.on_moved ? &moved : nullptr)
                                    : ReadSlice(p, stored, slice, at));
      if (convert && options.on_moved) options.on_moved(p.name, p.format, moved.Relative(), moved.largest);
    }
    arena.views_[p.name] = {kernels::PackedMatrix(at, p.format, slice.rows, slice.columns), p.shape.size() == 1};
    at += ArenaAligned(packing.bytes);
    done += ArenaAligned(packing.bytes);
    if (progress) progress(done, total);
  }
  return arena;
}

const WeightArena::View& WeightArena::Find(const std::string& name, bool vector) const {
  const auto found = views_.find(name);
  ATOLL_CHECK(found != views_.end(), "weight {} is not on this rank", name);
  ATOLL_CHECK(found->second.vector == vector, "weight {} is a {}", name, vector ? "matrix" : "vector");
  return found->second;
}

kernels::Matrix WeightArena::Matrix(const std::string& name) const { return Find(name, false).matrix; }

const float* WeightArena::FloatVector(const std::string& name) const { return Find(name, true).matrix.Row<float>(0); }

}  // namespace atl::models
