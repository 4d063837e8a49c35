// Real ranks under the cluster: they come up and run steps; whatever is killed, the next epoch comes and nothing stays.
#include "coordinator/cluster/cluster.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <sstream>
#include <thread>

namespace atl::coordinator {
namespace {

constexpr char kCheckpoint[] = ATOLL_SOURCE_DIR "/models/checkpoints/tiny-deepseek-v3";
constexpr Seconds kPatience{20};

// Keeps what the cluster reports; waits for it.
class Recorder : public ExecutorListener {
 public:
  void OnReady(uint64_t epoch) override {
    Change([&] { ready_ = epoch; });
  }
  void OnResult(v1::StepResult result) override {
    Change([&] { results_.push_back(std::move(result)); });
  }
  void OnLost(uint64_t, const std::string& reason) override {
    Change([&] { losses_.push_back(reason); });
  }
  bool AwaitReady(uint64_t epoch) {
    return Await([=, this] { return ready_ >= epoch; });
  }
  bool AwaitLosses(size_t count) {
    return Await([=, this] { return losses_.size() >= count; });
  }
  std::vector<v1::StepResult> AwaitResults(size_t count) {
    EXPECT_TRUE(Await([=, this] { return results_.size() >= count; }));
    std::lock_guard lock(mutex_);
    return std::exchange(results_, {});
  }
  uint64_t ready() {
    std::lock_guard lock(mutex_);
    return ready_;
  }
  std::vector<std::string> losses() {
    std::lock_guard lock(mutex_);
    return losses_;
  }

 private:
  void Change(const std::function<void()>& change) {
    std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  bool Await(const std::function<bool()>& done) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, Deadline::After(kPatience).at, done);
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t ready_ = 0;
  std::vector<v1::StepResult> results_;
  std::vector<std::string> losses_;
};

ClusterOptions Options(Transport transport) {
  ClusterOptions options;
  options.model_path = kCheckpoint;
  options.spec = models::ReadModelSpec(kCheckpoint).value();
  options.shape = {.topology = {.world = 4, .tp = 2}, .numerics = {}, .kv_blocks = 8, .max_batch_tokens = 64};
  options.placement = parallel::ExpertPlacement::Contiguous(static_cast<int>(options.spec.moe->experts), 4);
  options.transport = transport;
  options.worker_binary = ATOLL_BIN_DIR "/atoll-worker";
  options.silence_timeout = Seconds(1.5);
  options.heartbeat_interval = Seconds(0.2);
  options.max_failed_launches = 3;
  return options;
}

// Live processes whose arguments contain `text` (zombies have none).
std::vector<pid_t> ProcessesWith(const std::string& text) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0) continue;
    std::ifstream file(entry.path() / "cmdline", std::ios::binary);
    std::stringstream arguments;
    arguments << file.rdbuf();
    if (arguments.str().find(text) != std::string::npos) found.push_back(pid);
  }
  return found;
}

class ClusterTest : public testing::TestWithParam<Transport> {
 protected:
  void StartCluster(const ClusterOptions& options) {
    auto created = Cluster::Create(options);
    ASSERT_TRUE(created.ok()) << created.status();
    cluster_ = std::move(*created);
    cluster_->Start(&recorder_);
  }
  // One step of both groups: group 0 runs a prompt, group 1 nothing.
  v1::SequenceOutput RunPrompt(uint64_t epoch) {
    std::vector<v1::StepPlan> plans(2);
    for (uint32_t group = 0; group < 2; ++group) {
      plans[group].set_epoch(epoch);
      plans[group].set_step(1);
      plans[group].set_group(group);
    }
    v1::NewSequence* added = plans[0].add_added();
    added->set_id(1);
    for (const int id : {5, 77, 300, 12, 9, 41}) added->add_prompt_ids(id);
    v1::SequenceRows* rows = plans[0].add_rows();
    rows->set_id(1);
    rows->set_rows(6);
    rows->set_sample(true);
    rows->add_new_blocks(2);
    cluster_->executor()->Execute(plans);
    v1::SequenceOutput output;
    for (const v1::StepResult& result : recorder_.AwaitResults(2)) {
      EXPECT_EQ(result.epoch(), epoch);
      if (result.group() == 0 && result.outputs_size() == 1) output = result.outputs(0);
    }
    EXPECT_EQ(output.tokens_size(), 1);
    return output;
  }
  std::string Ranks() const { return "127.0.0.1:" + std::to_string(cluster_->control_port()); }
  void TearDown() override {
    if (!cluster_) return;
    const std::string ranks = Ranks();
    cluster_->Shutdown(Deadline::After(Seconds(10)));
    EXPECT_TRUE(ProcessesWith(ranks).empty()) << "processes outlive their cluster";
  }
  // Waits for the first epoch and asks it what every later one must answer as well.
  void AwaitFirstAnswer() {
    ASSERT_TRUE(recorder_.AwaitReady(1));
    answer_ = RunPrompt(1).SerializeAsString();
  }
  // Hurts the running epoch and expects a new one that gives the same answer.
  void SurvivesEpochEnd(const std::function<void()>& hurt) {
    const uint64_t epoch = recorder_.ready();
    const std::vector<pid_t> old = ProcessesWith(Ranks());
    hurt();
    ASSERT_TRUE(recorder_.AwaitReady(epoch + 1));
    for (const pid_t pid : ProcessesWith(Ranks())) {
      EXPECT_EQ(std::count(old.begin(), old.end(), pid), 0) << "process " << pid << " of the lost epoch still lives";
    }
    EXPECT_EQ(recorder_.losses().size(), epoch);
    EXPECT_EQ(RunPrompt(epoch + 1).SerializeAsString(), answer_);
  }

