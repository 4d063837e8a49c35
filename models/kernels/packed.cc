#include "models/kernels/packed.h"

#include <algorithm>
#include <cstring>

#include "models/kernels/amx.h"
#include "models/kernels/packed_layout.h"
#include "models/kernels/packed_tile.h"
#include "parallel/base/status.h"

namespace atl::models::kernels {
namespace {

struct Target {
  const char* name;
  PackedTileFunction run;
  QuantizeFunction quantize;
  PackGroupsFunction pack_groups;
  UnpackTileFunction unpack = nullptr;  // null: output by output
  PackedPanelFunction panel = nullptr;  // for many rows, where there is a better one
  int64_t panel_rows = 0;               // from here on it is worth unpacking a panel
  bool (*panel_has)(PackedType type) = nullptr;
  TransposedTileFunction transposed = nullptr;  // for few rows
};
bool IsQ6_K(PackedType type) { return type == PackedType::kQ6_K; }
bool IsNotQ6_K(PackedType type) { return type != PackedType::kQ6_K; }

// Best first.
std::span<const Target> Targets() {
  static const Target targets[] = {
      {"amx", HasAmx() ? PackedTileAvx512Vnni() : nullptr, QuantizeAvx2, PackGroupsAvx2, UnpackTileAvx2,
       PackedPanelAmx(), 12, IsNotQ6_K, TransposedTileAvx512()},
      {"avx512-vnni", PackedTileAvx512Vnni(), QuantizeAvx2, PackGroupsAvx2, UnpackTileAvx2, nullptr, 0, nullptr,
       TransposedTileAvx512()},
      {"avx2", PackedTileAvx2(), QuantizeAvx2, PackGroupsAvx2, UnpackTileAvx2, PackedPanelAvx2(), 12, IsQ6_K},
      {"portable", PackedTilePortable, QuantizePortable, PackGroupsPortable}};
  return targets;
}

const Target* Best() {
  for (const Target& target : Targets()) {
    if (target.run != nullptr) return &target;
  }
  return nullptr;
}

const Target*& Chosen() {
  static const Target* chosen = Best();
  return chosen;
}

// Borders of the blocks in groups.
struct GroupCuts {
  int64_t at[9];
  int blocks;
};
GroupCuts ToGroups(const QuantizedRows& x, const PackedWeights& w, std::span<const int64_t> cuts) {
  ATOLL_CHECK(x.depth == w.cols && cuts.back() == w.cols, "{} inputs, the weights have {}, the cuts end at {}", x.depth,
              w.cols, cuts.back());
  GroupCuts groups{.at = {}, .blocks = static_cast<int>(cuts.size()) - 1};
  for (int b = 0; b <= groups.blocks; ++b) {
    ATOLL_CHECK(b == groups.blocks || cuts[b] % kGroup == 0, "a block begins at input {}, inside a group", cuts[b]);
    groups.at[b] = PackedGroups(cuts[b]);
  }
  return groups;
}

}  // namespace

QuantizedRows QuantizeRows(std::span<const float> x, int64_t rows, int64_t depth, std::span<std::byte> memory,
                           ThreadPool* pool) {
  const MutableQuantizedRows to = PlaceRows(rows, depth, memory);
  ParallelFor(rows > 1 ? pool : nullptr, rows, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) QuantizeRow(x.data() + r * depth, to, r);
  });
  return to;
}

MutableQuantizedRows PlaceRows(int64_t rows, int64_t depth, std::span<std::byte> memory) {
  const int64_t groups = PackedGroups(depth);
  ATOLL_CHECK(static_cast<int64_t>(memory.size()) >= QuantizedRowsBytes(rows, depth),
              "{} bytes for {} x {} quantised values", memory.size(), rows, depth);
  auto* scales = reinterpret_cast<float*>(memory.data());
  auto* offsets = reinterpret_cast<int32_t*>(scales + rows * groups);
  return {rows, depth, reinterpret_cast<int8_t*>(offsets + rows * groups), scales, offsets};
}

void QuantizeRow(const float* x, const MutableQuantizedRows& to, int64_t row) {
  const int64_t whole = to.depth / kGroup, left = to.depth - whole * kGroup;
  for (int64_t g = 0; g < whole; ++g) QuantizeGroupOfRow(x + g * kGroup, to, row, g);
  if (left == 0) return;
  float rest[kGroup] = {};
  std::copy_n(x + whole * kGroup, left, rest);
  QuantizeGroupOfRow(rest, to, row, whole);
}

void CopyRow(const QuantizedRows& from, int64_t row, const MutableQuantizedRows& to, int64_t to_row) {
  const int64_t groups = PackedGroups(to.depth), at = row * groups, to_at = to_row * groups;
  std::copy_n(from.values + at * kGroup, groups * kGroup, to.values + to_at * kGroup);
  std::copy_n(from.scales + at, groups, to.scales + to_at);
  std::copy_n(from.offsets + at, groups, to.offsets + to_at);
}

