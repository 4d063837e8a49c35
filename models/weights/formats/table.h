// The ways in which a checkpoint may store a parameter, by what its tensors are called and typed. To add one: a file in
// this folder with its function, declared here, and its line in table.cc.
#pragma once

#include <optional>

#include "models/spec/parameters.h"
#include "models/weights/checkpoint.h"
#include "models/weights/stored_tensor.h"

namespace atl::models {

// The parameter, found in the checkpoint; nullopt if this format does not store it; an error if it does, but wrongly.
using StoredIn = absl::StatusOr<std::optional<StoredTensor>> (*)(const Checkpoint& checkpoint, const Parameter& p);

absl::StatusOr<std::optional<StoredTensor>> InGguf(const Checkpoint& checkpoint, const Parameter& p);
absl::StatusOr<std::optional<StoredTensor>> InPlain(const Checkpoint& checkpoint, const Parameter& p);
absl::StatusOr<std::optional<StoredTensor>> InFp8Blocks(const Checkpoint& checkpoint, const Parameter& p);
absl::StatusOr<std::optional<StoredTensor>> InPackQuantized(const Checkpoint& checkpoint, const Parameter& p);

// In the first format that has it; NotFound if none does.
absl::StatusOr<StoredTensor> FindStored(const Checkpoint& checkpoint, const Parameter& p);

}  // namespace atl::models
