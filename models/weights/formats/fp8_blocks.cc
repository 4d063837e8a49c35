// Block-scaled FP8 as DeepSeek-V3 and Qwen3 publish it: X.weight in e4m3 [out, in], X.weight_scale_inv with one scale
// for each 128 x 128 elements. Despite the name a weight is its e4m3 value times the scale.
#include "models/weights/formats/table.h"

namespace atl::models {

absl::StatusOr<std::optional<StoredTensor>> InFp8Blocks(const Checkpoint& checkpoint, const Parameter& p) {
  const TensorView* tensor = checkpoint.FindPublished(p.tensor());
  if (tensor == nullptr || tensor->dtype != DType::kF8E4M3) return std::nullopt;
  if (p.shape.size() != 2 || p.part) {
    return InvalidArgument("{}: tensor {} is stored as fp8, which only a whole matrix can be", checkpoint.path(),
                           p.tensor());
  }
  ATOLL_RETURN_IF_ERROR(checkpoint.CheckShape(p.tensor(), *tensor, p.shape));
  const std::string scales_name = p.tensor() + "_scale_inv";
  const TensorView* scales = checkpoint.FindPublished(scales_name);
  if (scales == nullptr) {
    return InvalidArgument("{}: tensor {} is stored as fp8, but its scales {} are missing", checkpoint.path(),
                           p.tensor(), scales_name);
  }
  const Packing whole = PackingOf(WeightFormat::kFp8Block, {0, p.shape[0]}, {0, p.shape[1]});
  ATOLL_RETURN_IF_ERROR(
      checkpoint.CheckShape(scales_name, *scales, {whole.scale_rows.size(), whole.scale_columns.size()}));
  if (!IsPlain(scales->dtype)) {
    return InvalidArgument("{}: the scales {} are {}; they must be f32, f16 or bf16", checkpoint.path(), scales_name,
                           Name(scales->dtype));
  }
  StoredTensor stored;
  stored.format = WeightFormat::kFp8Block;
  stored.data = tensor->data;
  stored.row_bytes = p.shape[1];
  stored.column_bytes = 1;
  stored.scales = scales->data;
  stored.scale_type = scales->dtype;
  stored.scale_row_bytes = whole.scale_columns.size() * SizeOf(scales->dtype);
  stored.tensor = tensor;
  stored.beside = 1;
  return stored;
}

}  // namespace atl::models