void QuantizeGroupOfRow(const float* x, const MutableQuantizedRows& to, int64_t row, int64_t group) {
  const int64_t at = row * PackedGroups(to.depth) + group;
  Chosen()->quantize(x, to.values + at * kGroup, to.scales + at, to.offsets + at);
}

void PackRow(const PackedWeights& w, int64_t row, const float* values) {
  ATOLL_CHECK(w.type == PackedType::kInt4 || w.type == PackedType::kInt8, "PackRow is for INT4 and INT8");
  const int64_t whole = w.cols / kGroup, left = w.cols - whole * kGroup, lane = row % kTileRows;
  std::byte* tile = TileOf(w, row);
  Chosen()->pack_groups(w.type, values, whole, GroupOf(w.type, tile, w.skip), lane);
  if (left == 0) return;
  float rest[kGroup] = {};
  std::copy_n(values + whole * kGroup, left, rest);
  Chosen()->pack_groups(w.type, rest, 1, GroupOf(w.type, tile, w.skip + whole), lane);
}

void UnpackTile(const PackedWeights& w, int64_t tile, Range groups, float* out, int64_t stride) {
  if (Chosen()->unpack != nullptr) {
    return Chosen()->unpack(w.type, TileOf(w, tile * kTileRows), {w.skip + groups.begin, w.skip + groups.end}, out,
                            stride);
  }
  for (int64_t lane = 0; lane < kTileRows; ++lane) {
    float* to = out + lane * stride;
    for (int64_t g = groups.begin; g < groups.end; ++g, to += kGroup) UnpackGroup(w, tile * kTileRows + lane, g, to);
  }
}

bool MatMulTransposedPacked(const float* x, int64_t x_stride, int64_t rows, const PackedWeights& w, Range columns,
                            float* y, int64_t y_stride) {
  const TransposedTileFunction run = Chosen()->transposed;
  if (run == nullptr || rows > kTransposedRows || w.rows % kTileRows != 0) return false;
  if (columns.begin % kGroup != 0 || columns.end % kGroup != 0) return false;
  for (int64_t r = 0; r < rows; ++r) std::fill_n(y + r * y_stride, columns.size(), 0.0f);
  const int64_t tile_bytes = PackedTileBytes(w.type, w.cols, w.skip);
  for (int64_t tile = 0; tile < w.rows / kTileRows; ++tile) {
    run(w.type, {.tile = w.data + tile * tile_bytes,
                 .groups = {w.skip + columns.begin / kGroup, w.skip + columns.end / kGroup},
                 .x = x + tile * kTileRows,
                 .x_stride = x_stride,
                 .rows = rows,
                 .y = y,
                 .y_stride = y_stride});
  }
  return true;
}

void MatMulPacked(const QuantizedRows& x, const PackedWeights& w, std::span<const int64_t> cuts, std::span<float> y,
                  ThreadPool* pool) {
  const int64_t whole = w.rows / kTileRows, rest = w.rows - whole * kTileRows;
  ParallelFor(pool, PackedTiles(w.rows), [&](int64_t begin, int64_t end) {
    MatMulPackedTiles(x, w, cuts, begin, std::min(end, whole), y.data() + begin * kTileRows, w.rows);
    if (rest == 0 || end <= whole) return;
    // The last tile's padding has no place in y: row by row through a buffer.
    for (int64_t r = 0; r < x.rows; ++r) {
      float sums[kTileRows];
      MatMulPackedTiles(x.Rows(r, 1), w, cuts, whole, whole + 1, sums, kTileRows);
      std::copy_n(sums, rest, y.data() + r * w.rows + whole * kTileRows);
    }
  });
}

void MatMulPackedTiles(const QuantizedRows& x, const PackedWeights& w, std::span<const int64_t> cuts, int64_t begin,
                       int64_t end, float* y, int64_t stride) {
  const GroupCuts groups = ToGroups(x, w, cuts);
  const int64_t tile_bytes = PackedTileBytes(w.type, w.cols, w.skip);
  const Target& target = *Chosen();
  const bool panels = target.panel != nullptr && x.rows >= target.panel_rows && target.panel_has(w.type);
  const int64_t step = panels ? kPanelTiles : 1;
  for (int64_t tile = begin; tile < end; tile += step) {
    const PackedTileCall call{.tile = w.data + tile * tile_bytes,
                              .tile_bytes = tile_bytes,
                              .skip = w.skip,
                              .x = &x,
                              .cuts = groups.at,
                              .blocks = groups.blocks,
                              .y = y + (tile - begin) * kTileRows,
                              .y_stride = stride};
    if (panels) {
      target.panel(w.type, call, static_cast<int>(std::min(kPanelTiles, end - tile)));
    } else {
      target.run(w.type, call);
    }
  }
}

const char* PackedTarget() { return Chosen()->name; }

bool SetPackedTarget(const char* name) {
  for (const Target& target : Targets()) {
    if (std::strcmp(target.name, name) == 0 && target.run != nullptr) {
      Chosen() = &target;
      return true;
    }
  }
  return false;
}

}  // namespace atl::models::kernels
