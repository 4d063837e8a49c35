#include "models/weights/read_model.h"

#include <filesystem>

#include "models/weights/formats/gguf.h"
#include "models/weights/formats/table.h"
#include "models/weights/gguf_spec.h"

namespace atl::models {

absl::StatusOr<ModelSpec> ReadDescription(const std::string& path) {
  // A directory may hold a GGUF file and the config.json of the model that it was made from: the file's own metadata
  // says how its tensors are to be read.
  std::string gguf = IsGgufFile(path) ? path : "";
  if (std::filesystem::is_directory(path) && !HoldsSafetensors(path)) {
    ATOLL_ASSIGN_OR_RETURN(const std::optional<std::string> found, GgufInDirectory(path));
    gguf = found.value_or("");
  }
  if (gguf.empty()) return ReadModelSpec(path);
  ATOLL_ASSIGN_OR_RETURN(const std::shared_ptr<const Gguf> file, Gguf::Open(gguf));
  return GgufModelSpec(*file);
}

absl::StatusOr<ModelSpec> ReadModel(const std::string& path) {
  ATOLL_ASSIGN_OR_RETURN(ModelSpec spec, ReadDescription(path));
  if (!std::filesystem::is_directory(path) && !IsGgufFile(path)) return spec;
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(path);
  if (checkpoint.status().code() == absl::StatusCode::kNotFound) return spec;
  ATOLL_RETURN_IF_ERROR(checkpoint.status());
  ATOLL_RETURN_IF_ERROR(AddStoredFormats(*checkpoint, &spec).status());
  return spec;
}

absl::StatusOr<StoredWeights> AddStoredFormats(const Checkpoint& checkpoint, ModelSpec* spec) {
  StoredWeights all;
  std::map<const void*, int> tensors;  // several parameters may be parts of one
  std::map<std::string, WeightFormat> formats;
  for (const Parameter& p : Parameters(*spec)) {
    ATOLL_ASSIGN_OR_RETURN(const StoredTensor stored, FindStored(checkpoint, p));
    const WeightFormat format = stored.format;
    const int64_t columns = p.shape.size() > 1 ? p.shape[1] : 1;
    tensors[stored.tensor] = stored.beside;
    all.bytes += PackingOf(format, {0, p.shape[0]}, {0, columns}).bytes;
    if (p.shape.size() == 1) continue;
    formats[p.name] = format;
    all.formats.insert(Name(format));
  }
  all.tensors = static_cast<int64_t>(tensors.size());
  all.unused = checkpoint.num_tensors() - all.tensors;
  for (const auto& [tensor, beside] : tensors) all.unused -= beside;
  spec->formats.SetAll(std::move(formats));
  return all;
}

}  // namespace atl::models
