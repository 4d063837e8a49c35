#include "coordinator/cluster/cluster.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "coordinator/cluster/control_service.h"
#include "coordinator/cluster/launcher.h"
#include "coordinator/cluster/membership.h"
#include "coordinator/cluster/plan_exchange.h"
#include "parallel/base/log.h"

namespace atl::coordinator {
namespace {

constexpr Seconds kTick{0.05};
constexpr Seconds kLook{0.5};  // between looks for processes that are stopped
constexpr Seconds kFenceBudget{5};
constexpr Seconds kFirstDelay{0.2}, kLongestDelay{10};  // between launches that fail

SteadyTime Now() { return std::chrono::steady_clock::now(); }

// The address that ranks are given, from the one that is listened on.
std::string AddressForRanks(const ClusterOptions& options, int port) {
  std::string host = options.control_address.substr(0, options.control_address.rfind(':'));
  if (host == "0.0.0.0" || host == "[::]") {
    char name[256] = "localhost";
    if (!options.hosts_file.empty()) gethostname(name, sizeof(name) - 1);
    host = name;
  }
  return fmt::format("{}:{}", host, port);
}

absl::StatusOr<std::string> FindWorker(const ClusterOptions& options) {
  std::error_code error;
  std::string path = options.worker_binary;
  if (path.empty()) path = std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "atoll-worker";
  if (access(path.c_str(), X_OK) != 0) return NotFound("there is no program {}; build atoll-worker", path);
  return path;
}

// Whether what a rank was given is wrong, so that the next launch would end in the same way.
bool IsHopeless(const v1::Failure& failure) {
  const auto code = static_cast<absl::StatusCode>(failure.code());
  return code == absl::StatusCode::kInvalidArgument || code == absl::StatusCode::kNotFound ||
         code == absl::StatusCode::kDataLoss || code == absl::StatusCode::kUnimplemented;
}

// The state below is the cluster's own thread's; what other threads read or write is under mutex_, which is never held
// during a call to the outside. Steps pass by: the exchange takes them between the engine and gRPC's threads.
class RankCluster final : public Cluster {
 public:
  RankCluster(ClusterOptions options, std::string worker)
      : options_(std::move(options)),
        worker_(std::move(worker)),
        exchange_(options_.shape.topology.groups(), &service_),
        service_([this](ControlEvent event) { Post(std::move(event)); },
                 [this](uint64_t stream, v1::StepResult result) { exchange_.OnResult(stream, std::move(result)); }) {
    launch_tag_ = fmt::format("{:08x}", std::random_device()());
  }
  ~RankCluster() override { Shutdown(Deadline::After(Seconds(1))); }

  absl::Status Listen();
  void Start(ExecutorListener* listener) override {
    listener_ = listener;
    thread_ = std::thread([this] { Run(); });
  }
  Executor* executor() override { return &exchange_; }
  int control_port() const override { return port_; }
  ClusterStatus status() const override {
    std::lock_guard lock(mutex_);
    return status_;
  }
  void Shutdown(Deadline deadline) override;

 private:
  void Post(ControlEvent event);
  void Run();
  void BeginEpoch();
  void Handle(const ControlEvent& event);
  void OnRankReport(uint64_t stream, const v1::RankReport& report);
  void OnRegister(uint64_t stream, const v1::Register& registration);
  void OnLeaderHello(uint64_t stream, const v1::LeaderHello& hello);
  void AssignAll();
  void BecomeReady();
  void CheckAlive();
  void CheckStopped();
  void Lose(const std::string& reason, bool hopeless = false);
  void TellAll(const v1::Directive& directive);
  void EndRanks(Deadline deadline);
  void Publish();

  const ClusterOptions options_;
  const std::string worker_;
  std::string launch_tag_;  // tells this coordinator's launches from all others'
  int port_ = 0;
  ExecutorListener* listener_ = nullptr;
  std::thread thread_;

  uint64_t epoch_ = 0;
  std::optional<Membership> members_;  // of the current epoch; none between epochs
  std::unique_ptr<Launch> launch_;
  std::map<uint64_t, int> rank_of_stream_;  // of the current epoch: other streams are not listened to
  bool ready_ = false, gave_up_ = false;
  int failed_launches_ = 0;
  SteadyTime next_look_ = Now();
  std::optional<SteadyTime> stopped_since_;  // a process of this launch that has not registered
  SteadyTime next_launch_ = Now(), lost_at_ = Now();

