// A point in time after which a wait must end with an error. Nobody waits for ever, so there is no infinite one.
#pragma once

#include <chrono>

namespace atl {

using SteadyTime = std::chrono::steady_clock::time_point;
using Seconds = std::chrono::duration<double>;

struct Deadline {
  SteadyTime at;
  Seconds budget;  // what it was made with, for the error's text

  static Deadline After(Seconds budget) {
    return {std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(budget),
            budget};
  }
  bool Expired() const { return std::chrono::steady_clock::now() >= at; }
};

}  // namespace atl
