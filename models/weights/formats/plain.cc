// Elements of f32, f16 or bf16: a tensor of the parameter's name, or a strided part of a tensor.
#include "models/weights/formats/table.h"

namespace atl::models {

absl::StatusOr<std::optional<StoredTensor>> InPlain(const Checkpoint& checkpoint, const Parameter& p) {
  const TensorView* tensor = checkpoint.FindPublished(p.tensor());
  if (tensor == nullptr) return std::nullopt;
  ATOLL_RETURN_IF_ERROR(checkpoint.CheckShape(p.tensor(), *tensor, p.part ? p.part->shape : p.shape));
  if (!IsPlain(tensor->dtype)) {
    return InvalidArgument("{}: tensor {} is stored as {}; f32, f16 or bf16 can be read", checkpoint.path(), p.tensor(),
                           Name(tensor->dtype));
  }
  const int64_t size = SizeOf(tensor->dtype);
  StoredTensor stored;
  stored.format = PlainFormat(tensor->dtype);
  stored.data = tensor->data;
  stored.row_bytes = p.shape.size() > 1 ? p.shape[1] * size : size;
  stored.column_bytes = size;
  stored.tensor = tensor;
  if (p.part) {
    stored.data += p.part->offset * size;
    stored.row_bytes = p.part->row_stride * size;
    stored.column_bytes = p.part->column_stride * size;
  }
  return stored;
}

}  // namespace atl::models
