#include "coordinator/cluster/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "parallel/base/log.h"

namespace atl::coordinator {
namespace {

namespace fs = std::filesystem;
constexpr size_t kLastWords = 2000;  // bytes of output kept for the error message

// Local processes whose arguments contain "--launch-id ID". Zombies have no arguments any more.
std::vector<pid_t> ProcessesOf(const std::string& launch_id) {
  const std::string needle = std::string("--launch-id") + '\0' + launch_id + '\0';
  std::vector<pid_t> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", error)) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0 || pid == getpid()) continue;
    std::ifstream file(entry.path() / "cmdline", std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    if (text.str().find(needle) != std::string::npos) found.push_back(pid);
  }
  return found;
}

// In the child of a fork: only calls that are safe there.
[[noreturn]] void BecomeLauncher(char* const* argv, char* const* env, int output) {
  setpgid(0, 0);  // a terminal's Ctrl-C is the coordinator's to handle
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  // Sockets that the ranks held on to would not close for clients when the coordinator closes them.
  close_range(3, ~0U, 0);
  execvpe(argv[0], argv, env);
  dprintf(STDERR_FILENO, "cannot start %s: %s\n", argv[0], strerror(errno));
  _exit(127);
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

std::vector<std::string> LaunchCommand(const LaunchOptions& options, const std::string& scratch) {
  std::vector<std::string> command;
  const std::string ranks = std::to_string(options.ranks);
  if (!options.inproc) {
    // Ranks may outnumber cores; waits yield and sleep by themselves. Single copy needs ptrace rights that containers
    // often deny.
    command = {"mpirun",
               "--oversubscribe",
               "--bind-to",
               "none",
               "-n",
               ranks,
               "--mca",
               "mpi_yield_when_idle",
               "1",
               "--mca",
               "btl_vader_single_copy_mechanism",
               "none"};
    if (!options.hosts_file.empty()) command.insert(command.end(), {"--hostfile", options.hosts_file});
    if (!scratch.empty()) {
      command.insert(command.end(),
                     {"--mca", "orte_tmpdir_base", scratch, "--mca", "btl_vader_backing_directory", scratch});
    }
  }
  command.insert(command.end(),
                 {options.worker_binary, "--coordinator", options.coordinator, "--launch-id", options.launch_id,
                  "--epoch", std::to_string(options.epoch), "--threads", std::to_string(options.threads_per_rank)});
  if (options.inproc) command.insert(command.end(), {"--ranks", ranks});
  return command;
}

absl::StatusOr<std::unique_ptr<Launch>> Launch::Start(const LaunchOptions& options) {
  LaunchFiles files;
  if (!options.inproc && options.hosts_file.empty()) {
    ATOLL_ASSIGN_OR_RETURN(files, LaunchFiles::Make(options.launch_id));
  }
  std::unique_ptr<Launch> launch(new Launch(options.launch_id, options.show_output, std::move(files)));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Unavailable("no pipe for the ranks' output: {}", strerror(errno));
  launch->output_ = ends[0];
  launch->wake_ = eventfd(0, EFD_CLOEXEC);

  std::vector<std::string> command = LaunchCommand(options, launch->files_.path());
  std::vector<std::string> environment;
  for (char** e = environ; *e; ++e) environment.emplace_back(*e);
  if (geteuid() == 0) {  // containers run as root; Open MPI wants that said twice
    environment.insert(environment.end(), {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"});
  }
  const std::vector<char*> argv = Pointers(command), env = Pointers(environment);
  launch->pid_ = fork();
  if (launch->pid_ == 0) BecomeLauncher(argv.data(), env.data(), ends[1]);
  close(ends[1]);
  if (launch->pid_ < 0) return Unavailable("cannot start {}: {}", command[0], strerror(errno));
  launch->forwarder_ = std::thread([l = launch.get()] { l->Forward(); });
  return launch;
}

Launch::~Launch() {
  Fence(Deadline::After(Seconds(5)));
  const uint64_t one = 1;
  if (forwarder_.joinable()) {
    [[maybe_unused]] const ssize_t written = write(wake_, &one, sizeof(one));
    forwarder_.join();
  }
  close(output_);
  close(wake_);
}

void Launch::Forward() {
  char text[4096];
  pollfd waits[2] = {{output_, POLLIN, 0}, {wake_, POLLIN, 0}};
  for (;;) {
    if (poll(waits, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return;
    }
    if (waits[0].revents != 0) {
      const ssize_t got = read(output_, text, sizeof(text));
      if (got <= 0) return;  // nobody holds the other end any more
      [[maybe_unused]] const ssize_t written = show_output_ ? write(STDERR_FILENO, text, got) : got;
      std::lock_guard lock(mutex_);
      last_words_.append(text, got);
      if (last_words_.size() > kLastWords) last_words_.erase(0, last_words_.size() - kLastWords);
    } else if (waits[1].revents != 0) {
      return;
    }
  }
}

std::optional<std::string> Launch::Ended() {
  if (pid_ > 0) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
    pid_ = 0;
    end_ = WIFSIGNALED(status) ? fmt::format("the launcher was killed by signal {}", WTERMSIG(status))
                               : fmt::format("the launcher ended with code {}", WEXITSTATUS(status));
  }
  std::lock_guard lock(mutex_);
  return last_words_.empty() ? end_ : end_ + "; last words: " + last_words_;
}

pid_t Launch::Stopped() const {
  for (const pid_t pid : ProcessesOf(launch_id_)) {
    std::ifstream file(fs::path("/proc") / std::to_string(pid) / "stat");
    std::string stat;
    std::getline(file, stat);
    const size_t name_end = stat.rfind(") ");  // the name may hold anything
    if (name_end != std::string::npos && name_end + 2 < stat.size() && stat[name_end + 2] == 'T') return pid;
  }
  return 0;
}

void Launch::Fence(Deadline deadline) {
  if (pid_ > 0) kill(-pid_, SIGKILL);
  for (;;) {
    const std::vector<pid_t> left = ProcessesOf(launch_id_);
    for (const pid_t pid : left) kill(pid, SIGKILL);
    if (left.empty() && Ended()) break;
    if (deadline.Expired()) {
      Log()->error("launch {}: {} processes still live {:.0f} s after SIGKILL", launch_id_, left.size(),
                   deadline.budget.count());
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  files_.Remove();
}

}  // namespace atl::coordinator
