#include "models/weight_conversion.h"

#include <cmath>
#include <cstring>
#include <mutex>

#include "models/kernels/kernels.h"
#include "models/weights/dummy.h"
#include "models/weights/slice_reader.h"
#include "parallel/base/mix.h"

namespace atl::models {
namespace {

constexpr int64_t kRows = kernels::kTileRows;  // converted together: a tile

// A row of compressed-tensors' INT4 with bf16 scales: the values stay what they are.
void RepackRow(const kernels::Matrix& from, int64_t row, const kernels::PackedWeights& to, int64_t to_row) {
  const std::byte* nibbles = from.data + row * from.row_bytes;
  for (int64_t group = 0; group < kernels::PackedGroups(to.cols); ++group) {
    int8_t q[kernels::kGroup];
    for (int64_t i = 0; i < kernels::kGroup; ++i) {
      const auto byte = static_cast<int>(nibbles[(group * kernels::kGroup + i) / 2]);
      q[i] = static_cast<int8_t>((byte >> (i % 2 * 4) & 15) - 8);
    }
    BF16 scale;
    std::memcpy(&scale, from.scales.data + row * from.scales.row_bytes + group * 2, sizeof(scale));
    kernels::PackGroup(to, to_row, group, q, scale);
  }
}

void PackRow(const float* values, const kernels::PackedWeights& to, int64_t to_row) {
  float group[kernels::kGroup];
  int8_t q[kernels::kGroup];
  for (int64_t at = 0; at < to.cols; at += kernels::kGroup) {
    const int64_t count = std::min(kernels::kGroup, to.cols - at);
    std::fill(std::copy_n(values + at, count, group), group + kernels::kGroup, 0.0f);
    const BF16 scale = kernels::QuantizeGroup(to.type, group, q);
    kernels::PackGroup(to, to_row, at / kernels::kGroup, q, scale);
  }
}

}  // namespace

absl::Status ConvertSlice(const Parameter& p, const StoredTensor& stored, const Slice& slice, std::byte* out,
                          ThreadPool* pool) {
  ATOLL_CHECK(IsPacked(p.format) || p.format == WeightFormat::kBF16, "{} is not converted to {}", p.name,
              Name(p.format));
  const kernels::Matrix to = kernels::PackedMatrix(out, p.format, slice.rows, slice.columns);
  const bool repack = stored.format == WeightFormat::kInt4BF16 && p.format == WeightFormat::kPackedInt4;
  Parameter as_stored = p;
  as_stored.format = stored.format;
  std::mutex mutex;
  absl::Status first_error;
  ParallelFor(pool, (slice.rows.size() + kRows - 1) / kRows, [&](int64_t tile, int64_t last) {
    const Slice most{{slice.rows.begin, slice.rows.begin + kRows}, slice.columns};
    // Where a tile begins among blocks of scales, it may touch one more of them.
    const int64_t room = PackingOf(stored.format, most.rows, most.columns).bytes +
                         2 * PackingOf(stored.format, {0, 1}, most.columns).bytes + 2 * kArenaAlignment;
    std::vector<std::byte> bytes(room);
    std::vector<float> values(slice.columns.size());
    for (; tile < last; ++tile) {
      const int64_t begin = slice.rows.begin + tile * kRows;
      const Slice part{{begin, std::min(begin + kRows, slice.rows.end)}, slice.columns};
      if (absl::Status read = ReadSlice(as_stored, stored, part, bytes.data()); !read.ok()) {
        std::lock_guard lock(mutex);
        if (first_error.ok()) first_error = std::move(read);
        return;
      }
      const kernels::Matrix from = kernels::PackedMatrix(bytes.data(), stored.format, part.rows, part.columns);
      for (int64_t row = 0; row < from.rows; ++row) {
        const int64_t to_row = tile * kRows + row;
        if (repack) {
          RepackRow(from, row, kernels::AsPacked(to), to_row);
          continue;
        }
        kernels::WidenRow(from, row, values.data());
        if (IsPacked(p.format)) {
          PackRow(values.data(), kernels::AsPacked(to), to_row);
        } else {
          kernels::Round(values.data(), from.cols, DType::kBF16, out + to_row * to.row_bytes);
        }
      }
    }
  });
  return first_error;
}

void DummyPackedSlice(const Parameter& p, const Slice& slice, std::byte* out, ThreadPool* pool) {
  const kernels::PackedWeights to = kernels::AsPacked(kernels::PackedMatrix(out, p.format, slice.rows, slice.columns));
  const bool int4 = to.type == kernels::PackedType::kInt4;
  const int64_t groups = kernels::PackedGroups(to.cols), all_groups = kernels::PackedGroups(p.shape[1]),
                first = slice.columns.begin / kernels::kGroup, bytes = kernels::PackedGroupBytes(to.type);
  const uint64_t seed = DummySeed(p.name);
  // Odd values only, which lie around 0: a mean would add up to something that all rows share. Their mean square is
  // 21 of -7, -5 ... 7, and 127 * 129 / 3 of -127, -125 ... 127.
  const uint64_t odd = int4 ? 0x1111111111111111u : 0x0101010101010101u;
  const double square = int4 ? 21 : 5461;
  const BF16 scale = ToBF16(static_cast<float>(std::sqrt(1 / (square * static_cast<double>(p.shape[1])))));
  ParallelFor(pool, kernels::PackedTiles(to.rows), [&](int64_t tile, int64_t last) {
    for (; tile < last; ++tile) {
      for (int64_t g = 0; g < groups; ++g) {
        std::byte* group = out + (tile * groups + g) * bytes;
        for (int64_t lane = 0; lane < std::min(kRows, to.rows - tile * kRows); ++lane) {
          const int64_t row = slice.rows.begin + tile * kRows + lane;
          const uint64_t at = seed + static_cast<uint64_t>(row * all_groups + first + g) * 0x9e3779b97f4a7c15u;
          for (int64_t j = 0; j < (int4 ? 4 : 8); j += 2) {  // four bytes of this output in each line of 64
            const uint64_t bits = Mix(at + static_cast<uint64_t>(j)) | odd;
            std::memcpy(group + 64 * j + 4 * lane, &bits, 4);
            std::memcpy(group + 64 * (j + 1) + 4 * lane, reinterpret_cast<const char*>(&bits) + 4, 4);
          }
          std::memcpy(group + bytes - 2 * kRows + 2 * lane, &scale, 2);
        }
      }
    }
  });
}

}  // namespace atl::models
