#include "coordinator/cli/bench_machine.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "coordinator/cluster/launcher.h"

namespace atl::coordinator {
namespace {

using nlohmann::json;

std::string Quoted(const std::string& word) {
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

// Standard output of a command that ended with 0. What it says on standard error is shown as it comes.
absl::StatusOr<std::string> OutputOf(const std::vector<std::string>& command) {
  std::string line;
  for (const std::string& word : command) line += Quoted(word) + " ";
  std::FILE* pipe = popen(line.c_str(), "re");
  if (pipe == nullptr) return Unavailable("cannot start {}", command[0]);
  std::string text;
  char buffer[4096];
  for (size_t got; (got = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) text.append(buffer, got);
  const int status = pclose(pipe);
  if (status != 0) return Unavailable("{} ended with status {}; its words are above", command[0], status >> 8);
  return text;
}

}  // namespace

absl::StatusOr<std::string> MachineTable(const std::string& report) {
  const json r = json::parse(report, nullptr, /*allow_exceptions=*/false);
  if (!r.is_object() || !r.contains("read_bytes_per_s") || !r.contains("operations_per_s") ||
      !r.contains("exchanges")) {
    return Internal("atoll-worker --measure printed \"{}\"", report.substr(0, 200));
  }
  std::string text;
  const auto line = [&](const std::string& name, double value, const char* unit) {
    text += fmt::format("{:<28}{:>12.1f} {}\n", name, value, unit);
  };
  const auto threads = r.value("threads", 1);
  text += fmt::format("{} threads; kernels {} (f32, bf16) and {} (INT8, INT4)\n", threads,
                      r["kernels"].value("f32 and bf16", "?"), r["kernels"].value("int8 and int4", "?"));
  line("read, 1 thread", r["read_bytes_per_s"].value("one", 0.0) / 1e9, "GB/s");
  line(fmt::format("read, {} threads", threads), r["read_bytes_per_s"].value("all", 0.0) / 1e9, "GB/s");
  for (const char* type : {"f32", "bf16", "int8", "int8 tiles"}) {
    const double rate = r["operations_per_s"].value(type, 0.0);
    if (rate > 0) line(fmt::format("multiply-add, {}", type), rate / 1e9, "GOP/s");
  }
  text += fmt::format("\nexchanges between {} ranks ({})\n", r.value("ranks", 1), r.value("transport", "?"));
  for (const json& exchange : r["exchanges"]) {
    const double seconds = exchange.value("seconds", 0.0), bytes = exchange.value("bytes", 0.0);
    text += fmt::format("{:<28}{:>12.1f} us {:>12.2f} GB/s sent by each rank\n", exchange.value("name", "?"),
                        seconds * 1e6, seconds > 0 ? bytes / seconds / 1e9 : 0.0);
  }
  return text;
}

absl::StatusOr<std::string> MeasureMachine(const BenchMachineOptions& options) {
  if (options.transport != "mpi" && options.transport != "inproc") {
    return InvalidArgument("--transport {} is unknown; mpi and inproc exist", options.transport);
  }
  if (options.ranks < 1 || options.ranks > 64) return InvalidArgument("--ranks is {}; 1 to 64 work", options.ranks);
  std::error_code error;
  const auto worker = std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "atoll-worker";
  if (access(worker.c_str(), X_OK) != 0) return NotFound("there is no program {}; build atoll-worker", worker.string());
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::string> command = LaunchCommand({.worker_binary = worker.string(),
                                                    .ranks = options.ranks,
                                                    .inproc = options.transport == "inproc",
                                                    .hosts_file = "",
                                                    .coordinator = "none",
                                                    .launch_id = "measure",
                                                    .threads_per_rank = options.threads > 0 ? options.threads : cores},
                                                   /*scratch=*/"");
  command.insert(command.end(), {"--measure", "--measure-memory", fmt::format("{}", options.memory_gib)});
  if (geteuid() == 0) {  // containers run as root; Open MPI wants that said twice
    command.insert(command.begin(), {"env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"});
  }
  return OutputOf(command);
}

absl::Status RunBenchMachine(const BenchMachineOptions& options) {
  ATOLL_ASSIGN_OR_RETURN(const std::string report, MeasureMachine(options));
  ATOLL_ASSIGN_OR_RETURN(const std::string table, MachineTable(report));
  std::fputs(options.json ? report.c_str() : table.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace atl::coordinator
