// Where the time of one step goes: a clock that layers tell what comes next, and what products read and do. Reading the
// clock takes some ten nanoseconds, so it is always on.
//
//   costs.Begin();
//   costs.Enter(Phase::kAttention); ... costs.Enter(Phase::kOther); ...
//   costs.End();
//   costs.seconds[static_cast<size_t>(Phase::kAttention)]
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace atl::models {

enum class Phase : uint8_t { kOther, kAttention, kRouter, kDispatch, kExperts, kCombine, kMlp, kHead };
inline constexpr size_t kPhases = 8;

class StepCosts {
 public:
  // NOLINTBEGIN(misc-non-private-member-variables-in-classes): sums to read; only the clock is its own to know
  std::array<double, kPhases> seconds{};
  int64_t weight_bytes = 0;  // each matrix once for each pass over it
  int64_t operations = 0;    // two a multiply-add
  // NOLINTEND(misc-non-private-member-variables-in-classes)

  void Begin() {
    *this = {};
    since_ = Clock::now();
  }
  void Enter(Phase phase) {
    const Clock::time_point now = Clock::now();
    seconds[static_cast<size_t>(phase_)] += std::chrono::duration<double>(now - since_).count();
    phase_ = phase;
    since_ = now;
  }
  void End() { Enter(Phase::kOther); }
  // A product with `rows` rows of a matrix of so many elements and bytes.
  void AddProduct(int64_t rows, int64_t elements, int64_t bytes) {
    weight_bytes += bytes;
    operations += 2 * rows * elements;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Phase phase_ = Phase::kOther;
  Clock::time_point since_;
};

}  // namespace atl::models
