// What a client is told: one table of statuses for both front ends, a field and a code that survive on the way.
#include "coordinator/api/errors.h"

#include <gtest/gtest.h>

#include "coordinator/api/http/openai.h"

namespace atl::coordinator {
namespace {

struct Row {
  absl::Status status;
  int http;
  grpc::StatusCode grpc;
  const char* type;
};

TEST(Errors, OneTableForBothFrontEnds) {
  const Row rows[] = {
      {InvalidArgument("x"), 400, grpc::StatusCode::INVALID_ARGUMENT, "invalid_request_error"},
      {NotFound("x"), 404, grpc::StatusCode::NOT_FOUND, "not_found_error"},
      {ResourceExhausted("x"), 429, grpc::StatusCode::RESOURCE_EXHAUSTED, "rate_limit_error"},
      {Unimplemented("x"), 501, grpc::StatusCode::UNIMPLEMENTED, "server_error"},
      {Unavailable("x"), 503, grpc::StatusCode::UNAVAILABLE, "unavailable_error"},
      {DeadlineExceeded("x"), 504, grpc::StatusCode::DEADLINE_EXCEEDED, "server_error"},
      {Internal("x"), 500, grpc::StatusCode::INTERNAL, "server_error"},
      {DataLoss("x"), 500, grpc::StatusCode::DATA_LOSS, "server_error"},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(HttpStatus(row.status.code()), row.http) << row.status;
    EXPECT_EQ(ToGrpc(row.status).error_code(), row.grpc) << row.status;
    EXPECT_EQ(ToGrpc(row.status).error_message(), "x");
    EXPECT_EQ(ErrorBody(row.http, row.status)["error"]["type"], row.type) << row.status;
  }
}

TEST(Errors, FieldAndCodeTravelWithTheStatus) {
  const auto through = [](const absl::Status& status) -> absl::Status {
    ATOLL_RETURN_IF_ERROR(status);
    return absl::OkStatus();
  };
  const absl::Status status = through(WithCode(InvalidArgument("too long"), "context_length_exceeded", "messages"));
  EXPECT_EQ(CodeOf(status), "context_length_exceeded");
  EXPECT_EQ(FieldOf(status), "messages");
  EXPECT_EQ(Dump(ErrorBody(400, status)),
            R"({"error":{"message":"too long","type":"invalid_request_error","param":"messages",)"
            R"("code":"context_length_exceeded"}})");
  EXPECT_EQ(Dump(ErrorBody(400, BadField("n", "n is {}", 3))),
            R"({"error":{"message":"n is 3","type":"invalid_request_error","param":"n","code":null}})");
  EXPECT_EQ(Dump(ErrorBody(500, Internal("\xff"))),
            "{\"error\":{\"message\":\"\uFFFD\",\"type\":\"server_error\",\"param\":null,\"code\":null}}");
}

}  // namespace
}  // namespace atl::coordinator
