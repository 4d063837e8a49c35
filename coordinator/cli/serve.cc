#include "coordinator/cli/serve.h"

#include <sys/resource.h>

#include <atomic>
#include <thread>

#include "coordinator/api/grpc_server.h"
#include "coordinator/api/http/server.h"
#include "coordinator/cli/served_model.h"
#include "coordinator/cli/signals.h"
#include "parallel/base/log.h"

namespace atl::coordinator {
namespace {

constexpr Seconds kLastWords{1};  // for the errors of requests that were ended to leave

// Every client holds a file, and the usual limit of 1,024 is below what the front ends accept together. No higher than
// needed: launchers close every file up to the limit, one by one.
void AllowOpenFiles() {
  constexpr rlim_t kEnough = 8192;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kEnough) return;
  limit.rlim_cur = std::min(limit.rlim_max, kEnough);
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Until a signal comes; Unavailable when the ranks do not come up.
absl::Status ServeUntilSignal(Signals* signals, const ServeFlags& flags, ServedModel* model, const HttpServer& http,
                              GrpcFrontEnd* grpc) {
  bool serving = false, announced = false;
  while (signals->Wait(std::chrono::milliseconds(50)) == 0) {
    const bool ready = model->running().engine().stats().ready;
    if (ready != serving) grpc->SetServing(serving = ready);
    if (ready && !std::exchange(announced, true)) {
      Log()->info("serving {} at http://{}:{}/v1 and gRPC {}:{}", model->service().name, flags.host, http.port(),
                  flags.host, grpc->port());
    }
    if (const ClusterStatus status = model->running().cluster().status(); status.gave_up) {
      return Unavailable("the ranks do not come up: {}", status.last_loss);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunServe(const ServeFlags& flags) {
  if (flags.max_queued_requests < 1) {
    return InvalidArgument("--max-num-queued-reqs is {}; at least 1 is needed", flags.max_queued_requests);
  }
  if (flags.shutdown_timeout < 0) {
    return InvalidArgument("--shutdown-timeout is {}; it must not be below 0", flags.shutdown_timeout);
  }
  AllowOpenFiles();
  Signals signals({SIGTERM, SIGINT});
  ATOLL_ASSIGN_OR_RETURN(const auto model,
                         ServedModel::Load(flags.cluster, {.name = flags.name,
                                                           .chat_template = flags.chat_template,
                                                           .max_queued_requests = flags.max_queued_requests}));
  const Service& service = model->service();
  ATOLL_ASSIGN_OR_RETURN(const auto http, HttpServer::Start(&service, flags.host, flags.port));
  ATOLL_ASSIGN_OR_RETURN(const auto grpc, GrpcFrontEnd::Start(&service, flags.host, flags.grpc_port));
  model->running().Launch();
  Engine& engine = model->running().engine();
  if (absl::Status lost = ServeUntilSignal(&signals, flags, model.get(), *http, grpc.get()); !lost.ok()) {
    engine.Stop();
    http->AwaitAnswered(Deadline::After(kLastWords));
    return lost;
  }

  Log()->info("draining: running requests have {} s; another signal stops at once", flags.shutdown_timeout);
  const Deadline deadline = Deadline::After(Seconds(flags.shutdown_timeout));
  http->StartDraining();
  grpc->SetServing(false);
  std::atomic<bool> drained{false};
  std::thread drain([&] {
    const absl::Status ended = engine.Drain(deadline);
    if (!ended.ok()) Log()->warn("{}", ToString(ended.message()));
    // Requests that ended by themselves still have bytes to send; those that were ended have a last message.
    const Deadline last_byte = ended.ok() ? deadline : Deadline::After(kLastWords);
    http->AwaitAnswered(last_byte);
    grpc->AwaitAnswered(last_byte);
    drained = true;
  });
  while (!drained && signals.Wait(std::chrono::milliseconds(20)) == 0) {
  }
  if (!drained) {
    Log()->info("stopping at once");
    engine.Stop();
    http->Stop();
    grpc->Shutdown();
  }
  drain.join();
  grpc->Shutdown();
  http->Stop();
  return absl::OkStatus();
}

}  // namespace atl::coordinator
