// compressed-tensors' pack-quantized weights of 4 bits, symmetric, in groups of 32 (Kimi K2 Thinking's routed experts):
// X.weight_packed i32 [out, in / 8], eight nibbles a word from its lowest bits; X.weight_scale [out, in / 32];
// X.weight_shape [2] = out, in. A weight is (nibble - 8) times its group's scale.
#include <cstring>

#include "models/weights/formats/table.h"

namespace atl::models {
namespace {

constexpr int64_t kGroup = 32, kNibblesOfWord = 8;

// weight_shape's two numbers say what the packed words hold.
absl::Status CheckStatedShape(const Checkpoint& checkpoint, const Parameter& p, const std::string& name) {
  const TensorView* stated = checkpoint.FindPublished(name);
  if (stated == nullptr) return absl::OkStatus();
  ATOLL_RETURN_IF_ERROR(checkpoint.CheckShape(name, *stated, {2}));
  std::vector<int64_t> shape(2);
  if (stated->dtype == DType::kI64) {
    std::memcpy(shape.data(), stated->data, 16);
  } else if (stated->dtype == DType::kI32) {
    int32_t words[2];
    std::memcpy(words, stated->data, 8);
    shape = {words[0], words[1]};
  } else {
    return InvalidArgument("{}: {} is {}; it must be i32 or i64", checkpoint.path(), name, Name(stated->dtype));
  }
  if (shape != p.shape) {
    return InvalidArgument("{}: {} says [{}, {}], config.json asks for [{}, {}]", checkpoint.path(), name, shape[0],
                           shape[1], p.shape[0], p.shape[1]);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<StoredTensor>> InPackQuantized(const Checkpoint& checkpoint, const Parameter& p) {
  const std::string packed_name = p.tensor() + "_packed", scales_name = p.tensor() + "_scale",
                    shape_name = p.tensor() + "_shape";
  const TensorView* packed = checkpoint.FindPublished(packed_name);
  if (packed == nullptr) return std::nullopt;
  if (p.shape.size() != 2 || p.part || p.shape[1] % kGroup != 0) {
    return InvalidArgument("{}: {} is stored in 4 bits, which a matrix of whole groups of {} columns can be",
                           checkpoint.path(), p.tensor(), kGroup);
  }
  for (const char* other : {"_zero_point", "_g_idx"}) {
    if (checkpoint.FindPublished(p.tensor() + other) != nullptr) {
      return Unimplemented("{}: {} has a tensor {}; only symmetric groups of {} neighbours are supported",
                           checkpoint.path(), p.tensor(), other + 1, kGroup);
    }
  }
  ATOLL_RETURN_IF_ERROR(checkpoint.CheckShape(packed_name, *packed, {p.shape[0], p.shape[1] / kNibblesOfWord}));
  if (packed->dtype != DType::kI32) {
    return InvalidArgument("{}: {} is {}; it must be i32", checkpoint.path(), packed_name, Name(packed->dtype));
  }
  const TensorView* scales = checkpoint.FindPublished(scales_name);
  if (scales == nullptr) {
    return InvalidArgument("{}: {} is there, but its scales {} are missing", checkpoint.path(), packed_name,
                           scales_name);
  }
  ATOLL_RETURN_IF_ERROR(checkpoint.CheckShape(scales_name, *scales, {p.shape[0], p.shape[1] / kGroup}));
  if (!IsPlain(scales->dtype)) {
    return InvalidArgument("{}: the scales {} are {}; they must be f32, f16 or bf16", checkpoint.path(), scales_name,
                           Name(scales->dtype));
  }
  ATOLL_RETURN_IF_ERROR(CheckStatedShape(checkpoint, p, shape_name));
  StoredTensor stored;
  stored.format = scales->dtype == DType::kF32   ? WeightFormat::kInt4F32
                  : scales->dtype == DType::kF16 ? WeightFormat::kInt4F16
                                                 : WeightFormat::kInt4BF16;
  stored.data = packed->data;
  stored.row_bytes = p.shape[1] / 2;
  stored.column_bytes = kGroup / 2;
  stored.scales = scales->data;
  stored.scale_type = scales->dtype;
  stored.scale_row_bytes = p.shape[1] / kGroup * SizeOf(scales->dtype);
  stored.tensor = packed;
  stored.beside = checkpoint.FindPublished(shape_name) != nullptr ? 2 : 1;
  return stored;
}

}  // namespace atl::models
