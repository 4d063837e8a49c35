// A step like the ones before it allocates nothing on any rank: every operator new of this process is counted while
// engines run the steps of a prompt's later chunks and of decoding, from the plan to the result.
//
// Outside of it is control. Plans are decoded before the step, and a worker makes the message of each result anew; here
// one message is kept, whose fields have their memory after the first steps. What a plan brings makes room for itself:
// a sequence, its blocks, the tokens that these lead to. All sequences and blocks come with the first plan here.
#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

#include "parallel/backends.h"
#include "worker/engine.h"

namespace {

// While `counting`: how many allocations, and where the first one was.
std::atomic<bool> counting = false;
std::atomic<int64_t> allocations = 0;
constinit std::array<void*, 24> first_frames{};
constinit int first_depth = 0;

void* Allocate(size_t bytes, size_t alignment) {
  if (counting && allocations++ == 0) first_depth = backtrace(first_frames.data(), first_frames.size());
  const size_t whole = (bytes + alignment - 1) / alignment * alignment;
  void* const memory = alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__ ? std::malloc(std::max<size_t>(bytes, 1))
                                                                     : std::aligned_alloc(alignment, whole);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// Functions and lines of this program on the way to the first allocation, by addr2line where there is one.
std::string FirstAllocation() {
  Dl_info program{};
  dladdr(reinterpret_cast<void*>(&Allocate), &program);
  std::string command = fmt::format("addr2line -Cfpis -e {}", program.dli_fname), plain, lines;
  for (int i = 1; i < first_depth; ++i) {
    Dl_info info{};
    if (dladdr(first_frames[i], &info) == 0 || info.dli_fbase != program.dli_fbase) continue;
    const auto offset = static_cast<char*>(first_frames[i]) - static_cast<char*>(info.dli_fbase) - 1;
    plain += fmt::format("{}+{:#x}\n", program.dli_fname, offset);
    command += fmt::format(" {:#x}", offset);
  }
  if (FILE* const pipe = popen((command + " 2>&1").c_str(), "r")) {
    char text[512];
    while (std::fgets(text, sizeof(text), pipe) != nullptr) lines += text;
    pclose(pipe);
  }
  return lines.find(".cc:") != std::string::npos ? lines : plain;
}

}  // namespace

void* operator new(size_t bytes) { return Allocate(bytes, 1); }
void* operator new(size_t bytes, std::align_val_t alignment) { return Allocate(bytes, static_cast<size_t>(alignment)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace atl::worker {
namespace {

const std::string kTiny = ATOLL_SOURCE_DIR "/models/checkpoints/tiny-deepseek-v3";
const std::string kGolden = ATOLL_SOURCE_DIR "/tests/golden/";

struct Job {
  std::string path;
  const char* weights;
  const char* profile;
  parallel::Topology topology;
  int threads;
};

constexpr int kChunk = 16, kPrompt = 4 * kChunk, kOther = 8, kSteps = 24;

// Whether a step like this one has been twice before: the third chunk of the prompt; decoding, some steps on.
bool IsCounted(int step) { return step == 3 || step > 10; }

int32_t Id(int position) { return position * 7 % 100 + 3; }

void AddSequence(v1::StepPlan* plan, uint64_t id, int prompt, const v1::Sampling& sampling) {
  v1::NewSequence* added = plan->add_added();
  added->set_id(id);
  for (int i = 0; i < prompt; ++i) added->add_prompt_ids(Id(i));
  *added->mutable_sampling() = sampling;
}

void AddRows(v1::StepPlan* plan, uint64_t id, int position, int rows, bool sample) {
  v1::SequenceRows* added = plan->add_rows();
  added->set_id(id);
  added->set_position(position);
  added->set_rows(rows);
  added->set_sample(sample);
}

// Sequence 1: a prompt in four chunks, then decoding by the best token. Sequences 2 and 3: decoding from step 2 on,
// with all that sampling knows.
std::vector<v1::StepPlan> Plans(uint32_t group, int64_t line) {
  std::vector<v1::StepPlan> plans(kSteps);
  v1::Sampling sampling;
  sampling.set_temperature(0.8f);
  sampling.set_top_p(0.9f);
  sampling.set_top_k(50);
  sampling.set_repetition_penalty(1.1f);
  sampling.set_presence_penalty(0.1f);
  sampling.set_top_logprobs(3);
  AddSequence(plans.data(), 1, kPrompt, {});
  AddSequence(plans.data(), 2, kOther, sampling);
  AddSequence(plans.data(), 3, kOther, sampling);
  for (int i = 0; i < kSteps; ++i) {
    v1::StepPlan& plan = plans[i];
    plan.set_epoch(1);
    plan.set_step(i + 1);
    plan.set_group(group);
    for (const uint64_t id : {2, 3}) AddRows(&plan, id, i == 0 ? 0 : kOther + i - 1, i == 0 ? kOther : 1, true);
    const int begin = i * kChunk;
    if (begin < kPrompt) {
      AddRows(&plan, 1, begin, kChunk, begin + kChunk == kPrompt);
    } else {
      AddRows(&plan, 1, kPrompt + i - kPrompt / kChunk, 1, true);
    }
  }
  int32_t block = 0;
  for (v1::SequenceRows& rows : *plans[0].mutable_rows()) {
    for (int64_t i = 0; i < 2 * line; ++i) rows.add_new_blocks(block++);
  }
  return plans;
}

// Runs all steps on one rank. `together` is where all ranks meet before each of them.
template <typename Barrier>
absl::Status RunRank(const Job& job, int rank, parallel::Communicator& world, Barrier& together) {
  parallel::ParallelContext context{.topology = job.topology, .rank = rank, .world = &world};
  ATOLL_ASSIGN_OR_RETURN(const auto group,
                         world.Subgroup(job.topology.RanksOf(context.group()), context.NextDeadline()));
  context.tp_group = group.get();
  models::LoadOptions load;
  load.path = job.path;
  load.threads = job.threads;
  ATOLL_ASSIGN_OR_RETURN(load.spec, models::ReadModel(job.path));
  ATOLL_ASSIGN_OR_RETURN(load.spec.kept, models::KeptFormats::Named(job.weights, ""));
  load.shape = {.topology = job.topology, .numerics = {}, .kv_blocks = 8, .max_batch_tokens = 64};
  ATOLL_ASSIGN_OR_RETURN(load.shape.numerics, models::NumericsNamed(job.profile));
  const int experts = load.spec.moe ? static_cast<int>(load.spec.moe->experts) : job.topology.world;
  load.placement = parallel::ExpertPlacement::Contiguous(experts, job.topology.world);
  ATOLL_ASSIGN_OR_RETURN(const auto model, models::LoadModel(load, context, [](int64_t, int64_t) {}));
  EngineStatus status;
  Engine engine({.epoch = 1, .sample_vocab = load.spec.vocab}, *model, context, &status);
  const std::vector<v1::StepPlan> plans = Plans(context.group(), models::KvLayoutOf(load.spec).line);
  v1::StepResult result;
  for (const v1::StepPlan& plan : plans) {
    together.arrive_and_wait();
    ATOLL_RETURN_IF_ERROR(engine.Step(plan, &result));
    if (result.outputs_size() != plan.rows_size()) return Internal("{} outputs", result.outputs_size());
  }
  together.arrive_and_wait();
  return absl::OkStatus();
}

class Allocations : public testing::TestWithParam<Job> {};

TEST_P(Allocations, AStepLikeThoseBeforeMakesNone) {
  const Job& job = GetParam();
  const int ranks = job.topology.world;
  backtrace(first_frames.data(), first_frames.size());  // its first call allocates
  allocations = 0;
  int step = 0;
  std::barrier together(ranks, [&]() noexcept { counting = ++step <= kSteps && IsCounted(step); });
  const auto world = parallel::InprocWorld(ranks, 1);
  std::vector<absl::Status> ends(ranks);
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        ends[rank] = RunRank(job, rank, *world[rank], together);
        if (ends[rank].ok()) return;
        world[rank]->Revoke("a rank failed");
        together.arrive_and_drop();
      });
    }
  }
  counting = false;
  for (const absl::Status& end : ends) EXPECT_TRUE(end.ok()) << end;
  EXPECT_EQ(allocations, 0) << "the first one:\n" << FirstAllocation();
}

// That they are found at all.
TEST(Counting, SeesAnAllocation) {
  allocations = 0;
  counting = true;
  constexpr std::align_val_t kAligned{64};
  operator delete(operator new(8));
  operator delete(operator new(8, kAligned), kAligned);
  counting = false;
  EXPECT_EQ(allocations, 2);
  EXPECT_NE(FirstAllocation().find("allocations_test"), std::string::npos);
}

std::vector<Job> Jobs() {
  std::vector<Job> jobs;
  for (const parallel::Topology topology : {parallel::Topology{1, 1}, {2, 1}, {2, 2}}) {
    for (const int threads : {1, 2}) {
      for (const char* weights : {"", "int4"}) jobs.push_back({kTiny, weights, "bf16", topology, threads});
    }
  }
  for (const char* name : {"deepseek_v3-fp8", "qwen3_moe", "gemma3n", "gpt2", "olmo2", "llama4_scout"}) {
    jobs.push_back({kGolden + name, "", "f32-kv8", {2, 2}, 2});
  }
  return jobs;
}

std::string NameOf(const testing::TestParamInfo<Job>& info) {
  const Job& job = info.param;
  std::string name = fmt::format("{}{}_{}_ranks{}_tp{}_threads{}", job.path.substr(job.path.rfind('/') + 1),
                                 job.weights, job.profile, job.topology.world, job.topology.tp, job.threads);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Models, Allocations, testing::ValuesIn(Jobs()), NameOf);

}  // namespace
}  // namespace atl::worker
