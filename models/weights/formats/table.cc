#include "models/weights/formats/table.h"

namespace atl::models {
namespace {

constexpr StoredIn kFormats[] = {
    InGguf,
    InFp8Blocks,
    InPackQuantized,
    InPlain,
};

}  // namespace

absl::StatusOr<StoredTensor> FindStored(const Checkpoint& checkpoint, const Parameter& p) {
  for (const StoredIn stored_in : kFormats) {
    ATOLL_ASSIGN_OR_RETURN(const std::optional<StoredTensor> found, stored_in(checkpoint, p));
    if (found) return *found;
  }
  return NotFound("{} has no tensor {}, which config.json asks for", checkpoint.path(), p.tensor());
}

}  // namespace atl::models
