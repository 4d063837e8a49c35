#include "coordinator/cli/bench_engine.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "coordinator/cli/bench_machine.h"
#include "coordinator/cli/running_cluster.h"

namespace atl::coordinator {
namespace {

using Clock = std::chrono::steady_clock;
constexpr Seconds kPatience{600};  // without a token

struct SeenStep {
  Clock::time_point at;
  double seconds = 0;
  v1::StepCosts costs;
  size_t rows = 0;  // sequences that got a token
  size_t sequences = 0;
};

// Passes everything on to the engine and keeps what a step cost.
class Tap : public ExecutorListener {
 public:
  explicit Tap(ExecutorListener* engine) : engine_(engine) {}
  void OnReady(uint64_t epoch) override { engine_->OnReady(epoch); }
  void OnResult(v1::StepResult result) override {
    if (result.group() == 0) {
      SeenStep step{.at = Clock::now(), .seconds = result.seconds(), .costs = result.costs()};
      step.sequences = result.outputs_size();
      for (const v1::SequenceOutput& output : result.outputs()) {
        if (output.tokens_size() == 1) ++step.rows;
      }
      std::lock_guard lock(mutex_);
      steps_.push_back(std::move(step));
    }
    engine_->OnResult(std::move(result));
  }
  void OnLost(uint64_t epoch, const std::string& reason) override { engine_->OnLost(epoch, reason); }

  std::vector<SeenStep> Take() {
    std::lock_guard lock(mutex_);
    return std::exchange(steps_, {});
  }

 private:
  ExecutorListener* const engine_;
  std::mutex mutex_;
  std::vector<SeenStep> steps_;
};

void AddCosts(const SeenStep& step, BenchRow* row) {
  const v1::StepCosts& c = step.costs;
  const double phases[] = {c.attention(), c.router(), c.dispatch(), c.experts(), c.combine(),
                           c.mlp(),       c.head(),   c.sampling(), c.other()};
  for (size_t i = 0; i < row->phase_seconds.size(); ++i) row->phase_seconds[i] += phases[i];
  row->step_seconds += step.seconds;
  row->weight_bytes += static_cast<double>(c.weight_bytes());
  row->operations += static_cast<double>(c.operations());
}

// Sums over `steps` become means.
void Mean(double steps, BenchRow* row) {
  for (double& seconds : row->phase_seconds) seconds /= steps;
  row->step_seconds /= steps;
  row->weight_bytes /= steps;
  row->operations /= steps;
}

class Bench {
 public:
  Bench(const BenchEngineFlags& flags, const ClusterOptions& options, Engine* engine, Tap* tap)
      : flags_(flags), options_(options), engine_(engine), tap_(tap) {}

  absl::StatusOr<BenchRow> Prompt(int64_t length) {
    BenchRow best;
    for (int64_t repeat = 0; repeat < flags_.repeats; ++repeat) {
      tap_->Take();
      const auto start = Clock::now();
      ATOLL_ASSIGN_OR_RETURN(const auto stream, Submit(length, 1));
      ATOLL_RETURN_IF_ERROR(AwaitToken(stream.get()));
      BenchRow row{.name = fmt::format("prompt {}", length),
                   .tokens = length,
                   .seconds = std::chrono::duration<double>(Clock::now() - start).count()};
      const std::vector<SeenStep> steps = tap_->Take();
      for (const SeenStep& step : steps) AddCosts(step, &row);
      row.limit_seconds = row.operations;  // of all steps; RunBenchEngine divides by the peak
      Mean(static_cast<double>(steps.size()), &row);
      if (repeat == 0 || row.seconds < best.seconds) best = row;
    }
    return best;
  }

