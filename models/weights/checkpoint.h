// A checkpoint's tensors by name, whatever its files: one safetensors file, shards with an index, or GGUF.
//
//   ATOLL_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(model_directory));   // headers only
//   const TensorView* t = checkpoint.Find("model.norm.weight");                          // mmapped, nothing read yet
//
// Only the pages of slices that are copied are ever read. A file that is truncated or lies (offsets out of range or
// overlapping, sizes that do not match shape and type, duplicate names, a missing shard) is refused in one sentence.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/spec/parameters.h"
#include "parallel/base/dtype.h"
#include "parallel/base/status.h"

namespace atl::models {

struct TensorView {
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;  // row-major, in the mapped file
  int64_t bytes = 0;
};

class MappedFile;  // models/weights/mapped_file.h
class Gguf;        // models/weights/formats/gguf.h

class Checkpoint {
 public:
  static absl::StatusOr<Checkpoint> Open(const std::string& directory_or_file);
  const TensorView* Find(const std::string& name) const;
  // Under one of its PublishedNames.
  const TensorView* FindPublished(const std::string& tensor) const;
  // InvalidArgument with the name, its shape in the file and the shape that config.json asks for, if they differ.
  absl::Status CheckShape(const std::string& name, const TensorView& tensor, const std::vector<int64_t>& shape) const;
  std::string path() const;  // of its first file, for messages
  int64_t num_tensors() const;
  const Gguf* gguf() const { return gguf_.get(); }  // null: safetensors
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

 private:
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::shared_ptr<const Gguf> gguf_;
  std::map<std::string, TensorView> tensors_;
};

// Whether a directory has safetensors weights: model.safetensors or its index.
bool HoldsSafetensors(const std::string& directory);

// Writes one safetensors file (`atoll score`'s output, tests' inputs).
struct TensorToWrite {
  std::string name;
  TensorView tensor;
};
absl::Status WriteSafetensors(const std::string& path, const std::vector<TensorToWrite>& tensors);

}  // namespace atl::models
