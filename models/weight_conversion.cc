#include "models/weight_conversion.h"

#include <cmath>
#include <cstring>
#include <mutex>

#include "models/fp8_conversion.h"
#include "models/kernels/kernels.h"
#include "models/kernels/packed_blocks.h"
#include "models/kernels/packed_layout.h"
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

// A row of GGUF's blocks, likewise.
void RepackBlocks(const kernels::Matrix& from, int64_t row, const kernels::PackedWeights& to, int64_t to_row) {
  const int64_t groups = kernels::LayoutOf(to.type).block_groups, bytes = InfoOf(from.format).group_bytes;
  const std::byte* block = from.data + row * from.row_bytes;
  for (int64_t first = -to.skip; first < kernels::PackedGroups(to.cols); first += groups, block += bytes) {
    kernels::PackBlock(to, to_row, first, kernels::ReadBlock(to.type, block));
  }
}

// Values from the first of their block on.
void PackBlocksOf(const float* values, int64_t count, const kernels::PackedWeights& to, int64_t to_row) {
  const int64_t groups = kernels::LayoutOf(to.type).block_groups, size = groups * kernels::kGroup;
  for (int64_t first = -to.skip; count > 0; first += groups, values += size, count -= size) {
    kernels::PackBlock(to, to_row, first, kernels::QuantizeBlock(to.type, values, std::min(size, count)));
  }
}

// Rows [0, from.rows) of `from` against those from `to_row` on.
Moved Compare(const kernels::Matrix& from, int64_t from_column, const kernels::Matrix& to, int64_t to_row) {
  Moved moved;
  std::vector<float> before(to.cols), after(to.cols);
  for (int64_t row = 0; row < from.rows; ++row) {
    kernels::DecodeRow(from, row, from_column, to.cols, before.data());
    kernels::DecodeRow(to, to_row + row, 0, to.cols, after.data());
    moved.Add(before, after);
  }
  return moved;
}

// The columns of whole groups of `format` that hold `columns`: a value may depend on all of its group.
Range WholeGroups(WeightFormat format, Range columns, int64_t all_columns) {
  const int64_t group = InfoOf(format).group;
  const int64_t end = (columns.end + group - 1) / group * group;
  return {columns.begin / group * group, std::min(end, all_columns)};
}

bool HasGroupScales(WeightFormat format) {
  return format == WeightFormat::kPackedInt4 || format == WeightFormat::kPackedInt8;
}

}  // namespace

void Moved::Add(std::span<const float> before, std::span<const float> after) {
  for (size_t i = 0; i < before.size(); ++i) {
    const float difference = std::fabs(before[i] - after[i]);
    squares += static_cast<double>(before[i]) * before[i];
    differences += static_cast<double>(difference) * difference;
    largest = std::max(largest, difference);
  }
}

void Moved::Add(const Moved& other) {
  squares += other.squares;
  differences += other.differences;
  largest = std::max(largest, other.largest);
}

absl::Status ConvertSlice(const Parameter& p, const StoredTensor& stored, const Slice& slice, std::byte* out,
                          ThreadPool* pool, Moved* moved) {
  ATOLL_CHECK(CanConvertTo(p.format), "{} is not converted to {}", p.name, Name(p.format));
  if (p.format == WeightFormat::kFp8Block) return ConvertSliceToFp8(p, stored, slice, out, pool, moved);
  const kernels::Matrix to = kernels::PackedMatrix(out, p.format, slice.rows, slice.columns);
  const bool repack = stored.format == WeightFormat::kInt4BF16 && p.format == WeightFormat::kPackedInt4;
  const bool same_blocks = IsPacked(p.format) && BlocksOf(p.format) == stored.format;
  const Range columns = WholeGroups(p.format, slice.columns, p.shape[1]);
  Parameter as_stored = p;
  as_stored.format = stored.format;
  std::mutex mutex;
  absl::Status first_error;
  ParallelFor(pool, (slice.rows.size() + kRows - 1) / kRows, [&](int64_t tile, int64_t last) {
    const Slice most{{slice.rows.begin, slice.rows.begin + kRows}, columns};
    // Where a tile begins among blocks of scales, it may touch one more of them.
    const int64_t room = PackingOf(stored.format, most.rows, most.columns).bytes +
                         2 * PackingOf(stored.format, {0, 1}, most.columns).bytes + 2 * kArenaAlignment;
    std::vector<std::byte> bytes(room);
    std::vector<float> values(columns.size());
    for (; tile < last; ++tile) {
      const int64_t begin = slice.rows.begin + tile * kRows;
      const Slice part{{begin, std::min(begin + kRows, slice.rows.end)}, columns};
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
        if (same_blocks) {
          RepackBlocks(from, row, kernels::AsPacked(to), to_row);
          continue;
        }
        kernels::WidenRow(from, row, values.data());
        if (HasGroupScales(p.format)) {
          kernels::PackRow(kernels::AsPacked(to), to_row, values.data());
        } else if (IsPacked(p.format)) {
          PackBlocksOf(values.data(), from.cols, kernels::AsPacked(to), to_row);
        } else {
          kernels::Round(values.data(), from.cols, DType::kBF16, out + to_row * to.row_bytes);
        }
      }
      if (moved != nullptr) {
        const Moved of = Compare(from, slice.columns.begin - columns.begin, to, tile * kRows);
        std::lock_guard lock(mutex);
        moved->Add(of);
      }
    }
  });
  return first_error;
}

