#include "coordinator/api/errors.h"

#include "absl/strings/cord.h"

namespace atl::coordinator {
namespace {

constexpr char kCode[] = "atoll/code", kField[] = "atoll/field";

std::string Payload(const absl::Status& status, const char* kind) {
  const auto payload = status.GetPayload(kind);
  return payload.has_value() ? static_cast<std::string>(*payload) : "";
}

}  // namespace

absl::Status WithCode(absl::Status status, const std::string& code, const std::string& field) {
  if (!code.empty()) status.SetPayload(kCode, absl::Cord(code));
  if (!field.empty()) status.SetPayload(kField, absl::Cord(field));
  return status;
}

std::string CodeOf(const absl::Status& status) { return Payload(status, kCode); }
std::string FieldOf(const absl::Status& status) { return Payload(status, kField); }

int HttpStatus(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
      return 400;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), ToString(status.message()));
}

}  // namespace atl::coordinator
