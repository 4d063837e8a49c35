#include "coordinator/cluster/membership.h"

namespace atl::coordinator {

Membership::Membership(uint64_t epoch, MembershipRules rules, SteadyTime now)
    : epoch_(epoch), rules_(std::move(rules)), members_(rules_.world), started_(now) {}

absl::Status Membership::Register(const v1::Register& r, SteadyTime now) {
  if (r.launch_id() != rules_.launch_id) {
    return Aborted("rank {} of launch \"{}\" came too late or to the wrong place: this is launch \"{}\"", r.rank(),
                   r.launch_id(), rules_.launch_id);
  }
  if (r.world() != rules_.world) {
    return FailedPrecondition("{} ranks were started, this coordinator wants {}; start {} or say --ranks {}", r.world(),
                              rules_.world, rules_.world, r.world());
  }
  if (r.rank() < 0 || r.rank() >= rules_.world) {
    return InvalidArgument("rank {} of a world of {} ranks", r.rank(), rules_.world);
  }
  Member& member = members_[r.rank()];
  if (member.registered) {
    return FailedPrecondition("rank {} has registered already, from {} (process {})", r.rank(),
                              member.registration.host(), member.registration.pid());
  }
  // One instruction set, one version: a mixture could round differently (law 1).
  for (const Member& other : members_) {
    if (!other.registered) continue;
    const v1::Register& first = other.registration;
    if (first.kernel_target() != r.kernel_target() || first.version() != r.version() ||
        first.transport() != r.transport()) {
      return FailedPrecondition(
          "rank {} on {} runs version {} with {} kernels over {}, rank {} on {} version {} with {} over {}: all ranks "
          "must be the same",
          r.rank(), r.host(), r.version(), r.kernel_target(), r.transport(), first.rank(), first.host(),
          first.version(), first.kernel_target(), first.transport());
    }
    break;
  }
  if (registered_ == 0 && rules_.launch_id.empty()) started_ = now;
  member.registration = r;
  member.registered = true;
  member.phase = "registered";
  member.heard = now;
  ++registered_;
  return absl::OkStatus();
}

void Membership::Progress(int rank, const v1::Progress& progress) {
  members_[rank].bytes_done = progress.bytes_done();
  members_[rank].bytes_total = progress.bytes_total();
}

void Membership::Ready(int rank, const v1::Ready& ready) {
  Member& member = members_[rank];
  if (!member.ready) ++ready_;
  member.ready = true;
  member.bytes = {ready.bytes().begin(), ready.bytes().end()};
}

void Membership::Heartbeat(int rank, const v1::Heartbeat& heartbeat) {
  members_[rank].step = heartbeat.step();
  members_[rank].phase = heartbeat.phase();
}

absl::Status Membership::Check(SteadyTime now) const {
  for (int rank = 0; rank < rules_.world; ++rank) {
    const Member& member = members_[rank];
    const Seconds silence = now - member.heard;
    if (member.registered && silence > rules_.silence_timeout) {
      return DeadlineExceeded("rank {} on {} (process {}) has been silent for {:.1f} s; last in step {}, {}", rank,
                              member.registration.host(), member.registration.pid(), silence.count(), member.step,
                              member.phase);
    }
  }
  if (!rules_.launch_id.empty() && !AllRegistered() && Seconds(now - started_) > rules_.register_timeout) {
    return DeadlineExceeded("{} of {} ranks registered within {:.0f} s", registered_, rules_.world,
                            rules_.register_timeout.count());
  }
  const bool waiting = !rules_.launch_id.empty() || registered_ > 0;
  if (waiting && !AllReady() && Seconds(now - started_) > rules_.start_timeout) {
    return DeadlineExceeded("{} of {} ranks registered and {} loaded within {:.0f} s", registered_, rules_.world,
                            ready_, rules_.start_timeout.count());
  }
  return absl::OkStatus();
}

}  // namespace atl::coordinator
