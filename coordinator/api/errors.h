// What a client is told when something is wrong. The one table of statuses stands here: what the client's program
// should do next decides the code; both front ends read it.
//
//   return BadField("temperature", "temperature is {}; it must be from 0 to 100", t);   // InvalidArgument
//   return WithCode(NotFound("model \"{}\" is not served here", name), "model_not_found", "model");
//   HttpStatus(status.code()), FieldOf(status), CodeOf(status);  ToGrpc(status)
#pragma once

#include <grpcpp/support/status.h>

#include <string>
#include <utility>

#include "parallel/base/status.h"

namespace atl::coordinator {

// The same error with a short name that programs compare ("context_length_exceeded") and the request's field that is to
// blame; either may be empty.
absl::Status WithCode(absl::Status status, const std::string& code, const std::string& field);
std::string CodeOf(const absl::Status& status);
std::string FieldOf(const absl::Status& status);

template <typename... Args>
absl::Status BadField(const std::string& field, fmt::format_string<Args...> format, Args&&... args) {
  return WithCode(InvalidArgument(format, std::forward<Args>(args)...), "", field);
}

int HttpStatus(absl::StatusCode code);
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace atl::coordinator