  std::string answer_;
  Recorder recorder_;
  std::unique_ptr<Cluster> cluster_;
};

TEST_P(ClusterTest, KilledAndStoppedRanksCostAnEpoch) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(Options(GetParam())));
  ASSERT_NO_FATAL_FAILURE(AwaitFirstAnswer());
  ASSERT_NO_FATAL_FAILURE(SurvivesEpochEnd([&] { kill(cluster_->status().pids[3], SIGKILL); }));
  ASSERT_NO_FATAL_FAILURE(SurvivesEpochEnd([&] { kill(cluster_->status().pids[2], SIGSTOP); }));
  EXPECT_NE(recorder_.losses().back().find("silent"), std::string::npos) << recorder_.losses().back();
}

TEST_P(ClusterTest, KilledLauncherLeavesNoOrphan) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(Options(GetParam())));
  ASSERT_NO_FATAL_FAILURE(AwaitFirstAnswer());
  SurvivesEpochEnd([&] {
    for (const pid_t pid : ProcessesWith(Ranks())) {
      std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
      std::string name;
      file >> name;
      if (name != "atoll-worker" || GetParam() == Transport::kInproc) kill(pid, SIGKILL);
    }
  });
}

TEST_P(ClusterTest, KillsWhileLoadingDelayTheEpoch) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(Options(GetParam())));
  const Deadline deadline = Deadline::After(kPatience);
  int64_t victim = 0;
  while (victim == 0 && !deadline.Expired()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (const ClusterStatus status = cluster_->status(); !status.pids.empty()) victim = status.pids[1];
  }
  ASSERT_GT(victim, 0);
  kill(static_cast<pid_t>(victim), SIGKILL);
  ASSERT_TRUE(recorder_.AwaitReady(2));
  RunPrompt(2);
}

// A process stopped so early has never been heard of: no heartbeat of it can be missed.
TEST_P(ClusterTest, StoppedBeforeItRegistersDelaysTheEpoch) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(Options(GetParam())));
  const Deadline deadline = Deadline::After(kPatience);
  pid_t victim = 0;
  while (victim == 0 && !deadline.Expired()) {
    const std::vector<pid_t> processes = ProcessesWith(Ranks());
    if (!processes.empty()) victim = processes.back();
  }
  ASSERT_GT(victim, 0);
  ASSERT_EQ(kill(victim, SIGSTOP), 0);
  ASSERT_TRUE(recorder_.AwaitReady(2));
  RunPrompt(2);
}

TEST_P(ClusterTest, GivesUpWhenNoLaunchSucceeds) {
  ClusterOptions options = Options(GetParam());
  options.worker_binary = "/bin/false";
  ASSERT_NO_FATAL_FAILURE(StartCluster(options));
  ASSERT_TRUE(recorder_.AwaitLosses(1));
  EXPECT_NE(recorder_.losses()[0].find("gave up after 3"), std::string::npos) << recorder_.losses()[0];
  EXPECT_TRUE(cluster_->status().gave_up);
  EXPECT_EQ(recorder_.ready(), 0u);
}

TEST_P(ClusterTest, GivesUpAtOnceWhenTheModelIsWrong) {
  ClusterOptions options = Options(GetParam());
  options.model_path = "/nonexistent";
  ASSERT_NO_FATAL_FAILURE(StartCluster(options));
  ASSERT_TRUE(recorder_.AwaitLosses(1));
  EXPECT_NE(recorder_.losses()[0].find("gave up after 1"), std::string::npos) << recorder_.losses()[0];
  EXPECT_NE(recorder_.losses()[0].find("/nonexistent"), std::string::npos) << recorder_.losses()[0];
  EXPECT_TRUE(cluster_->status().gave_up);
}

INSTANTIATE_TEST_SUITE_P(Transports, ClusterTest, testing::Values(Transport::kInproc, Transport::kMpi),
                         [](const auto& info) { return info.param == Transport::kMpi ? "mpi" : "inproc"; });

}  // namespace
}  // namespace atl::coordinator