namespace {

// Mean square of random stored values. Odd values alone, which lie around 0 (a mean would add up to something that all
// rows share): -7, -5 ... 7, or -127, -125 ... 127, or Q6_K's -31, -29 ... 31. Q4_K takes 2 q - 15.
double DummySquare(kernels::PackedType type) {
  switch (type) {
    case kernels::PackedType::kQ4_K:
      return 85;
    case kernels::PackedType::kQ6_K:
      return 341;
    default:
      return kernels::IsNibbles(type) ? 21 : 5461;
  }
}

// A block's scales, of which `step` makes a value of the stored one.
kernels::PackedBlock DummyScales(kernels::PackedType type, float step) {
  const bool shifted = type == kernels::PackedType::kQ4_K;
  kernels::PackedBlock block;
  block.d = block.dmin = ToF16(step).bits;
  std::fill_n(block.scales, std::size(block.scales), static_cast<int8_t>(shifted ? 2 : 1));
  std::fill_n(block.least, std::size(block.least), static_cast<int8_t>(15));
  return block;
}

}  // namespace

void DummyPackedSlice(const Parameter& p, const Slice& slice, std::byte* out, ThreadPool* pool) {
  const kernels::PackedWeights to = kernels::AsPacked(kernels::PackedMatrix(out, p.format, slice.rows, slice.columns));
  const kernels::PackedLayout layout = kernels::LayoutOf(to.type);
  const int64_t groups = kernels::PackedGroups(to.cols), all_groups = kernels::PackedGroups(p.shape[1]),
                first = slice.columns.begin / kernels::kGroup;
  const int64_t tile_bytes = kernels::PackedTileBytes(to.type, to.cols, to.skip);
  const int64_t lines = (layout.group_bytes - 2 * kRows) / 64;  // of weights
  const uint64_t seed = DummySeed(p.name);
  const bool nibbles = kernels::IsNibbles(to.type);
  const uint64_t odd = to.type == kernels::PackedType::kQ4_K ? 0 : nibbles ? 0x1111111111111111u : 0x0101010101010101u;
  const auto step = static_cast<float>(std::sqrt(1 / (DummySquare(to.type) * static_cast<double>(p.shape[1]))));
  const kernels::PackedBlock scales = DummyScales(to.type, step);
  const BF16 group_scale = ToBF16(step);
  ParallelFor(pool, kernels::PackedTiles(to.rows), [&](int64_t tile, int64_t last) {
    for (; tile < last; ++tile) {
      const int64_t lanes = std::min(kRows, to.rows - tile * kRows);
      for (int64_t block = -to.skip; block < groups && !HasGroupScales(p.format); block += layout.block_groups) {
        for (int64_t lane = 0; lane < lanes; ++lane) kernels::PackBlock(to, tile * kRows + lane, block, scales);
      }
      for (int64_t g = 0; g < groups; ++g) {
        std::byte* group = kernels::GroupOf(to.type, out + tile * tile_bytes, to.skip + g);
        for (int64_t lane = 0; lane < lanes; ++lane) {
          const int64_t row = slice.rows.begin + tile * kRows + lane;
          if (HasGroupScales(p.format)) {
            std::memcpy(group + layout.group_bytes - 2 * kRows + 2 * lane, &group_scale, 2);
          }
          const uint64_t at = seed + static_cast<uint64_t>(row * all_groups + first + g) * 0x9e3779b97f4a7c15u;
          for (int64_t j = 0; j < lines; j += 2) {  // four bytes of this output in each line of 64
            const uint64_t bits = Mix(at + static_cast<uint64_t>(j)) | (j < 4 || !nibbles ? odd : 0);
            std::memcpy(group + 64 * j + 4 * lane, &bits, 4);
            std::memcpy(group + 64 * (j + 1) + 4 * lane, reinterpret_cast<const char*>(&bits) + 4, 4);
          }
        }
      }
    }
  });
}

}  // namespace atl::models
