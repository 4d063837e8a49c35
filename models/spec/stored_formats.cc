#include "models/spec/stored_formats.h"

#include <nlohmann/json.hpp>

#include "models/spec/config_reader.h"
#include "models/spec/name_patterns.h"
#include "models/spec/parameters.h"
#include "parallel/base/shown.h"

namespace atl::models {
namespace {

constexpr const char* kWhere = "config.json: quantization_config";
constexpr size_t kMaxNames = 1 << 20;

// A list of strings under `key`; empty where it is absent.
absl::StatusOr<std::vector<std::string>> Names(const nlohmann::json& object, const char* key) {
  std::vector<std::string> names;
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return names;
  const auto bad = [&] { return InvalidArgument("{}: {} must be a list of module names", kWhere, key); };
  if (!found->is_array() || found->size() > kMaxNames) return bad();
  for (const nlohmann::json& name : *found) {
    if (!name.is_string()) return bad();
    names.push_back(name.get<std::string>());
  }
  return names;
}

absl::StatusOr<std::shared_ptr<const NamePatterns>> Patterns(const nlohmann::json& object, const char* key) {
  ATOLL_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names(object, key));
  ATOLL_ASSIGN_OR_RETURN(NamePatterns patterns, NamePatterns::Compile(names, fmt::format("{}: {}", kWhere, key)));
  return std::make_shared<const NamePatterns>(std::move(patterns));
}

}  // namespace

absl::StatusOr<StoredFormats> StoredFormats::FromConfig(const nlohmann::json& config) {
  ConfigReader read(config, "config.json");
  const std::string type = read.Text("torch_dtype", read.Text("dtype", "bfloat16"));
  ATOLL_RETURN_IF_ERROR(read.status());
  StoredFormats formats;
  if (type == "bfloat16") {
    formats.plain_ = WeightFormat::kBF16;
  } else if (type == "float16") {
    formats.plain_ = WeightFormat::kF16;
  } else if (type == "float32") {
    formats.plain_ = WeightFormat::kF32;
  } else {
    return InvalidArgument("config.json: torch_dtype is {}; it must be bfloat16, float16 or float32", Shown(type));
  }
  formats.quantized_ = formats.plain_;
  const nlohmann::json* quantization = read.Object("quantization_config");
  ATOLL_RETURN_IF_ERROR(read.status());
  if (quantization == nullptr) return formats;
  ConfigReader inner(*quantization, kWhere);
  const std::string method = inner.Text("quant_method");
  ATOLL_RETURN_IF_ERROR(inner.status());
  if (method == "fp8") {
    ATOLL_RETURN_IF_ERROR(formats.ReadFp8(*quantization));
  } else if (method == "compressed-tensors") {
    ATOLL_RETURN_IF_ERROR(formats.ReadPackQuantized(*quantization));
  } else {
    return InvalidArgument("{}: quant_method {} is not supported; fp8 and compressed-tensors are", kWhere,
                           Shown(method));
  }
  return formats;
}

absl::Status StoredFormats::ReadFp8(const nlohmann::json& quantization) {
  ConfigReader read(quantization, kWhere);
  read.Require("fmt", "e4m3");
  if (!read.Has("weight_block_size")) {
    read.Fail(InvalidArgument("{}: weight_block_size is missing; fp8 is supported in blocks of 128 x 128", kWhere));
  }
  read.Require("weight_block_size", {128, 128});
  ATOLL_RETURN_IF_ERROR(read.status());
  ATOLL_ASSIGN_OR_RETURN(except_, Patterns(quantization, "modules_to_not_convert"));
  quantized_ = WeightFormat::kFp8Block;
  return absl::OkStatus();
}

absl::Status StoredFormats::ReadPackQuantized(const nlohmann::json& quantization) {
  ConfigReader read(quantization, kWhere);
  read.Require("format", "pack-quantized");
  const nlohmann::json* groups = read.Object("config_groups");
  ATOLL_RETURN_IF_ERROR(read.status());
  if (groups == nullptr || groups->size() != 1) {
    return InvalidArgument("{}: config_groups must be one group; {} are there", kWhere,
                           groups == nullptr ? 0 : groups->size());
  }
  const nlohmann::json& group = groups->front();
  if (!group.is_object()) return InvalidArgument("{}: config_groups must hold an object", kWhere);
  ConfigReader of_group(group, kWhere);
  const nlohmann::json* weights = of_group.Object("weights");
  of_group.Require("input_activations", nullptr);
  ATOLL_RETURN_IF_ERROR(of_group.status());
  if (weights == nullptr) return InvalidArgument("{}: config_groups has no weights", kWhere);
  ConfigReader of_weights(*weights, std::string(kWhere) + ": weights");
  of_weights.Require("num_bits", 4);
  of_weights.Require("type", "int");
  of_weights.Require("symmetric", true);
  of_weights.Require("strategy", "group");
  of_weights.Require("group_size", 32);
  of_weights.Require("actorder", nullptr);
  ATOLL_RETURN_IF_ERROR(of_weights.status());

  ATOLL_ASSIGN_OR_RETURN(const std::vector<std::string> targets, Names(group, "targets"));
  if (std::find(targets.begin(), targets.end(), "Linear") == targets.end()) {
    ATOLL_ASSIGN_OR_RETURN(targets_, Patterns(group, "targets"));
  }
  ATOLL_ASSIGN_OR_RETURN(except_, Patterns(quantization, "ignore"));
  head_too_ = true;
  quantized_ = plain_ == WeightFormat::kBF16  ? WeightFormat::kInt4BF16
               : plain_ == WeightFormat::kF16 ? WeightFormat::kInt4F16
                                              : WeightFormat::kInt4F32;
  return absl::OkStatus();
}

void StoredFormats::SetAll(std::map<std::string, WeightFormat> formats) {
  from_headers_ = std::make_shared<const std::map<std::string, WeightFormat>>(std::move(formats));
}

WeightFormat StoredFormats::Of(const std::string& parameter, ParameterKind kind) const {
  if (from_headers_) {
    const auto found = from_headers_->find(parameter);
    if (found != from_headers_->end()) return found->second;
  }
  return quantized_ != plain_ && IsQuantized(parameter, kind) ? quantized_ : plain_;
}

bool StoredFormats::IsQuantized(const std::string& parameter, ParameterKind kind) const {
  constexpr std::string_view kWeight = ".weight";
  const bool product = kind == ParameterKind::kAttention || kind == ParameterKind::kDense ||
                       kind == ParameterKind::kSharedExpert || kind == ParameterKind::kRoutedExpert ||
                       (kind == ParameterKind::kHead && head_too_);
  if (!product || !parameter.ends_with(kWeight)) return false;
  bool targeted = targets_ == nullptr;
  for (const std::string& name : PublishedNames(parameter.substr(0, parameter.size() - kWeight.size()))) {
    if (except_->Match(name)) return false;
    targeted = targeted || targets_->Match(name);
  }
  return targeted;
}

}  // namespace atl::models