  mutable std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<ControlEvent> events_;
  std::optional<Deadline> stop_;
  ClusterStatus status_;

  PlanExchange exchange_;
  ControlService service_;
  std::unique_ptr<grpc::Server> server_;  // destroyed first: its streams refer to all above
};

absl::Status RankCluster::Listen() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options_.control_address, grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(&service_);
  builder.SetMaxReceiveMessageSize(-1);
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);  // ranks ping to notice a lost machine
  server_ = builder.BuildAndStart();
  if (!server_ || port_ == 0) {
    return Unavailable("cannot listen on {} for the ranks: is it in use?", options_.control_address);
  }
  return absl::OkStatus();
}

void RankCluster::Post(ControlEvent event) {
  {
    std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  posted_.notify_one();
}

void RankCluster::Run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    posted_.wait_until(lock, Deadline::After(kTick).at, [this] { return !events_.empty() || stop_; });
    std::deque<ControlEvent> events = std::exchange(events_, {});
    lock.unlock();
    for (const ControlEvent& event : events) Handle(event);
    if (!members_ && !gave_up_ && Now() >= next_launch_) BeginEpoch();
    if (members_) CheckAlive();
    lock.lock();
  }
  const Deadline deadline = *stop_;
  lock.unlock();
  EndRanks(deadline);
}

void RankCluster::BeginEpoch() {
  ++epoch_;
  const std::string launch_id = options_.external_ranks ? "" : fmt::format("{}-{}", launch_tag_, epoch_);
  members_.emplace(epoch_,
                   MembershipRules{.world = options_.shape.topology.world,
                                   .launch_id = launch_id,
                                   .silence_timeout = options_.silence_timeout,
                                   .register_timeout = options_.register_timeout,
                                   .start_timeout = options_.start_timeout},
                   Now());
  stopped_since_.reset();
  exchange_.Begin(epoch_, listener_);
  Publish();
  if (options_.external_ranks) {
    Log()->info("epoch={} waits for {} ranks: mpirun -n {} atoll-worker --coordinator {}", epoch_,
                options_.shape.topology.world, options_.shape.topology.world, AddressForRanks(options_, port_));
    return;
  }
  absl::StatusOr<std::unique_ptr<Launch>> launch = Launch::Start({.worker_binary = worker_,
                                                                  .ranks = options_.shape.topology.world,
                                                                  .inproc = options_.transport == Transport::kInproc,
                                                                  .hosts_file = options_.hosts_file,
                                                                  .coordinator = AddressForRanks(options_, port_),
                                                                  .launch_id = launch_id,
                                                                  .epoch = epoch_,
                                                                  .threads_per_rank = options_.threads_per_rank,
                                                                  .show_output = options_.show_output});
  if (!launch.ok()) return Lose(ToString(launch.status().message()));
  launch_ = std::move(*launch);
}

void RankCluster::Handle(const ControlEvent& event) {
  switch (event.kind) {
    case ControlEvent::Kind::kRankReport:
      return OnRankReport(event.stream, event.rank);
    case ControlEvent::Kind::kLeaderHello:
      return OnLeaderHello(event.stream, event.leader);
    case ControlEvent::Kind::kEnded:
      if (const auto rank = rank_of_stream_.find(event.stream); rank != rank_of_stream_.end()) {
        return Lose(fmt::format("rank {} is gone: its stream ended", rank->second));
      }
      if (const auto group = exchange_.GroupOf(event.stream)) {
        return Lose(fmt::format("the leader of group {} is gone: its stream of plans ended", *group));
      }
  }
}

void RankCluster::OnRankReport(uint64_t stream, const v1::RankReport& report) {
  if (report.has_register_()) return OnRegister(stream, report.register_());
  const auto found = rank_of_stream_.find(stream);
  if (found == rank_of_stream_.end()) return;  // of an epoch that is over
  const int rank = found->second;
  members_->Heard(rank, Now());
  if (report.has_heartbeat()) return members_->Heartbeat(rank, report.heartbeat());
  if (report.has_failure()) return Lose(report.failure().message(), epoch_ == 1 && IsHopeless(report.failure()));
  if (report.has_progress()) members_->Progress(rank, report.progress());
  if (report.has_ready()) {
    members_->Ready(rank, report.ready());
    if (members_->AllReady()) {
      v1::Directive start;
      start.mutable_start()->set_epoch(epoch_);
      TellAll(start);
    }
  }
  Publish();
}

