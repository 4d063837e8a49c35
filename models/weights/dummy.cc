#include "models/weights/dummy.h"

#include <cmath>
#include <cstring>

#include "models/weights/e4m3.h"
#include "parallel/base/mix.h"

namespace atl::models {
namespace {

// Makes the elements of one parameter.
class Maker {
 public:
  explicit Maker(const Parameter& p) : columns_(p.shape.size() > 1 ? p.shape[1] : 1), seed_(DummySeed(p.name)) {
    if (p.kind == ParameterKind::kNorm) {
      center_ = 1, spread_ = 0.1f;
    } else if (p.kind == ParameterKind::kEmbedding) {
      spread_ = 1;
    } else if (p.shape.size() > 1) {
      spread_ = std::sqrt(3.0f / static_cast<float>(columns_));
    }
  }

  // Uniform in [-1, 1).
  float Unit(int64_t row, int64_t column) const {
    const uint64_t bits = Mix(seed_ + static_cast<uint64_t>(row * columns_ + column) * 0x9e3779b97f4a7c15u);
    return static_cast<float>(static_cast<int32_t>(bits >> 32)) * 0x1p-31f;
  }
  float Value(int64_t row, int64_t column) const { return center_ + spread_ * Unit(row, column); }
  // The scale that gives quantised elements of size `largest` the spread.
  float ScaleOf(float largest) const { return spread_ / largest; }

 private:
  const int64_t columns_;
  const uint64_t seed_;
  float center_ = 0, spread_ = 0.02f;
};

template <typename T>
void Put(T value, std::byte* to) {
  std::memcpy(to, &value, sizeof(value));
}

// One group of columns, beginning with `column`.
void PutGroup(const Maker& make, WeightFormat format, int64_t row, int64_t column, std::byte* to) {
  switch (format) {
    case WeightFormat::kF32:
      return Put(make.Value(row, column), to);
    case WeightFormat::kF16:
      return Put(ToF16(make.Value(row, column)), to);
    case WeightFormat::kBF16:
      return Put(ToBF16(make.Value(row, column)), to);
    case WeightFormat::kFp8Block:
      return Put(ToE4m3(make.Unit(row, column) * kLargestE4m3), to);
    default:  // INT4: nibbles 0 ... 15
      for (int i = 0; i < 32; i += 2) {
        const auto nibble = [&](int64_t at) { return static_cast<int>(std::floor(make.Unit(row, at) * 8)) + 8; };
        to[i / 2] = static_cast<std::byte>(nibble(column + i) | nibble(column + i + 1) << 4);
      }
  }
}

}  // namespace

void DummySlice(const Parameter& p, const Slice& slice, void* out) {
  ATOLL_CHECK(p.format <= WeightFormat::kInt4BF16, "dummy weights cannot be {}", Name(p.format));
  const Maker make(p);
  const WeightFormatInfo info = InfoOf(p.format);
  const Packing packing = PackingOf(p.format, slice.rows, slice.columns);
  auto* to = static_cast<std::byte*>(out);
  for (int64_t row = slice.rows.begin; row < slice.rows.end; ++row) {
    for (int64_t group = 0; group < packing.groups; ++group, to += info.group_bytes) {
      PutGroup(make, p.format, row, (packing.first_group + group) * info.group, to);
    }
  }
  to = static_cast<std::byte*>(out) + packing.scales_at;
  const float scale = make.ScaleOf(p.format == WeightFormat::kFp8Block ? kLargestE4m3 : 8);
  for (int64_t i = 0; i < packing.scale_rows.size() * packing.scale_columns.size(); ++i, to += info.scale_bytes) {
    if (p.format == WeightFormat::kInt4F16) {
      Put(ToF16(scale), to);
    } else if (p.format == WeightFormat::kInt4BF16) {
      Put(ToBF16(scale), to);
    } else {
      Put(scale, to);
    }
  }
}

}  // namespace atl::models
