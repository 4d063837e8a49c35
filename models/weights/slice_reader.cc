#include "models/weights/slice_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "models/weights/block_scales.h"
#include "models/weights/e4m3.h"
#include "models/weights/read_ahead.h"

namespace atl::models {
namespace {

float Plain(DType type, const std::byte* at) {
  if (type == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return type == DType::kBF16 ? ToFloat(BF16{bits}) : ToFloat(F16{bits});
}

// [rows, columns] elements of `size` bytes whose columns lie column_stride bytes apart. Tiles fit the first-level cache
// in both directions.
void Gather(const std::byte* from, int64_t row_stride, int64_t column_stride, int64_t rows, int64_t columns,
            int64_t size, std::byte* to) {
  constexpr int64_t kTile = 64;
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
      for (int64_t r = r0; r < std::min(rows, r0 + kTile); ++r) {
        for (int64_t c = c0; c < std::min(columns, c0 + kTile); ++c) {
          std::memcpy(to + (r * columns + c) * size, from + r * row_stride + c * column_stride, size);
        }
      }
    }
  }
}

// Where row `row` is stored when each head's rows stand in pairs: row i of the first half at 2 i, of the second half at
// 2 i + 1.
int64_t StoredRow(int64_t row, int64_t head) {
  const int64_t i = row % head, half = head / 2;
  return row - i + (i < half ? 2 * i : 2 * (i - half) + 1);
}

void ReadVector(const StoredTensor& stored, Range rows, float* out) {
  const DType type = stored.format == WeightFormat::kF32   ? DType::kF32
                     : stored.format == WeightFormat::kF16 ? DType::kF16
                                                           : DType::kBF16;
  for (int64_t i = rows.begin; i < rows.end; ++i) *out++ = Plain(type, stored.data + i * stored.row_bytes);
}

absl::Status ReadScales(const Parameter& p, const StoredTensor& stored, const Packing& packing, std::byte* to) {
  const int64_t from_size = SizeOf(stored.scale_type), size = InfoOf(p.format).scale_bytes;
  const float most = p.format == WeightFormat::kFp8Block ? kLargestFp8Scale : std::numeric_limits<float>::max();
  for (int64_t r = packing.scale_rows.begin; r < packing.scale_rows.end; ++r) {
    const std::byte* from = stored.scales + r * stored.scale_row_bytes + packing.scale_columns.begin * from_size;
    for (int64_t c = 0; c < packing.scale_columns.size(); ++c, from += from_size, to += size) {
      const float scale = Plain(stored.scale_type, from);
      if (!(std::fabs(scale) <= most)) {
        return InvalidArgument("the scale of {} at ({}, {}) is {}; is the file damaged?", p.name, r,
                               packing.scale_columns.begin + c, scale);
      }
      if (from_size == size) {
        std::memcpy(to, from, size);
      } else {
        std::memcpy(to, &scale, sizeof(scale));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadSlice(const Parameter& p, const StoredTensor& stored, const Slice& slice, void* out) {
  if (p.shape.size() == 1) {
    ReadVector(stored, slice.rows, static_cast<float*>(out));
    return absl::OkStatus();
  }
  if (stored.format != p.format) {
    return InvalidArgument("tensor {} is stored as {}; {} was planned for", p.name, Name(stored.format),
                           Name(p.format));
  }
  const WeightFormatInfo info = InfoOf(p.format);
  if (p.part && stored.column_bytes != info.group_bytes && info.group > 1) {
    return Unimplemented("tensor {} is stored as {}, which cannot be transposed", p.name, Name(p.format));
  }
  const Packing packing = PackingOf(p.format, slice.rows, slice.columns);
  auto* to = static_cast<std::byte*>(out);
  const std::byte* from = stored.data + packing.first_group * stored.column_bytes;
  if (stored.column_bytes != info.group_bytes) {
    Gather(from + slice.rows.begin * stored.row_bytes, stored.row_bytes, stored.column_bytes, slice.rows.size(),
           packing.groups, info.group_bytes, to);
  } else {
    ReadAhead ahead(from + slice.rows.begin * stored.row_bytes, stored.row_bytes, packing.row_bytes, slice.rows.size());
    for (int64_t row = slice.rows.begin; row < slice.rows.end; ++row, to += packing.row_bytes) {
      ahead.Reach(row - slice.rows.begin);
      const int64_t at = stored.paired_rows > 0 ? StoredRow(row, stored.paired_rows) : row;
      std::memcpy(to, from + at * stored.row_bytes, packing.row_bytes);
      if (!BlocksAreFinite(p.format, to, packing.groups)) {
        return InvalidArgument("a number in row {} of {} is not finite; is the file damaged?", row, p.name);
      }
    }
  }
  if (info.scale_rows == 0) return absl::OkStatus();
  return ReadScales(p, stored, packing, static_cast<std::byte*>(out) + packing.scales_at);
}

int64_t AskForSlice(const StoredTensor& stored, const Slice& slice) {
  const int64_t rows = slice.rows.size();
  const Packing packing = PackingOf(stored.format, slice.rows, slice.columns);
  if (stored.column_bytes != InfoOf(stored.format).group_bytes) return 0;
  ReadAhead(stored.data + packing.first_group * stored.column_bytes + slice.rows.begin * stored.row_bytes,
            stored.row_bytes, packing.row_bytes, rows)
      .Reach(rows - 1);
  return rows * packing.row_bytes;
}

}  // namespace atl::models
