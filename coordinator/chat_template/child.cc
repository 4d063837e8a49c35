#include "coordinator/chat_template/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace atl::coordinator {
namespace {

constexpr size_t kMaxAnswer = 64 << 20;

// Waits for `events` on the socket; false when the deadline has passed.
bool WaitFor(int socket, short events, Deadline deadline) {
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline.at - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd entry{socket, events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::min<int64_t>(left.count() + 1, 1000)));
    if (ready > 0) return true;
  }
}

}  // namespace

absl::Status LineChild::Start() {
  if (pid_ > 0) return absl::OkStatus();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return Unavailable("no socket for {}: {}", command_[0], std::strerror(errno));
  }
  std::vector<char*> arguments;
  for (std::string& word : command_) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {  // only async-signal-safe calls from here to exec
    dup2(ends[1], 0);
    dup2(ends[1], 1);
    close_range(3, ~0u, 0);
    setpgid(0, 0);  // a Ctrl-C in the terminal is not for it
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return Unavailable("{} cannot be started: {}", command_[0], std::strerror(errno));
  }
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  pid_ = pid;
  socket_ = ends[0];
  ATOLL_ASSIGN_OR_RETURN(const std::string ready, ReadLine(Deadline::After(starting_)));
  if (!ready.empty()) return Unavailable("{} says \"{:.80}\" in place of an empty line", command_[0], ready);
  return absl::OkStatus();
}

void LineChild::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  close(socket_);
  pid_ = socket_ = -1;
}

absl::Status LineChild::Ended() const {
  return Unavailable("{} ended without an answer; is it installed, with all it imports?", command_[0]);
}

absl::Status LineChild::Write(const std::string& text, Deadline deadline) {
  for (size_t at = 0; at < text.size();) {
    if (!WaitFor(socket_, POLLOUT, deadline)) return DeadlineExceeded("it takes no input");
    const ssize_t sent = send(socket_, text.data() + at, text.size() - at, MSG_NOSIGNAL);
    if (sent > 0) at += sent;
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return Ended();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> LineChild::ReadLine(Deadline deadline) {
  std::string answer;
  char buffer[65536];
  while (true) {
    if (!WaitFor(socket_, POLLIN, deadline)) return DeadlineExceeded("no answer");
    const ssize_t got = recv(socket_, buffer, sizeof(buffer), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got <= 0) return Ended();
    answer.append(buffer, got);
    if (answer.back() == '\n') {
      answer.pop_back();
      return answer;
    }
    if (answer.size() > kMaxAnswer) return ResourceExhausted("the answer is over {} bytes", kMaxAnswer);
  }
}

absl::StatusOr<std::string> LineChild::Answer(const std::string& line, Seconds patience) {
  ATOLL_RETURN_IF_ERROR(Start());
  const Deadline deadline = Deadline::After(patience);
  ATOLL_RETURN_IF_ERROR(Write(line + "\n", deadline));
  return ReadLine(deadline);
}

absl::StatusOr<std::string> LineChild::Ask(const std::string& line, Seconds patience) {
  while (true) {
    const bool fresh = pid_ <= 0;
    absl::StatusOr<std::string> answer = Answer(line, patience);
    if (answer.ok()) return answer;
    Kill();
    // One that ended between two questions is no fault of this one.
    if (fresh || answer.status().code() != absl::StatusCode::kUnavailable) return answer;
  }
}

}  // namespace atl::coordinator
