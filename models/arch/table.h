// Architectures by the name that ModelSpec::architecture holds. One line each in table.cc.
#pragma once

#include <memory>

#include "models/runtime.h"

namespace atl::models {

using ArchitectureFactory = std::unique_ptr<Model> (*)(Runtime runtime);

absl::StatusOr<ArchitectureFactory> FindArchitecture(const std::string& name);

// NAME.cc each.
std::unique_ptr<Model> MakeDeepseekV3(Runtime runtime);
std::unique_ptr<Model> MakeGemma3(Runtime runtime);
std::unique_ptr<Model> MakeGemma3n(Runtime runtime);
std::unique_ptr<Model> MakeGpt2(Runtime runtime);
std::unique_ptr<Model> MakeLlama(Runtime runtime);
std::unique_ptr<Model> MakeLlama4(Runtime runtime);
std::unique_ptr<Model> MakeOlmo2(Runtime runtime);
std::unique_ptr<Model> MakeQwen3Moe(Runtime runtime);

}  // namespace atl::models