  // `prompt` tokens each, so that `decode` steps exist in which all of them decode.
  absl::StatusOr<BenchRow> Decode(int64_t batch, int64_t prompt) {
    tap_->Take();
    const int64_t prompt_steps =
        (batch * prompt + options_.shape.max_batch_tokens - 1) / options_.shape.max_batch_tokens;
    std::vector<std::shared_ptr<TokenStream>> streams;
    for (int64_t i = 0; i < batch; ++i) {
      ATOLL_ASSIGN_OR_RETURN(streams.emplace_back(), Submit(prompt, TokensFor(prompt_steps, batch)));
    }
    std::vector<SeenStep> full;
    const auto deadline = Deadline::After(kPatience);
    while (static_cast<int64_t>(full.size()) < flags_.decode + 1) {
      for (const auto& stream : streams) {
        while (const std::optional<Delta> delta = stream->TryPop()) ATOLL_RETURN_IF_ERROR(delta->status);
      }
      for (SeenStep& step : tap_->Take()) {
        const bool counts = step.rows == static_cast<size_t>(batch / options_.shape.topology.groups()) &&
                            step.sequences == step.rows && step.costs.operations() > 0;
        if (counts) full.push_back(std::move(step));
      }
      if (deadline.Expired()) {
        return DeadlineExceeded("decoding {} streams took more than {} s", batch, kPatience.count());
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the cores are the ranks'
    }
    for (const auto& stream : streams) stream->Close();
    while (engine_->stats().running + engine_->stats().waiting > 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    BenchRow row{.name = fmt::format("decode {}", batch)};
    for (size_t i = 1; i < full.size(); ++i) AddCosts(full[i], &row);
    const auto steps = static_cast<double>(full.size() - 1);
    row.tokens = batch * static_cast<int64_t>(full.size() - 1);
    row.seconds = std::chrono::duration<double>(full.back().at - full.front().at).count();
    row.limit_seconds = row.weight_bytes;
    Mean(steps, &row);
    return row;
  }

  // A request needs tokens for its decode steps and for those in which others still read their prompts.
  int64_t TokensFor(int64_t prompt_steps, int64_t batch) const {
    return flags_.decode + 2 * prompt_steps + batch / 8 + 8;
  }

 private:
  absl::StatusOr<std::shared_ptr<TokenStream>> Submit(int64_t prompt, int64_t tokens) {
    Request request;
    request.id = fmt::format("bench-{}", next_);
    for (int64_t i = 0; i < prompt; ++i) {
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      request.prompt_ids.push_back(static_cast<int32_t>((random_ >> 33) % options_.spec.vocab));
    }
    ++next_;
    request.max_tokens = tokens;
    request.ignore_eos = true;
    return engine_->Submit(std::move(request));
  }

  static absl::Status AwaitToken(TokenStream* stream) {
    while (true) {
      ATOLL_ASSIGN_OR_RETURN(const Delta delta, stream->Pop(Deadline::After(kPatience)));
      ATOLL_RETURN_IF_ERROR(delta.status);
      if (!delta.tokens.empty() || delta.last()) return absl::OkStatus();
    }
  }

  const BenchEngineFlags& flags_;
  const ClusterOptions& options_;
  Engine* const engine_;
  Tap* const tap_;
  uint64_t random_ = 88172645463325252u;
  int next_ = 0;
};

absl::Status Check(const BenchEngineFlags& flags) {
  for (const auto& [name, values] : {std::pair("--prompt", &flags.prompts), {"--batch", &flags.batches}}) {
    if (values->empty() || *std::min_element(values->begin(), values->end()) < 1) {
      return InvalidArgument("{} wants numbers of at least 1, like 1,16", name);
    }
  }
  if (flags.decode < 1) return InvalidArgument("--decode is {}; at least 1 is needed", flags.decode);
  for (const int64_t batch : flags.batches) {
    if (batch % (flags.cluster.ranks / std::max(flags.cluster.tp, 1)) != 0) {
      return InvalidArgument("--batch {} is not even over {} attention groups", batch,
                             flags.cluster.ranks / flags.cluster.tp);
    }
  }
  return absl::OkStatus();
}

absl::Status AddLimits(const BenchEngineFlags& flags, BenchReport* report) {
  if (flags.memory_gib <= 0) return absl::OkStatus();
  BenchMachineOptions machine{.ranks = 1, .transport = "inproc", .memory_gib = flags.memory_gib};
  machine.threads = flags.cluster.threads * flags.cluster.ranks;
  ATOLL_ASSIGN_OR_RETURN(const std::string text, MeasureMachine(machine));
  const nlohmann::json limits = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!limits.is_object()) return Internal("atoll-worker --measure printed \"{}\"", text.substr(0, 200));
  const nlohmann::json& operations = limits["operations_per_s"];
  const auto raise = [](double* limit, double measured) { *limit = std::max(*limit, measured); };
  raise(&report->read_bytes_per_s, limits["read_bytes_per_s"].value("all", 0.0));
  raise(&report->int8_per_s, std::max(operations.value("int8", 0.0), operations.value("int8 tiles", 0.0)));
  raise(&report->f32_per_s, operations.value("f32", 0.0));
  return absl::OkStatus();
}

}  // namespace

absl::Status RunBenchEngine(BenchEngineFlags flags) {
  if (flags.config.empty() == flags.cluster.model.empty()) return InvalidArgument("give one of --config and --model");
  if (!flags.config.empty()) {
    flags.cluster.model = flags.config;
    flags.cluster.dummy_weights = true;
  }
  ATOLL_RETURN_IF_ERROR(Check(flags));
  const int64_t longest = *std::max_element(flags.prompts.begin(), flags.prompts.end());
  const int64_t most = *std::max_element(flags.batches.begin(), flags.batches.end());
  // What all streams of the largest batch need, and the longest prompt alone.
  const int64_t first = flags.prompts[0], steps = most * first / flags.cluster.max_batch_tokens + 1;
  const int64_t tokens = first + flags.decode + 2 * steps + most / 8 + 8;
  const int64_t block = models::kKvBlockTokens;
  flags.cluster.kv_tokens = std::max((tokens + block - 1) / block * block * most, longest + 2 * block);
  ATOLL_ASSIGN_OR_RETURN(const ClusterOptions options, ToClusterOptions(flags.cluster));
  BenchReport report{.model = std::filesystem::path(flags.cluster.model).filename().string(),
                     .weights = flags.cluster.weights.empty() ? "as stored" : flags.cluster.weights,
                     .profile = flags.cluster.profile,
                     .ranks = flags.cluster.ranks,
                     .tp = flags.cluster.tp,
                     .expert_slices = flags.cluster.expert_slices,
                     .threads = flags.cluster.threads};
  if (!flags.cluster.head_weights.empty()) report.weights += ", head " + flags.cluster.head_weights;
  report.bytes_on_rank_0 = models::PlanRankMemory(options.spec, options.shape, 0, options.placement).weight_bytes();
  ATOLL_RETURN_IF_ERROR(AddLimits(flags, &report));

  EngineOptions engine;
  engine.scheduler = ToSchedulerOptions(options);
  engine.stream_bound = 1 << 16;
  ATOLL_ASSIGN_OR_RETURN(const auto running, RunningCluster::Create(options, std::move(engine), nullptr));
  Tap tap(running->engine().listener());
  running->Launch(&tap);
  ATOLL_RETURN_IF_ERROR(running->WaitReady());
  Bench bench(flags, options, &running->engine(), &tap);
  const auto progress = [&](const std::string& what) { std::fprintf(stderr, "measuring %s\n", what.c_str()); };
  for (const int64_t prompt : flags.prompts) {
    progress(fmt::format("a prompt of {}", prompt));
    ATOLL_ASSIGN_OR_RETURN(report.rows.emplace_back(), bench.Prompt(prompt));
  }
  for (const int64_t batch : flags.batches) {
    progress(fmt::format("decoding {} streams", batch));
    ATOLL_ASSIGN_OR_RETURN(report.rows.emplace_back(), bench.Decode(batch, first));
  }
  // Again: with neighbours a machine gives now more, now less, and a limit is the most that was seen.
  ATOLL_RETURN_IF_ERROR(AddLimits(flags, &report));
  const double peak = options.spec.kept.packed() ? report.int8_per_s : report.f32_per_s;
  for (size_t i = 0; i < report.rows.size(); ++i) {
    const double rate = i < flags.prompts.size() ? peak : report.read_bytes_per_s / flags.cluster.ranks;
    report.rows[i].limit_seconds = rate > 0 ? report.rows[i].limit_seconds / rate : 0;
  }
  std::fputs((flags.json ? ToJson(report) : ToText(report)).c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace atl::coordinator
