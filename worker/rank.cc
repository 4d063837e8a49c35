#include "worker/rank.h"

#include <unistd.h>

#include "models/model.h"
#include "models/spec/matformer.h"
#include "parallel/base/log.h"
#include "worker/control_client.h"

namespace atl::worker {
namespace {

constexpr int kExitFailed = 4;
constexpr Seconds kOthersMayTake{3600};  // the coordinator has its own, shorter patience

v1::Register Registration(const RankOptions& options, const parallel::Communicator& world) {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  v1::Register registration;
  registration.set_launch_id(options.launch_id);
  registration.set_rank(world.rank());
  registration.set_world(world.size());
  registration.set_host(host);
  registration.set_pid(getpid());
  registration.set_transport(options.transport);
  registration.set_kernel_target(models::KernelTarget());
  registration.set_version(ATOLL_VERSION);
  return registration;
}

absl::StatusOr<models::LoadOptions> ToLoadOptions(const v1::Assignment& job, const RankOptions& options) {
  models::LoadOptions load;
  load.path = options.model.empty() ? job.model_path() : options.model;
  load.dummy_weights = job.dummy_weights();
  load.threads = options.threads;
  if (job.report_weight_errors()) {
    load.on_moved = [](const std::string& name, models::WeightFormat format, double relative, float largest) {
      Log()->info("{} as {}: off by {:.2f} % (rms), {:.3g} at most", name, Name(format), 100 * relative, largest);
    };
  }
  ATOLL_ASSIGN_OR_RETURN(load.spec,
                         load.dummy_weights ? models::ReadModelSpec(load.path) : models::ReadModel(load.path));
  if (!job.matformer().empty()) ATOLL_RETURN_IF_ERROR(models::SliceMatFormer(job.matformer(), &load.spec));
  ATOLL_ASSIGN_OR_RETURN(load.spec.kept, models::KeptFormats::Named(job.weights(), job.head_weights()));
  ATOLL_ASSIGN_OR_RETURN(load.shape.numerics, models::NumericsNamed(job.profile()));
  load.shape.topology = {.world = job.world(), .tp = job.tp()};
  load.shape.kv_blocks = job.kv_blocks();
  load.shape.max_batch_tokens = job.max_batch_tokens();
  std::vector<std::vector<int>> table;
  for (const v1::ExpertRanks& ranks : job.placement()) table.emplace_back(ranks.ranks().begin(), ranks.ranks().end());
  ATOLL_ASSIGN_OR_RETURN(
      load.placement,
      parallel::ExpertPlacement::FromTable(std::move(table), job.world(), job.placement_epoch(), job.expert_slices()));
  return load;
}

std::map<std::string, int64_t> Bytes(const models::RankMemory& memory) {
  return {{"weights", memory.weight_bytes()},
          {"kv", memory.kv},
          {"workspace", memory.workspace},
          {"exchange", memory.exchange}};
}

absl::Status Serve(const RankOptions& options, parallel::Communicator& world, ControlClient& control,
                   EngineStatus* status) {
  ATOLL_ASSIGN_OR_RETURN(const v1::Assignment job, control.AwaitAssignment(Deadline::After(kOthersMayTake)));
  parallel::ParallelContext context{.topology = {.world = job.world(), .tp = job.tp()},
                                    .rank = world.rank(),
                                    .world = &world,
                                    .timeout = Seconds(job.collective_timeout_s())};
  ATOLL_ASSIGN_OR_RETURN(const std::unique_ptr<parallel::Communicator> tp_group,
                         world.Subgroup(context.topology.RanksOf(context.group()), context.NextDeadline()));
  context.tp_group = tp_group.get();

  status->phase = "loading";
  ATOLL_ASSIGN_OR_RETURN(const models::LoadOptions load, ToLoadOptions(job, options));
  Deadline next_report = Deadline::After(Seconds(0));
  const auto progress = [&](int64_t done, int64_t total) {
    if (done < total && !next_report.Expired()) return;
    next_report = Deadline::After(Seconds(0.2));
    control.ReportProgress(done, total);
  };
  ATOLL_ASSIGN_OR_RETURN(const std::unique_ptr<models::Model> model, models::LoadModel(load, context, progress));
  control.ReportReady(Bytes(model->memory()));
  status->phase = "loaded";
  ATOLL_RETURN_IF_ERROR(control.AwaitStart(Deadline::After(kOthersMayTake)));

  const bool leader = context.tp_rank() == 0;
  LeaderPort* port = leader ? control.OpenExecute(context.group()) : nullptr;
  const int64_t sample_vocab = job.sample_vocab() > 0 ? job.sample_vocab() : load.spec.vocab;
  Engine engine({.epoch = job.epoch(), .sample_vocab = sample_vocab}, *model, context, status);
  return engine.Run(port);
}

}  // namespace

void RunRank(const RankOptions& options, parallel::Communicator& world) {
  EngineStatus status;
  ControlClient control(options.coordinator, Registration(options, world), &status);
  const absl::Status end = Serve(options, world, control, &status);
  if (end.ok()) return;
  const absl::Status failure = Annotate(end, fmt::format("rank {}, {}", world.rank(), status.phase.load()));
  Log()->error("{}", ToString(failure.message()));
  control.ReportFailure(failure);
  _exit(kExitFailed);
}

}  // namespace atl::worker
