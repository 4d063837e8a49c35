// Who belongs to one epoch, how far each rank is, and whether all are alive. Pure state: time is passed in.
//
//   Membership members(epoch, rules, now);
//   ATOLL_RETURN_IF_ERROR(members.Register(report, now));    // refused: says why; the epoch is not touched
//   members.Heard(rank, now);                                // at every message of a rank
//   if (members.AllRegistered()) ... assign; if (members.AllReady()) ... start
//   absl::Status alive = members.Check(now);                 // not OK: why the epoch must end
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "atoll/v1/control.pb.h"
#include "parallel/base/deadline.h"
#include "parallel/base/status.h"

namespace atl::coordinator {

struct MembershipRules {
  int world = 1;
  std::string launch_id;  // empty: ranks started by others
  Seconds silence_timeout{5};
  Seconds register_timeout{60};  // from the launch until all have registered; not of ranks started by others
  Seconds start_timeout{600};    // from the launch, or from the first rank that others started, until all are ready
};

struct Member {
  v1::Register registration;
  bool registered = false;
  bool ready = false;
  int64_t bytes_done = 0, bytes_total = 0;
  std::map<std::string, int64_t> bytes;  // resident, by kind, once ready
  uint64_t step = 0;
  std::string phase;
  SteadyTime heard;
};

class Membership {
 public:
  Membership(uint64_t epoch, MembershipRules rules, SteadyTime now);

  absl::Status Register(const v1::Register& registration, SteadyTime now);
  void Heard(int rank, SteadyTime now) { members_[rank].heard = now; }
  void Progress(int rank, const v1::Progress& progress);
  void Ready(int rank, const v1::Ready& ready);
  void Heartbeat(int rank, const v1::Heartbeat& heartbeat);

  bool AllRegistered() const { return registered_ == rules_.world; }
  bool AllReady() const { return ready_ == rules_.world; }
  absl::Status Check(SteadyTime now) const;

  uint64_t epoch() const { return epoch_; }
  int registered() const { return registered_; }
  const std::vector<Member>& members() const { return members_; }  // by rank

 private:
  const uint64_t epoch_;
  const MembershipRules rules_;
  std::vector<Member> members_;
  SteadyTime started_;  // when start_timeout began to run
  int registered_ = 0;
  int ready_ = 0;
};

}  // namespace atl::coordinator
