// Signals as something to wait for: a handler could do nothing of what is needed.
//
//   Signals signals({SIGTERM, SIGINT});        // before any thread is made: threads inherit that they are blocked
//   int signal = signals.Wait(std::chrono::milliseconds(50));     // its number, or 0 if none came within the time
//   poll signals.fd() along with other files
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <chrono>
#include <initializer_list>

namespace atl::coordinator {

class Signals {
 public:
  Signals(std::initializer_list<int> signals) {
    sigemptyset(&set_);
    for (const int signal : signals) sigaddset(&set_, signal);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    fd_ = signalfd(-1, &set_, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~Signals() { close(fd_); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int Wait(std::chrono::milliseconds time) {
    pollfd entry{fd_, POLLIN, 0};
    signalfd_siginfo info;
    if (poll(&entry, 1, static_cast<int>(time.count())) <= 0 || read(fd_, &info, sizeof(info)) != sizeof(info)) {
      return 0;
    }
    return static_cast<int>(info.ssi_signo);
  }
  int fd() const { return fd_; }

 private:
  sigset_t set_;
  int fd_;
};

}  // namespace atl::coordinator
