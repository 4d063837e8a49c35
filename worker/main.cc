// atoll-worker: one rank under an MPI launcher, or --ranks N ranks as threads of this process.
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <thread>

#include "parallel/backends.h"
#include "worker/measure.h"
#include "worker/rank.h"

namespace atl::worker {
namespace {

// What each rank does with its place in the world; returns when it leaves in order.
using RankBody = std::function<void(parallel::Communicator& world)>;

int RunInproc(const RankBody& body, int ranks, uint64_t epoch) {
  const auto world = parallel::InprocWorld(ranks, epoch);
  std::vector<std::thread> threads;
  threads.reserve(world.size());
  for (const auto& communicator : world) {
    threads.emplace_back([&body, rank = communicator.get()] { body(*rank); });
  }
  for (std::thread& thread : threads) thread.join();
  return 0;
}

int RunMpi(const RankBody& body, uint64_t epoch, int* argc, char*** argv) {
  auto world = parallel::MpiWorld(argc, argv, epoch);
  if (!world.ok()) {
    std::fprintf(stderr, "atoll-worker: %s\n", ToString(world.status().message()).c_str());
    return 1;
  }
  const char* tasks = std::getenv("SLURM_NTASKS");
  if ((*world)->size() == 1 && tasks && std::atoi(tasks) > 1) {
    std::fprintf(stderr,
                 "atoll-worker: Slurm started %s tasks, but each of them is a world of one rank: Slurm and Open MPI do "
                 "not see each other. Use srun --mpi=pmix, or mpirun inside the allocation.\n",
                 tasks);
    _exit(1);
  }
  body(**world);
  world->reset();
  parallel::MpiFinish();
  return 0;
}

int Main(int argc, char** argv) {
  RankOptions options;
  int ranks = 0;
  uint64_t epoch = 0;
  CLI::App app("One rank of an Atoll job (under mpirun or srun), or several as threads of this process.");
  app.add_option("--coordinator", options.coordinator, "HOST:PORT of the coordinator's control service");
  app.add_option("--ranks", ranks, "run this many ranks as threads instead of joining an MPI world")
      ->check(CLI::Range(1, 64));
  app.add_option("--launch-id", options.launch_id, "given by the coordinator that launches this rank");
  app.add_option("--epoch", epoch, "likewise: the membership epoch this launch is for");
  app.add_option("--threads", options.threads, "threads of each rank's kernels")->check(CLI::Range(1, 1024));
  app.add_option("--model", options.model, "model directory on this host, where it is not the coordinator's path");
  double memory_gib = 4;
  bool measures = false;
  app.add_flag("--measure", measures, "print what this machine and the exchanges between ranks can do, and leave");
  app.add_option("--measure-memory", memory_gib, "GiB that --measure reads")->check(CLI::Range(0.01, 4096.0));
  CLI11_PARSE(app, argc, argv);
  if (!measures && options.coordinator.empty()) {
    std::fprintf(stderr, "atoll-worker: --coordinator HOST:PORT is missing (or --measure)\n");
    return 2;
  }

  // A terminal's Ctrl-C and a launcher's SIGTERM reach every rank; the coordinator drains first and then tells them.
  signal(SIGTERM, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  // A launcher that is killed takes its ranks with it, also before they have a stream whose end they could notice.
  if (measures || !options.launch_id.empty()) prctl(PR_SET_PDEATHSIG, SIGKILL);
  options.transport = ranks > 0 ? "inproc" : "mpi";
  const MeasureOptions measure{.threads = options.threads,
                               .memory_bytes = static_cast<int64_t>(memory_gib * (int64_t{1} << 30)),
                               .transport = options.transport};
  const RankBody body = [&](parallel::Communicator& world) {
    if (!measures) return RunRank(options, world);
    if (const absl::Status measured = MeasureRank(measure, world); !measured.ok()) {
      std::fprintf(stderr, "atoll-worker: %s\n", ToString(measured.message()).c_str());
      _exit(1);
    }
  };
  return ranks > 0 ? RunInproc(body, ranks, epoch) : RunMpi(body, epoch, &argc, &argv);
}

}  // namespace
}  // namespace atl::worker

int main(int argc, char** argv) {
  // Threads come and go; with an arena for each, memory goes on growing under a load that does not.
  mallopt(M_ARENA_MAX, 2);
  try {
    return atl::worker::Main(argc, argv);
  } catch (const std::exception& error) {  // a library's: our own errors are statuses
    std::fprintf(stderr, "atoll-worker: %s\n", error.what());
    return 1;
  }
}
