#include "models/fp8_conversion.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#include "models/kernels/fp8_rows.h"
#include "models/kernels/kernels.h"
#include "models/weights/e4m3.h"
#include "models/weights/slice_reader.h"

namespace atl::models {
namespace {

// A row of blocks of the matrix in f32: [rows, columns].
struct BlockRow {
  Range rows, columns;
  std::vector<float> values;

  const float* At(int64_t row, int64_t column) const {
    return values.data() + (row - rows.begin) * columns.size() + (column - columns.begin);
  }
  // The scale of the block of columns [begin, end); 0 where all values are next to nothing.
  absl::StatusOr<float> Scale(const std::string& name, int64_t begin, int64_t end) const {
    float largest = 0, poison = 0;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      for (const float *value = At(row, begin), *last = At(row, end - 1) + 1; value < last; ++value) {
        largest = std::max(largest, std::fabs(*value));
        poison += *value * 0.0f;  // NaN if a value is infinite or none
      }
    }
    const float scale = largest / kLargestE4m3 + poison;
    if (scale <= kLargestFp8Scale) return scale < std::numeric_limits<float>::min() ? 0 : scale;
    return InvalidArgument(
        "{}, rows {} to {}, columns {} to {}: FP8 holds weights up to {:.0f} here, the largest is {}; take --weights "
        "bf16",
        name, rows.begin, rows.end, begin, end, kLargestFp8Scale * kLargestE4m3, largest + poison);
  }
};

absl::Status Read(const Parameter& p, const StoredTensor& stored, BlockRow* to) {
  Parameter as_stored = p;
  as_stored.format = stored.format;
  std::vector<std::byte> bytes(PackingOf(stored.format, to->rows, to->columns).bytes);
  ATOLL_RETURN_IF_ERROR(ReadSlice(as_stored, stored, {to->rows, to->columns}, bytes.data()));
  const kernels::Matrix from = kernels::PackedMatrix(bytes.data(), stored.format, to->rows, to->columns);
  to->values.resize(to->rows.size() * to->columns.size());
  for (int64_t row = 0; row < from.rows; ++row) {
    kernels::WidenRow(from, row, to->values.data() + row * to->columns.size());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ConvertSliceToFp8(const Parameter& p, const StoredTensor& stored, const Slice& slice, std::byte* out,
                               ThreadPool* pool, Moved* moved) {
  const Packing packing = PackingOf(p.format, slice.rows, slice.columns);
  const Range columns{packing.scale_columns.begin * kernels::kFp8Block,
                      std::min(packing.scale_columns.end * kernels::kFp8Block, p.shape[1])};
  std::mutex mutex;
  absl::Status first_error;
  const auto failed = [&](const absl::Status& error) {
    std::lock_guard lock(mutex);
    if (first_error.ok()) first_error = error;
  };
  ParallelFor(pool, packing.scale_rows.size(), [&](int64_t block, int64_t last) {
    BlockRow of;
    std::vector<float> scales(packing.scale_columns.size()), kept(slice.columns.size());
    for (; block < last; ++block) {
      const int64_t begin = (packing.scale_rows.begin + block) * kernels::kFp8Block;
      of.rows = {begin, std::min(begin + kernels::kFp8Block, p.shape[0])};
      of.columns = columns;
      if (const absl::Status read = Read(p, stored, &of); !read.ok()) return failed(read);
      for (size_t c = 0; c < scales.size(); ++c) {
        const int64_t at = columns.begin + static_cast<int64_t>(c) * kernels::kFp8Block;
        const auto scale = of.Scale(p.name, at, std::min(at + kernels::kFp8Block, columns.end));
        if (!scale.ok()) return failed(scale.status());
        scales[c] = *scale;
      }
      std::memcpy(out + packing.scales_at + block * packing.scale_row_bytes, scales.data(), packing.scale_row_bytes);
      const Range rows{std::max(of.rows.begin, slice.rows.begin), std::min(of.rows.end, slice.rows.end)};
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        std::byte* to = out + (row - slice.rows.begin) * packing.row_bytes;
        for (int64_t column = slice.columns.begin; column < slice.columns.end; ++column) {
          const float scale = scales[(column - columns.begin) / kernels::kFp8Block];
          *to++ = scale > 0 ? static_cast<std::byte>(ToE4m3(*of.At(row, column) / scale)) : std::byte{0};
        }
      }
      if (moved == nullptr) continue;
      const kernels::Matrix all = kernels::PackedMatrix(out, p.format, slice.rows, slice.columns);
      Moved here;
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        kernels::WidenRow(all, row - slice.rows.begin, kept.data());
        here.Add({of.At(row, slice.columns.begin), kept.size()}, kept);
      }
      std::lock_guard lock(mutex);
      moved->Add(here);
    }
  });
  return first_error;
}

}  // namespace atl::models
