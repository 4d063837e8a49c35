#include "models/layers/gated.h"

#include <algorithm>

#include "models/spec/workspace.h"

namespace atl::models {
namespace {

using kernels::kGroup;
using kernels::kTileRows;

// Pieces handed out together: some dozens for each thread.
int64_t Grain(int64_t pieces, ThreadPool* pool) {
  const int64_t threads = pool == nullptr ? 1 : pool->threads();
  return std::clamp<int64_t>(pieces / (threads * 24), 1, 8);
}

}  // namespace

void CountProducts(const Step& step, const GatedPart& part) {
  for (const Linear* linear : {part.gate, part.up, part.down}) linear->Count(step, part.in.rows);
}

void RunGated(ThreadPool* pool, Activation activation, std::span<const GatedPart> parts) {
  if (parts.empty()) return;
  // Of a piece: as many outputs as many rows are best multiplied with, and whole groups of the inner values.
  constexpr int64_t kTiles = kernels::kPanelTiles, kOutputs = kTiles * kTileRows;
  static_assert(kOutputs % kGroup == 0);
  const int64_t outputs = parts[0].gate->weight.rows, tiles = kernels::PackedTiles(outputs);
  const int64_t pieces = (outputs + kOutputs - 1) / kOutputs, all = pieces * static_cast<int64_t>(parts.size());
  const auto multiply = activation == Activation::kSilu ? kernels::SiluMultiply : kernels::GeluTanhMultiply;
  ParallelPieces(pool, all, Grain(all, pool), [&](int64_t piece, int64_t last) {
    // Of a piece with fewer outputs the rest is what was there before; nobody reads it.
    float gate[kExpertTile * kOutputs] = {}, up[kExpertTile * kOutputs] = {};
    for (; piece < last; ++piece) {
      const GatedPart& part = parts[piece / pieces];
      const int64_t tile = piece % pieces * kTiles, first = tile * kTileRows, end = std::min(first + kOutputs, outputs);
      for (int64_t row = 0; row < part.in.rows; row += kExpertTile) {
        const kernels::QuantizedRows in = part.in.Rows(row, std::min(kExpertTile, part.in.rows - row));
        const auto product = [&](const Linear& linear, float* y) {
          kernels::MatMulPackedTiles(in, kernels::AsPacked(linear.weight), linear.cuts, tile,
                                     std::min(tile + kTiles, tiles), y, kOutputs);
        };
        product(*part.gate, gate);
        product(*part.up, up);
        multiply(gate, up, in.rows * kOutputs, gate);
        for (int64_t r = 0; r < in.rows; ++r) {
          const float* values = gate + r * kOutputs;
          for (int64_t at = first; at < end; at += kGroup, values += kGroup) {
            kernels::QuantizeGroupOfRow(values, part.inner, row + r, at / kGroup);
          }
        }
      }
    }
  });
}

void RunDown(ThreadPool* pool, std::span<const GatedPart> parts, Buffer y) {
  if (parts.empty()) return;
  constexpr int64_t kTiles = kernels::kPanelTiles, kOutputs = kTiles * kTileRows;  // of a piece
  const int64_t outputs = parts[0].down->weight.rows, tiles = kernels::PackedTiles(outputs);
  const int64_t pieces = (tiles + kTiles - 1) / kTiles, all = pieces * static_cast<int64_t>(parts.size());
  ParallelPieces(pool, all, Grain(all, pool), [&](int64_t piece, int64_t last) {
    float sums[kExpertTile * kOutputs];
    for (; piece < last; ++piece) {
      const GatedPart& part = parts[piece / pieces];
      const int64_t tile = piece % pieces * kTiles, first = tile * kTileRows;
      const int64_t count = std::min(kOutputs, outputs - first);
      const kernels::QuantizedRows inner = part.inner;
      for (int64_t row = 0; row < inner.rows; row += kExpertTile) {
        const kernels::QuantizedRows in = inner.Rows(row, std::min(kExpertTile, inner.rows - row));
        kernels::MatMulPackedTiles(in, kernels::AsPacked(part.down->weight), part.down->cuts, tile,
                                   std::min(tile + kTiles, tiles), sums, kOutputs);
        for (int64_t r = 0; r < in.rows; ++r) {
          const int64_t at = (part.first_row + row + r) * outputs + first;
          kernels::Round(sums + r * kOutputs, count, y.type, static_cast<std::byte*>(y.data) + at * SizeOf(y.type));
        }
      }
    }
  });
}

}  // namespace atl::models
