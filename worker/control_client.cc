#include "worker/control_client.h"

#include <unistd.h>

#include "parallel/base/log.h"

namespace atl::worker {
namespace {

constexpr int kExitLost = 3;  // the coordinator is gone

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  // A coordinator whose machine vanished sends no end of stream; pings notice.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

std::chrono::system_clock::time_point SystemTime(Seconds ahead) {
  return std::chrono::system_clock::now() + std::chrono::duration_cast<std::chrono::system_clock::duration>(ahead);
}

}  // namespace

ControlClient::ControlClient(const std::string& address, const v1::Register& registration, const EngineStatus* status)
    : rank_(registration.rank()), engine_(status) {
  const std::shared_ptr<grpc::Channel> channel = MakeChannel(address);
  if (!channel->WaitForConnected(SystemTime(Seconds(60)))) {
    Log()->error("rank={} no coordinator answers at {} within 60 s; is --coordinator right?", rank_, address);
    _exit(kExitLost);
  }
  stub_ = v1::Control::NewStub(channel);
  join_ = stub_->Join(&join_context_);
  v1::RankReport report;
  *report.mutable_register_() = registration;
  Write(std::move(report));
  directives_ = std::thread([this] { ReadDirectives(); });
  heartbeats_ = std::thread([this] { SendHeartbeats(); });
}

ControlClient::~ControlClient() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  heartbeats_.join();
  {
    std::lock_guard lock(write_mutex_);
    join_->WritesDone();
  }
  directives_.join();
}

void ControlClient::Write(v1::RankReport report) {
  {
    std::lock_guard lock(mutex_);
    if (assignment_) report.set_epoch(assignment_->epoch());
  }
  std::lock_guard lock(write_mutex_);
  join_->Write(report);  // a broken stream is the reader's to notice
}

void ControlClient::ReadDirectives() {
  v1::Directive directive;
  while (join_->Read(&directive)) {
    if (directive.has_shutdown()) Shutdown(directive.shutdown().reason());
    std::lock_guard lock(mutex_);
    if (directive.has_assignment()) {
      assignment_ = directive.assignment();
      heartbeat_interval_ = Seconds(assignment_->heartbeat_interval_s());
    }
    if (directive.has_start()) started_ = true;
    changed_.notify_all();
  }
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  const grpc::Status status = join_->Finish();
  Log()->error("rank={} leaves: the coordinator ended its stream: {}", rank_,
               status.ok() ? "no reason given" : status.error_message());
  _exit(kExitLost);
}

void ControlClient::Shutdown(const std::string& reason) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    if (!started_) _exit(0);  // still loading: nobody waits for this rank's part in an orderly end
    if (plans_) plans_->Stop();
  }
  changed_.notify_all();
  Log()->debug("rank={} told to leave: {}", rank_, reason);
  std::thread([] {
    std::this_thread::sleep_for(kExitGrace);
    _exit(0);
  }).detach();
}

void ControlClient::SendHeartbeats() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait_until(lock, Deadline::After(heartbeat_interval_).at, [this] { return stopping_; });
    lock.unlock();
    v1::RankReport report;
    report.mutable_heartbeat()->set_step(engine_->step);
    report.mutable_heartbeat()->set_phase(engine_->phase);
    Write(std::move(report));
    lock.lock();
  }
}

absl::StatusOr<v1::Assignment> ControlClient::AwaitAssignment(Deadline deadline) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_until(lock, deadline.at, [this] { return assignment_ || stopping_; })) {
    return DeadlineExceeded("no assignment after {:.0f} s: other ranks have not registered", deadline.budget.count());
  }
  if (stopping_) return Cancelled("told to leave");
  return *assignment_;
}

absl::Status ControlClient::AwaitStart(Deadline deadline) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_until(lock, deadline.at, [this] { return started_ || stopping_; })) {
    return DeadlineExceeded("no start after {:.0f} s: other ranks have not loaded", deadline.budget.count());
  }
  return started_ ? absl::OkStatus() : Cancelled("told to leave");
}

void ControlClient::ReportProgress(int64_t done, int64_t total) {
  v1::RankReport report;
  report.mutable_progress()->set_bytes_done(done);
  report.mutable_progress()->set_bytes_total(total);
  Write(std::move(report));
}

void ControlClient::ReportReady(const std::map<std::string, int64_t>& bytes) {
  v1::RankReport report;
  report.mutable_ready()->mutable_bytes()->insert(bytes.begin(), bytes.end());
  Write(std::move(report));
}

void ControlClient::ReportFailure(const absl::Status& status) {
  v1::RankReport report;
  report.mutable_failure()->set_message(ToString(status.message()));
  report.mutable_failure()->set_code(static_cast<int>(status.code()));
  Write(std::move(report));
  // Write hands over to the transport. The coordinator answers by ending the job (and this process); should it not,
  // the message has long been sent.
  std::this_thread::sleep_for(std::chrono::seconds(1));
}

LeaderPort* ControlClient::OpenExecute(int group) {
  std::lock_guard lock(mutex_);
  plans_ = std::make_unique<PlanStream>(stub_.get(), assignment_->epoch(), group);
  if (stopping_) plans_->Stop();
  return plans_.get();
}

}  // namespace atl::worker
