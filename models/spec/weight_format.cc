#include "models/spec/weight_format.h"

#include <iterator>

namespace atl::models {

namespace {

// In the order of the enumeration.
constexpr WeightFormatInfo kFormats[] = {
    {"f32", 1, 4},
    {"f16", 1, 2},
    {"bf16", 1, 2},
    {"fp8", 1, 1, 128, 128, 4},
    {"int4_f32", 32, 16, 1, 32, 4},
    {"int4_f16", 32, 16, 1, 32, 2},
    {"int4_bf16", 32, 16, 1, 32, 2},
    {"q4_0", 32, 18},
    {"q4_1", 32, 20},
    {"q5_0", 32, 22},
    {"q5_1", 32, 24},
    {"q8_0", 32, 34},
    {"mxfp4", 32, 17},
    {"iq4_nl", 32, 18},
    {"q2_k", 256, 84},
    {"q3_k", 256, 110},
    {"q4_k", 256, 144},
    {"q5_k", 256, 176},
    {"q6_k", 256, 210},
    {"iq1_s", 256, 50},
    {"iq1_m", 256, 56},
    {"iq2_xxs", 256, 66},
    {"iq2_xs", 256, 74},
    {"iq2_s", 256, 82},
    {"iq3_xxs", 256, 98},
    {"iq3_s", 256, 110},
    {"iq4_xs", 256, 136},
    {"int4", 32, 18, 0, 0, 0, 16},
    {"int8", 32, 34, 0, 0, 0, 16},
    {"packed_q4_0", 32, 18, 0, 0, 0, 16},
    {"packed_q8_0", 32, 34, 0, 0, 0, 16},
    {"packed_q4_k", 256, 148, 0, 0, 0, 16},
    {"packed_q6_k", 256, 210, 0, 0, 0, 16},
};
static_assert(std::size(kFormats) == kWeightFormats);

// The blocks of `size` that a range touches.
Range Touched(Range range, int64_t size) {
  if (range.size() <= 0) return {range.begin / size, range.begin / size};
  return {range.begin / size, (range.end + size - 1) / size};
}

}  // namespace

WeightFormatInfo InfoOf(WeightFormat format) { return kFormats[static_cast<size_t>(format)]; }

std::optional<WeightFormat> PackedFrom(WeightFormat blocks) {
  switch (blocks) {
    case WeightFormat::kQ4_0:
      return WeightFormat::kPackedQ4_0;
    case WeightFormat::kQ8_0:
      return WeightFormat::kPackedQ8_0;
    case WeightFormat::kQ4_K:
      return WeightFormat::kPackedQ4_K;
    case WeightFormat::kQ6_K:
      return WeightFormat::kPackedQ6_K;
    default:
      return std::nullopt;
  }
}

std::optional<WeightFormat> BlocksOf(WeightFormat packed) {
  for (const auto blocks : {WeightFormat::kQ4_0, WeightFormat::kQ8_0, WeightFormat::kQ4_K, WeightFormat::kQ6_K}) {
    if (PackedFrom(blocks) == packed) return blocks;
  }
  return std::nullopt;
}

Packing PackingOf(WeightFormat format, Range rows, Range columns) {
  const WeightFormatInfo info = InfoOf(format);
  const Range groups = Touched(columns, info.group);
  Packing packing;
  packing.first_group = groups.begin;
  packing.groups = groups.size();
  packing.skip_columns = columns.begin - groups.begin * info.group;
  packing.row_bytes = groups.size() * info.group_bytes;
  packing.matrix_bytes = (rows.size() + info.tile_rows - 1) / info.tile_rows * info.tile_rows * packing.row_bytes;
  packing.bytes = packing.matrix_bytes;
  if (info.scale_rows > 0) {
    packing.scale_rows = Touched(rows, info.scale_rows);
    packing.scale_columns = Touched(columns, info.scale_columns);
    packing.skip_scale_rows = rows.begin - packing.scale_rows.begin * info.scale_rows;
    packing.skip_scale_columns = columns.begin - packing.scale_columns.begin * info.scale_columns;
    packing.scale_row_bytes = packing.scale_columns.size() * info.scale_bytes;
    packing.scales_at = ArenaAligned(packing.matrix_bytes);
    packing.bytes = packing.scales_at + packing.scale_rows.size() * packing.scale_row_bytes;
  }
  return packing;
}

}  // namespace atl::models
