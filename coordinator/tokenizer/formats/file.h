// Whole files, gzipped or not.
#pragma once

#include <string>

#include "parallel/base/status.h"

namespace atl::coordinator {

// Inflates what begins like gzip. NotFound: it cannot be opened. InvalidArgument: broken or over 1 GiB.
absl::StatusOr<std::string> ReadMaybeGzipped(const std::string& path);
absl::StatusOr<std::string> Inflate(const std::string& gzipped);

}  // namespace atl::coordinator
