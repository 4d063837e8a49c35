#include "models/weight_arena.h"

#include "models/weight_conversion.h"
#include "models/weights/dummy.h"
#include "models/weights/formats/table.h"
#include "models/weights/slice_reader.h"

namespace atl::models {
namespace {

constexpr int64_t kAskAhead = 64 << 20;  // bytes of a checkpoint that a disk may be busy with

// A parameter that this rank keeps.
struct Kept {
  Parameter parameter;
  Slice slice;
  Packing packing;
};

// Where the parameters are stored, one after another; those that come next are asked for on the way.
class StoredInTurn {
 public:
  StoredInTurn(const Checkpoint& checkpoint, const std::vector<Kept>& kept) : checkpoint_(checkpoint), kept_(kept) {}

  absl::StatusOr<StoredTensor> Next() {
    while (asked_.size() < kept_.size() && (asked_.size() <= next_ || ahead_ < kAskAhead)) {
      const Kept& k = kept_[asked_.size()];
      ATOLL_ASSIGN_OR_RETURN(const StoredTensor stored, FindStored(checkpoint_, k.parameter));
      const int64_t bytes = k.parameter.shape.size() > 1 ? AskForSlice(stored, k.slice) : 0;
      asked_.push_back({stored, bytes});
      ahead_ += bytes;
    }
    const auto& [stored, bytes] = asked_[next_++];
    ahead_ -= bytes;
    return stored;
  }

 private:
  const Checkpoint& checkpoint_;
  const std::vector<Kept>& kept_;
  std::vector<std::pair<StoredTensor, int64_t>> asked_;
  size_t next_ = 0;
  int64_t ahead_ = 0;  // bytes asked for beyond next_
};

}  // namespace

absl::StatusOr<WeightArena> WeightArena::Load(const LoadOptions& options, int rank, ThreadPool* pool,
                                              const LoadProgress& progress) {
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
  StoredInTurn in_turn(checkpoint, kept);
  for (const auto& [p, slice, packing] : kept) {
    if (options.dummy_weights) {
      IsPacked(p.format) ? DummyPackedSlice(p, slice, at, pool) : DummySlice(p, slice, at);
    } else {
      ATOLL_ASSIGN_OR_RETURN(const StoredTensor stored, in_turn.Next());
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
