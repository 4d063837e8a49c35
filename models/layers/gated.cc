#include "models/layers/gated.h"

#include <algorithm>

#include "models/spec/workspace.h"

namespace atl::models {
namespace {

using kernels::kGroup;
using kernels::kTileRows;

// Of a piece: as many outputs as many rows are best multiplied with, and whole groups of the inner values.
constexpr int64_t kTiles = kernels::kPanelTiles, kOutputs = kTiles * kTileRows;
static_assert(kOutputs % kGroup == 0);
// A thread's sums: of a piece's outputs for a tile of rows, or of more pieces for fewer rows.
constexpr int64_t kSums = kExpertTile * kOutputs;

// Pieces of all parts, part after part.
struct Pieces {
  int64_t outputs;  // of a part
  int64_t count = (outputs + kOutputs - 1) / kOutputs;
};

// Consecutive pieces of one part: its tiles [tile, tile_end) and outputs [first, end). Few rows take long runs: a
// matrix is read at the memory's full rate only where the reading goes on (pieces of 73 KB, one of gate and one of up:
// 31 of 35 GB/s).
struct Run {
  const GatedPart& part;
  int64_t pieces, tile, tile_end, first, end;
  int64_t width() const { return (tile_end - tile) * kTileRows; }
};
Run RunOf(std::span<const GatedPart> parts, const Pieces& pieces, int64_t piece, int64_t last) {
  const GatedPart& part = parts[piece / pieces.count];
  const int64_t at = piece % pieces.count, most = std::max<int64_t>(kExpertTile / part.in.rows, 1);
  const int64_t count = std::min({last - piece, pieces.count - at, most});
  const int64_t first = at * kOutputs, end = std::min(first + count * kOutputs, pieces.outputs);
  return {part, count, at * kTiles, kernels::PackedTiles(end), first, end};
}

}  // namespace

void CountProducts(const Step& step, const GatedPart& part) {
  for (const Linear* linear : {part.gate, part.up, part.down}) linear->Count(step, part.in.rows);
}

void RunGated(ThreadPool* pool, Activation activation, std::span<const GatedPart> parts) {
  if (parts.empty()) return;
  const Pieces pieces{parts[0].gate->weight.rows};
  const auto multiply = activation == Activation::kSilu ? kernels::SiluMultiply : kernels::GeluTanhMultiply;
  ParallelRuns(pool, pieces.count * std::ssize(parts), [&](int64_t piece, int64_t last) {
    float gate[kSums], up[kSums];
    while (piece < last) {
      const Run run = RunOf(parts, pieces, piece, last);
      const GatedPart& part = run.part;
      for (int64_t row = 0; row < part.in.rows; row += kExpertTile) {
        const kernels::QuantizedRows in = part.in.Rows(row, std::min(kExpertTile, part.in.rows - row));
        const auto product = [&](const Linear& linear, float* y) {
          kernels::MatMulPackedTiles(in, kernels::AsPacked(linear.weight), linear.cuts, run.tile, run.tile_end, y,
                                     run.width());
        };
        product(*part.gate, gate);
        product(*part.up, up);
        multiply(gate, up, in.rows * run.width(), gate);
        for (int64_t r = 0; r < in.rows; ++r) {
          const float* values = gate + r * run.width();  // whole groups: an inner axis has no others (kept_formats.cc)
          for (int64_t at = run.first; at < run.end; at += kGroup, values += kGroup) {
            kernels::QuantizeGroupOfRow(values, part.inner, row + r, at / kGroup);
          }
        }
      }
      piece += run.pieces;
    }
  });
}

void RunDown(ThreadPool* pool, std::span<const GatedPart> parts, Buffer y) {
  if (parts.empty()) return;
  const Pieces pieces{parts[0].down->weight.rows};
  ParallelRuns(pool, pieces.count * std::ssize(parts), [&](int64_t piece, int64_t last) {
    float sums[kSums];
    while (piece < last) {
      const Run run = RunOf(parts, pieces, piece, last);
      const kernels::QuantizedRows inner = run.part.inner;
      // Whole tiles in f32 are written where they belong: 3 % of a prompt, 4 % of a step of 64 rows.
      const bool here = y.type == DType::kF32 && run.width() == run.end - run.first;
      for (int64_t row = 0; row < inner.rows; row += kExpertTile) {
        const kernels::QuantizedRows in = inner.Rows(row, std::min(kExpertTile, inner.rows - row));
        const int64_t first = (run.part.first_row + row) * pieces.outputs + run.first;
        kernels::MatMulPackedTiles(in, kernels::AsPacked(run.part.down->weight), run.part.down->cuts, run.tile,
                                   run.tile_end, here ? static_cast<float*>(y.data) + first : sums,
                                   here ? pieces.outputs : run.width());
        for (int64_t r = 0; r < in.rows && !here; ++r) {
          kernels::Round(sums + r * run.width(), run.end - run.first, y.type,
                         static_cast<std::byte*>(y.data) + (first + r * pieces.outputs) * SizeOf(y.type));
        }
      }
      piece += run.pieces;
    }
  });
}

}  // namespace atl::models
