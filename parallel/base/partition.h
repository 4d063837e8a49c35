// How one axis is cut over ranks. Pure arithmetic, shared by the planner, the loader and the layers,
// so that the bytes planned are the bytes loaded.
#pragma once

#include <cstdint>

#include "absl/container/inlined_vector.h"

namespace atl {

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// Even cut of n items over `parts`: item i belongs to part floor(i parts / n), so part p holds
// [ceil(p n / parts), ceil((p+1) n / parts)). Token rows over a tensor-parallel group (a row's home) are cut like this.
constexpr Range EvenPart(int64_t n, int64_t part, int64_t parts) {
  const auto first = [&](int64_t p) { return (p * n + parts - 1) / parts; };
  return {first(part), first(part + 1)};
}
constexpr int64_t PartOf(int64_t i, int64_t n, int64_t parts) { return i * parts / n; }

// A sharded reduction axis. Its K elements are cut into 8 canonical blocks of whole units; a rank owns a run of whole
// blocks; block sums meet in one fixed binary tree. That is why no tensor-parallel degree changes a bit.
//   unit u = head width where K runs over heads, else 1, n = K / u,
//   block b = units [floor(b n / 8), floor((b+1) n / 8)), possibly empty.
// A routed expert's inner axis has 4 blocks, so that up to 4 ranks may share an expert: it is short, and each block
// costs a product some time.
inline constexpr int kCanonicalBlocks = 8, kExpertBlocks = 4;

struct CanonicalAxis {
  int64_t length = 0;
  int64_t unit = 1;
  int blocks = kCanonicalBlocks;

  constexpr int64_t BlockBegin(int64_t block) const { return block * (length / unit) / blocks * unit; }
  constexpr Range Block(int64_t block) const { return {BlockBegin(block), BlockBegin(block + 1)}; }
  // Elements that rank `rank` of `tp` owns, which divides the blocks.
  constexpr Range OfRank(int64_t rank, int64_t tp) const {
    return {BlockBegin(rank * blocks / tp), BlockBegin((rank + 1) * blocks / tp)};
  }
};

// A number for each rank of a tensor-parallel group; the borders of a rank's blocks. In place: a step that makes such a
// list allocates nothing.
using GroupCounts = absl::InlinedVector<int64_t, kCanonicalBlocks>;
using BlockCuts = absl::InlinedVector<int64_t, kCanonicalBlocks + 1>;

constexpr bool IsTensorParallelDegree(int64_t tp) { return tp == 1 || tp == 2 || tp == 4 || tp == 8; }

}  // namespace atl
