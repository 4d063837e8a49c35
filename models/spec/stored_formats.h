// Which format each matrix of a checkpoint is stored in. config.json alone says it well enough for a plan; the headers
// of the files, where they are there, have the last word.
//
//   ATOLL_ASSIGN_OR_RETURN(spec.formats, StoredFormats::FromConfig(config));   // torch_dtype, quantization_config
//   spec.formats.SetAll({{"model.layers.0.mlp.gate_proj.weight", WeightFormat::kF16}, ...});
//   Parameters(spec)[i].format                               // vectors are always f32 in memory
//
// Quantised checkpoints: "fp8" in blocks of 128 x 128 (every Linear but the head and the routers, less
// modules_to_not_convert), "compressed-tensors" pack-quantized 4 bits in groups of 32 (its targets, less what `ignore`
// names or matches). Anything else is refused with the key and what would be accepted.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "models/spec/weight_format.h"
#include "parallel/base/status.h"

namespace atl::models {

enum class ParameterKind : uint8_t;  // models/spec/parameters.h
class NamePatterns;                  // models/spec/name_patterns.h

class StoredFormats {
 public:
  static absl::StatusOr<StoredFormats> FromConfig(const nlohmann::json& config);

  // What the files' headers say: the format of each matrix by its parameter's name, in place of config.json's rule.
  void SetAll(std::map<std::string, WeightFormat> formats);
  WeightFormat Of(const std::string& parameter, ParameterKind kind) const;

 private:
  absl::Status ReadFp8(const nlohmann::json& quantization);
  absl::Status ReadPackQuantized(const nlohmann::json& quantization);
  bool IsQuantized(const std::string& parameter, ParameterKind kind) const;

  WeightFormat plain_ = WeightFormat::kBF16;
  WeightFormat quantized_ = WeightFormat::kBF16;  // of the layers' products, if it differs from plain_
  std::shared_ptr<const NamePatterns> targets_;   // null: all
  std::shared_ptr<const NamePatterns> except_;
  bool head_too_ = false;
  std::shared_ptr<const std::map<std::string, WeightFormat>> from_headers_;
};

}  // namespace atl::models