void RankCluster::OnRegister(uint64_t stream, const v1::Register& registration) {
  const absl::Status registered =
      members_ ? members_->Register(registration, Now()) : Unavailable("the job is between two epochs; try again");
  if (!registered.ok()) {
    Log()->warn("refuses rank {} from {}: {}", registration.rank(), registration.host(),
                ToString(registered.message()));
    return service_.Refuse(stream, registered);
  }
  rank_of_stream_[stream] = registration.rank();
  Publish();
  if (members_->AllRegistered()) AssignAll();
}

void RankCluster::AssignAll() {
  v1::Directive directive;
  v1::Assignment& job = *directive.mutable_assignment();
  job.set_epoch(epoch_);
  job.set_world(options_.shape.topology.world);
  job.set_tp(options_.shape.topology.tp);
  job.set_model_path(options_.model_path);
  job.set_dummy_weights(options_.dummy_weights);
  job.set_matformer(options_.matformer);
  job.set_weights(options_.weights);
  job.set_head_weights(options_.head_weights);
  job.set_report_weight_errors(options_.report_weight_errors);
  job.set_profile(options_.shape.numerics.name);
  job.set_kv_blocks(options_.shape.kv_blocks);
  job.set_max_batch_tokens(options_.shape.max_batch_tokens);
  const parallel::ExpertPlacement& placement = options_.placement;
  for (int entry = 0; entry < placement.experts() * placement.slices(); ++entry) {
    const std::span<const int> ranks = placement.RanksOf(entry / placement.slices(), entry % placement.slices());
    job.add_placement()->mutable_ranks()->Add(ranks.begin(), ranks.end());
  }
  job.set_expert_slices(placement.slices());
  job.set_placement_epoch(placement.epoch());
  job.set_collective_timeout_s(options_.collective_timeout.count());
  job.set_heartbeat_interval_s(options_.heartbeat_interval.count());
  job.set_sample_vocab(options_.sample_vocab);
  for (const Member& member : members_->members()) job.add_hosts(member.registration.host());
  TellAll(directive);
}

void RankCluster::OnLeaderHello(uint64_t stream, const v1::LeaderHello& hello) {
  const absl::Status added = members_ && members_->AllReady() ? exchange_.AddLeader(stream, hello)
                                                              : Aborted("epoch {} is not running", hello.epoch());
  if (!added.ok()) return service_.Refuse(stream, added);
  if (exchange_.complete()) BecomeReady();
}

void RankCluster::BecomeReady() {
  ready_ = true;
  failed_launches_ = 0;
  if (epoch_ == 1) {
    Log()->info("epoch={} ready: {} ranks in {} groups", epoch_, options_.shape.topology.world,
                options_.shape.topology.groups());
  } else {
    Log()->info("epoch={} ready: {} ranks, {:.2f} s after the loss", epoch_, options_.shape.topology.world,
                Seconds(Now() - lost_at_).count());
  }
  exchange_.Open();
  Publish();
  listener_->OnReady(epoch_);
}

void RankCluster::CheckAlive() {
  if (const absl::Status alive = members_->Check(Now()); !alive.ok()) return Lose(ToString(alive.message()));
  if (launch_ && launch_->Ended()) {
    launch_->Fence(Deadline::After(kFenceBudget));  // all of its last words have come then
    return Lose(*launch_->Ended());
  }
  if (launch_ && !members_->AllRegistered() && Now() >= next_look_) CheckStopped();
}

// Who is stopped before it has registered sends no heartbeats that could be missed.
void RankCluster::CheckStopped() {
  next_look_ = Now() + std::chrono::duration_cast<SteadyTime::duration>(kLook);
  const pid_t pid = launch_->Stopped();
  if (pid == 0) return stopped_since_.reset();
  if (!stopped_since_) stopped_since_ = Now();
  const Seconds stopped = Now() - *stopped_since_;
  if (stopped > options_.silence_timeout) {
    Lose(fmt::format("process {} has been stopped for {:.1f} s before all ranks had registered", pid, stopped.count()));
  }
}

