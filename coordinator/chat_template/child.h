// A child process that answers a line with a line; killed when an answer does not come in time, started at the first
// question and again at the first one that finds it gone. It says an empty line when it is ready: what it takes to
// start is not held against the question. It inherits no file but stderr, and its standard input ends with this
// process.
//
//   LineChild child({"/usr/bin/python3", "-I", "-c", program});
//   ATOLL_ASSIGN_OR_RETURN(std::string answer, child.Ask(question, Seconds(5)));
#pragma once

#include <string>
#include <vector>

#include "parallel/base/deadline.h"
#include "parallel/base/status.h"

namespace atl::coordinator {

class LineChild {
 public:
  // starting: how long it may take until it is ready.
  explicit LineChild(std::vector<std::string> command, Seconds starting = Seconds(60))
      : command_(std::move(command)), starting_(starting) {}
  ~LineChild() { Kill(); }
  LineChild(const LineChild&) = delete;
  LineChild& operator=(const LineChild&) = delete;

  // `line` holds no newline; `patience` is counted from when the child is ready. DeadlineExceeded, or Unavailable when
  // the child cannot start or ends.
  absl::StatusOr<std::string> Ask(const std::string& line, Seconds patience);

 private:
  absl::Status Start();
  absl::StatusOr<std::string> Answer(const std::string& line, Seconds patience);
  absl::Status Ended() const;
  absl::Status Write(const std::string& text, Deadline deadline);
  absl::StatusOr<std::string> ReadLine(Deadline deadline);
  void Kill();

  std::vector<std::string> command_;
  const Seconds starting_;
  int pid_ = -1;
  int socket_ = -1;
};

}  // namespace atl::coordinator
