#include "models/kernels/packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "models/kernels/packed_tile.h"
#include "parallel/base/status.h"

namespace atl::models::kernels {
namespace {

struct Target {
  const char* name;
  PackedTileFunction run;
  QuantizeFunction quantize;
  PackedPanelFunction panel = nullptr;  // for INT4 and many rows, where there is a better one
};
constexpr int64_t kPanelRows = 12;  // from here on it is worth unpacking a panel

// Best first.
std::span<const Target> Targets() {
  static const Target targets[] = {{"avx512-vnni", PackedTileAvx512Vnni(), QuantizeAvx2},
                                   {"avx2", PackedTileAvx2(), QuantizeAvx2, PackedPanelAvx2()},
                                   {"portable", PackedTilePortable, QuantizePortable}};
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

std::byte* GroupAt(const PackedWeights& w, int64_t row, int64_t group) {
  return w.data + (row / kTileRows * PackedGroups(w.cols) + group) * PackedGroupBytes(w.type);
}

// Where input i (of 32) of output `lane` (of 16) lies in a group: byte, and for INT4 how far it is shifted.
struct Place {
  int64_t byte;
  int shift;
};
Place PlaceOf(PackedType type, int64_t lane, int64_t i) {
  if (type == PackedType::kInt8) return {i / 4 * 64 + lane * 4 + i % 4, 0};
  return {i % 16 / 4 * 64 + lane * 4 + i % 4, i < 16 ? 0 : 4};
}

constexpr int kInt4Zero = 8, kInt8Zero = 128;

float LargestMagnitude(const float* values) {
  constexpr int64_t kSide = 8;  // side by side, which a compiler makes vectors of
  float largest[kSide] = {}, poison[kSide] = {};
  for (int64_t i = 0; i < kGroup; i += kSide) {
    for (int64_t l = 0; l < kSide; ++l) {
      const float magnitude = std::fabs(values[i + l]);
      largest[l] = largest[l] < magnitude ? magnitude : largest[l];
      poison[l] += values[i + l] * 0.0f;  // NaN if a value is infinite or none
    }
  }
  for (int64_t l = 1; l < kSide; ++l) {
    largest[0] = std::max(largest[0], largest[l]);
    poison[0] += poison[l];
  }
  return largest[0] + poison[0];
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

void PackGroup(const PackedWeights& w, int64_t row, int64_t group, const int8_t* q, BF16 scale) {
  std::byte* to = GroupAt(w, row, group);
  const int64_t lane = row % kTileRows;
  std::byte quads[8][4];  // of this output, each to its place in a line of 64 bytes
  if (w.type == PackedType::kInt8) {
    for (int64_t i = 0; i < kGroup; ++i) quads[i / 4][i % 4] = static_cast<std::byte>(q[i] + kInt8Zero);
  } else {
    for (int64_t i = 0; i < kGroup / 2; ++i) {
      quads[i / 4][i % 4] = static_cast<std::byte>(q[i] + kInt4Zero | (q[i + kGroup / 2] + kInt4Zero) << 4);
    }
  }
  for (int64_t j = 0; j < (w.type == PackedType::kInt8 ? 8 : 4); ++j) {
    std::memcpy(to + j * 64 + lane * 4, quads[j], 4);
  }
  std::memcpy(to + PackedGroupBytes(w.type) - 2 * kTileRows + 2 * lane, &scale, 2);
}

void UnpackGroup(const PackedWeights& w, int64_t row, int64_t group, float* out) {
  const std::byte* from = GroupAt(w, row, group);
  const int64_t lane = row % kTileRows;
  BF16 scale;
  std::memcpy(&scale, from + PackedGroupBytes(w.type) - 2 * kTileRows + 2 * lane, 2);
  for (int64_t i = 0; i < kGroup; ++i) {
    const Place place = PlaceOf(w.type, lane, i);
    const int byte = static_cast<int>(from[place.byte]) >> place.shift;
    const int q = w.type == PackedType::kInt8 ? byte - kInt8Zero : (byte & 15) - kInt4Zero;
    out[i] = static_cast<float>(q) * ToFloat(scale);
  }
}

BF16 QuantizeGroup(PackedType type, const float* values, int8_t* q) {
  const bool int4 = type == PackedType::kInt4;
  const BF16 scale = ToBF16(LargestMagnitude(values) / (int4 ? 7.5f : 127.0f));
  const float divisor = ToFloat(scale), least = int4 ? -8.0f : -127.0f, most = int4 ? 7.0f : 127.0f;
  if (!(divisor > 0)) {
    std::fill_n(q, kGroup, static_cast<int8_t>(0));
    return scale;
  }
  for (int64_t i = 0; i < kGroup; ++i) {
    // To nearest even, as the activations (packed_portable.cc). Before the cut: values are at most about `most` steps.
    const float rounded = (values[i] / divisor + 0x1.8p23f) - 0x1.8p23f;
    q[i] = static_cast<int8_t>(std::min(std::max(rounded, least), most));
  }
  return scale;
}

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
  auto* sums = reinterpret_cast<int32_t*>(scales + rows * groups);
  return {rows, depth, reinterpret_cast<int8_t*>(sums + rows * groups), scales, sums};
}

void QuantizeRow(const float* x, const MutableQuantizedRows& to, int64_t row) {
  const int64_t whole = to.depth / kGroup, left = to.depth - whole * kGroup;
  for (int64_t g = 0; g < whole; ++g) QuantizeGroupOfRow(x + g * kGroup, to, row, g);
  if (left == 0) return;
  float rest[kGroup] = {};
  std::copy_n(x + whole * kGroup, left, rest);
  QuantizeGroupOfRow(rest, to, row, whole);
}

void QuantizeGroupOfRow(const float* x, const MutableQuantizedRows& to, int64_t row, int64_t group) {
  const int64_t at = row * PackedGroups(to.depth) + group;
  Chosen()->quantize(x, to.values + at * kGroup, to.scales + at, to.sums + at);
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
  const int64_t tile_bytes = PackedGroups(w.cols) * PackedGroupBytes(w.type);
  const Target& target = *Chosen();
  const bool panels = target.panel != nullptr && w.type == PackedType::kInt4 && x.rows >= kPanelRows;
  const int64_t step = panels ? kPanelTiles : 1;
  for (int64_t tile = begin; tile < end; tile += step) {
    const PackedTileCall call{.tile = w.data + tile * tile_bytes,
                              .x = &x,
                              .cuts = groups.at,
                              .blocks = groups.blocks,
                              .y = y + (tile - begin) * kTileRows,
                              .y_stride = stride};
    if (panels) {
      target.panel(call, static_cast<int>(std::min(kPanelTiles, end - tile)));
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