void RankCluster::Lose(const std::string& reason, bool hopeless) {
  exchange_.Close();
  const bool was_ready = std::exchange(ready_, false);
  if (was_ready || failed_launches_ == 0) lost_at_ = Now();
  if (!was_ready) ++failed_launches_;
  Log()->warn("epoch={} lost: {}", epoch_, reason);
  if (options_.external_ranks) {
    v1::Directive leave;
    leave.mutable_shutdown()->set_reason(reason);
    TellAll(leave);
  }
  rank_of_stream_.clear();
  members_.reset();
  {
    std::lock_guard lock(mutex_);
    status_.last_loss = reason;
    ++status_.restarts;
  }
  gave_up_ = !options_.external_ranks && !was_ready && (hopeless || failed_launches_ >= options_.max_failed_launches);
  Publish();
  if (was_ready) listener_->OnLost(epoch_, reason);
  launch_.reset();  // the fence
  if (gave_up_) {
    listener_->OnLost(epoch_, fmt::format("gave up after {} failed launch{}: {}", failed_launches_,
                                          failed_launches_ == 1 ? "" : "es", reason));
    return;
  }
  const Seconds delay = failed_launches_ == 0 || options_.external_ranks
                            ? Seconds(0)
                            : std::min(kLongestDelay, kFirstDelay * (1 << std::min(failed_launches_ - 1, 10)));
  next_launch_ = Now() + std::chrono::duration_cast<SteadyTime::duration>(delay);
  if (delay == Seconds(0)) BeginEpoch();
}

void RankCluster::TellAll(const v1::Directive& directive) {
  for (const auto& [stream, rank] : rank_of_stream_) service_.Send(stream, directive);
}

void RankCluster::Publish() {
  std::lock_guard lock(mutex_);
  status_.epoch = epoch_;
  status_.ready = ready_;
  status_.gave_up = gave_up_;
  status_.registered = members_ ? members_->registered() : 0;
  status_.load_bytes_done = status_.load_bytes_total = 0;
  status_.pids.assign(options_.shape.topology.world, 0);
  for (int rank = 0; members_ && rank < options_.shape.topology.world; ++rank) {
    const Member& member = members_->members()[rank];
    status_.load_bytes_done += member.bytes_done;
    status_.load_bytes_total += member.bytes_total;
    status_.pids[rank] = member.registration.pid();
    if (member.registered) status_.kernel_target = member.registration.kernel_target();
  }
}

// Orderly: told, awaited until they are gone or the deadline has passed, then killed.
void RankCluster::EndRanks(Deadline deadline) {
  v1::Directive leave;
  leave.mutable_shutdown()->set_reason("the coordinator shuts down");
  TellAll(leave);
  std::unique_lock lock(mutex_);
  while (!rank_of_stream_.empty() && !deadline.Expired()) {
    posted_.wait_until(lock, std::min(deadline.at, Deadline::After(kTick).at), [this] { return !events_.empty(); });
    for (const ControlEvent& event : std::exchange(events_, {})) {
      if (event.kind == ControlEvent::Kind::kEnded) rank_of_stream_.erase(event.stream);
    }
  }
  lock.unlock();
  while (launch_ && ready_ && !launch_->Ended() && !deadline.Expired()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  launch_.reset();
}

void RankCluster::Shutdown(Deadline deadline) {
  exchange_.Close();
  if (thread_.joinable()) {
    {
      std::lock_guard lock(mutex_);
      stop_ = deadline;
      status_.ready = false;
    }
    posted_.notify_one();
    thread_.join();
  }
  if (server_) server_->Shutdown(std::chrono::system_clock::now());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Cluster>> Cluster::Create(const ClusterOptions& options) {
  ATOLL_RETURN_IF_ERROR(models::CheckShape(options.spec, options.shape));
  std::string worker;
  if (!options.external_ranks) {
    ATOLL_ASSIGN_OR_RETURN(worker, FindWorker(options));
  }
  auto cluster = std::make_unique<RankCluster>(options, std::move(worker));
  ATOLL_RETURN_IF_ERROR(cluster->Listen());
  return cluster;
}

}  // namespace atl::coordinator
