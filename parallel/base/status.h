// Errors of every folder: absl::Status for what can go wrong outside (files, flags, requests, peers),
// ATOLL_CHECK for a broken invariant of our own, which ends the process with the numbers.
//
//   absl::StatusOr<int> Parse(const std::string& s) {
//     if (s.empty()) return InvalidArgument("--tp is empty; give 1, 2, 4 or 8");
//     ATOLL_ASSIGN_OR_RETURN(const File file, Open(s));
//     ATOLL_RETURN_IF_ERROR(file.Check());
//     ...
//
// A message says what was wrong, with the numbers, and what to do about it.
// The namespace is atl because the C library owns ::atoll, a function.
// Debian's Abseil has its own string_view: use ToString(status.message()) to get a std::string.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace atl {

inline std::string ToString(absl::string_view s) { return std::string(s.data(), s.size()); }

template <typename... Args>
absl::Status MakeStatus(absl::StatusCode code, fmt::format_string<Args...> format, Args&&... args) {
  return absl::Status(code, fmt::format(format, std::forward<Args>(args)...));
}

#define ATOLL_DEFINE_STATUS(Name)                                                      \
  template <typename... Args>                                                          \
  absl::Status Name(fmt::format_string<Args...> format, Args&&... args) {              \
    return MakeStatus(absl::StatusCode::k##Name, format, std::forward<Args>(args)...); \
  }
ATOLL_DEFINE_STATUS(InvalidArgument)
ATOLL_DEFINE_STATUS(NotFound)
ATOLL_DEFINE_STATUS(FailedPrecondition)
ATOLL_DEFINE_STATUS(ResourceExhausted)
ATOLL_DEFINE_STATUS(DeadlineExceeded)
ATOLL_DEFINE_STATUS(Unavailable)
ATOLL_DEFINE_STATUS(Unimplemented)
ATOLL_DEFINE_STATUS(Aborted)
ATOLL_DEFINE_STATUS(Cancelled)
ATOLL_DEFINE_STATUS(DataLoss)
ATOLL_DEFINE_STATUS(Internal)
#undef ATOLL_DEFINE_STATUS

// The same error with "context: " before its message.
inline absl::Status Annotate(const absl::Status& status, const std::string& context) {
  if (status.ok()) return status;
  return absl::Status(status.code(), context + ": " + ToString(status.message()));
}

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition, const std::string& message) {
  std::fprintf(stderr, "%s:%d: broken invariant (%s): %s\n", file, line, condition, message.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace atl

#define ATOLL_CONCAT_INNER(a, b) a##b
#define ATOLL_CONCAT(a, b) ATOLL_CONCAT_INNER(a, b)

#define ATOLL_RETURN_IF_ERROR(expression)                               \
  do {                                                                  \
    if (absl::Status atoll_status = (expression); !atoll_status.ok()) { \
      return atoll_status;                                              \
    }                                                                   \
  } while (false)

// NOLINTBEGIN(bugprone-macro-parentheses): lhs may be a declaration
#define ATOLL_ASSIGN_OR_RETURN(lhs, expression) \
  ATOLL_ASSIGN_OR_RETURN_IMPL(ATOLL_CONCAT(atoll_result_, __LINE__), lhs, expression)
#define ATOLL_ASSIGN_OR_RETURN_IMPL(result, lhs, expression) \
  auto result = (expression);                                \
  if (!result.ok()) return result.status();                  \
  lhs = std::move(result).value()
// NOLINTEND(bugprone-macro-parentheses)

#define ATOLL_CHECK(condition, ...)                                                   \
  do {                                                                                \
    if (!(condition)) {                                                               \
      ::atl::CheckFailed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
    }                                                                                 \
  } while (false)
