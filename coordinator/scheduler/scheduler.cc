#include "coordinator/scheduler/scheduler.h"

#include <deque>
#include <map>
#include <unordered_map>

#include "coordinator/scheduler/sequence_state.h"

namespace atl::coordinator {
namespace {

// An epoch may be lost twice under a sequence: then it is suspected of causing it and runs alone; a third time ends it.
constexpr int kCrashesToSuspect = 2;
constexpr int kCrashesToFail = 3;

using ByArrival = std::map<uint64_t, SequenceState*>;

struct Group {
  BlockManager blocks;
  ByArrival running;
  std::vector<uint64_t> removed;  // for the next plan
};

struct PlannedRows {
  uint64_t id;
  int64_t position, rows;
  bool sample;
};

struct StepInFlight {
  uint64_t step = 0;
  int results_missing = 0;
  std::vector<std::vector<PlannedRows>> rows;  // [groups]
};

}  // namespace

class Scheduler::Impl {
 public:
  explicit Impl(const SchedulerOptions& options) : options_(options) {
    ATOLL_CHECK(options.groups > 0 && options.kv_block_tokens > 0 && options.max_batch_tokens > 0 &&
                    options.max_sequences > 0 && options.max_steps_in_flight > 0,
                "groups {}, block tokens {}, batch tokens {}, sequences {}, steps in flight {}", options.groups,
                options.kv_block_tokens, options.max_batch_tokens, options.max_sequences, options.max_steps_in_flight);
    // Every running sequence gets its row in every step.
    options_.max_sequences = std::min(options.max_sequences, options.max_batch_tokens);
    for (int g = 0; g < options.groups; ++g) {
      groups_.push_back({BlockManager(options.kv_blocks, options.kv_groups, options.kv_block_tokens), {}, {}});
    }
  }

  absl::Status Add(Sequence sequence) {
    const uint64_t id = sequence.id;
    SequenceState state;
    state.spec = std::move(sequence);
    state.order = next_order_++;
    if (state.prompt() == 0) return InvalidArgument("the prompt is empty; give at least one token");
    if (const int64_t least = BlocksHeld(0, state.max_rows(), 1); least > options_.kv_blocks) {
      return InvalidArgument(
          "prompt of {} tokens and {} to emit need {} KV blocks of {} tokens, and a group has {}; shorten them",
          state.prompt(), state.spec.max_tokens, least, options_.kv_block_tokens, options_.kv_blocks);
    }
    const auto [place, fresh] = sequences_.try_emplace(id, std::move(state));
    ATOLL_CHECK(fresh, "sequence {} is added a second time", id);
    waiting_[place->second.order] = &place->second;
    return absl::OkStatus();
  }

  void Remove(uint64_t id) {
    const auto found = sequences_.find(id);
    if (found == sequences_.end()) return;
    if (found->second.running()) StopRunning(&found->second);
    waiting_.erase(found->second.order);
    sequences_.erase(found);
  }

  void SetPaused(uint64_t id, bool paused) {
    if (const auto found = sequences_.find(id); found != sequences_.end()) found->second.paused = paused;
  }

  std::optional<std::vector<v1::StepPlan>> PlanStep();
  std::vector<Emitted> OnResult(const v1::StepResult& result);

  void Reset(uint64_t epoch) {
    ForgetRanks();
    epoch_ = epoch;
    active_ = true;
  }

  void Lost() {
    const SequenceState* suspect = Suspect();
    for (auto& [id, sequence] : sequences_) {
      // One that ran alone takes all the blame; those that were only kept waiting for it take none.
      const bool blamed = suspect == nullptr || suspect == &sequence;
      const bool at_risk = sequence.running() && !sequence.paused && blamed;
      if (sequence.steps_ahead > 0 || at_risk) ++sequence.crashes;
    }
    ForgetRanks();
    active_ = false;
    for (auto it = sequences_.begin(); it != sequences_.end();) {
      const auto next = std::next(it);
      if (it->second.crashes >= kCrashesToFail) {
        failed_.push_back(it->first);
        Remove(it->first);
      }
      it = next;
    }
  }

  std::vector<uint64_t> TakeFailed() { return std::exchange(failed_, {}); }

  SchedulerStats stats() const {
    SchedulerStats stats{.preemptions = preemptions_};
    for (const auto& [id, sequence] : sequences_) {
      ++(sequence.paused ? stats.paused : sequence.running() ? stats.running : stats.waiting);
    }
    for (const Group& group : groups_) {
      stats.free_blocks += group.blocks.free();
      stats.blocks += group.blocks.count();
    }
    return stats;
  }

 private:
  // A step while it is planned.
  struct Draft {
    std::vector<v1::StepPlan> plans;  // [groups]
    std::vector<int64_t> budget;      // [groups] rows that still fit
    StepInFlight record;
    SequenceState* alone = nullptr;  // if set, nothing else gets rows
  };

  // Blocks that a sequence holds at most while positions [from, to) run.
  int64_t BlocksHeld(int64_t from, int64_t to, int64_t step) const {
    return models::KvBlocksHeld(options_.kv_groups, options_.kv_block_tokens, from, to, step);
  }
  int64_t MaxRows() const {  // of one sequence in one step
    const int64_t chunk = options_.max_prompt_chunk;
    return chunk > 0 ? std::min(chunk, options_.max_batch_tokens) : options_.max_batch_tokens;
  }
  // What it will hold until the tokens it already has are run.
  int64_t BlocksWanted(const SequenceState& sequence) const {
    return std::max(BlocksHeld(sequence.position, sequence.length(), MaxRows()), sequence.table.held);
  }

  // The oldest sequence that must run alone. While its own client makes it wait, the others may run.
  SequenceState* Suspect() {
    SequenceState* oldest = nullptr;
    for (auto& [id, sequence] : sequences_) {
      if (sequence.crashes < kCrashesToSuspect || sequence.paused) continue;
      if (!oldest || sequence.order < oldest->order) oldest = &sequence;
    }
    return oldest;
  }

  bool InFlightBesides(const SequenceState& alone) const {
    for (const StepInFlight& step : in_flight_) {
      for (const auto& rows : step.rows) {
        for (const PlannedRows& planned : rows) {
          if (planned.id != alone.spec.id) return true;
        }
      }
    }
    return false;
  }

  void StopRunning(SequenceState* sequence) {
    Group& group = groups_[sequence->group];
    group.blocks.Give(&sequence->table);
    group.running.erase(sequence->order);
    group.removed.push_back(sequence->spec.id);
    sequence->group = -1;
    sequence->position = 0;
  }

  void Preempt(SequenceState* sequence) {
    StopRunning(sequence);
    waiting_[sequence->order] = sequence;
    ++preemptions_;
  }

  // Frees blocks for `wanting`: those whose clients make them wait give up first, then whoever came last, but never
  // one that came before `wanting` or has rows in this step. False if there is nobody.
  bool PreemptFor(const SequenceState& wanting, const Draft& draft) {
    SequenceState* victim = nullptr;
    for (auto& [order, other] : groups_[wanting.group].running) {
      if (other == &wanting || other->last_step == draft.record.step) continue;
      const bool yields = other->paused || draft.alone != nullptr || order > wanting.order;
      if (yields && (!victim || other->paused || !victim->paused)) victim = other;
    }
    if (victim) Preempt(victim);
    return victim != nullptr;
  }

  // Blocks of a group that no running sequence will need for the tokens it already has.
  int64_t Room(const Group& group) const {
    int64_t room = group.blocks.free();
    for (const auto& [order, sequence] : group.running) {
      room -= BlocksWanted(*sequence) - sequence->table.held;
    }
    return room;
  }

  void PlanRunning(Draft* draft);
  void PlanRows(SequenceState* sequence, Draft* draft);
  void Admit(Draft* draft);
  bool Place(SequenceState* sequence, Draft* draft);
  static std::optional<Emitted> Deliver(const PlannedRows& planned, SequenceState* sequence,
                                        const v1::SequenceOutput& output);
  void ForgetRanks();

  SchedulerOptions options_;
  std::vector<Group> groups_;
  std::unordered_map<uint64_t, SequenceState> sequences_;  // by id; addresses are stable
  ByArrival waiting_;
  std::deque<StepInFlight> in_flight_;
  std::vector<uint64_t> failed_;
  bool active_ = false;  // ranks are up
  uint64_t epoch_ = 0;
  uint64_t last_step_ = 0;
  uint64_t next_order_ = 1;
  int64_t preemptions_ = 0;
};

std::optional<std::vector<v1::StepPlan>> Scheduler::Impl::PlanStep() {
  if (!active_ || static_cast<int>(in_flight_.size()) >= options_.max_steps_in_flight) return std::nullopt;
  Draft draft;
  draft.alone = Suspect();
  if (draft.alone && InFlightBesides(*draft.alone)) return std::nullopt;
  draft.plans.resize(groups_.size());
  draft.budget.assign(groups_.size(), options_.max_batch_tokens);
  draft.record = {.step = last_step_ + 1, .results_missing = options_.groups, .rows = {}};
  draft.record.rows.resize(groups_.size());
  for (Group& group : groups_) {
    for (const auto& [order, sequence] : group.running) group.blocks.Drop(&sequence->table, sequence->position);
  }
  PlanRunning(&draft);
  Admit(&draft);
  const auto has_rows = [](const v1::StepPlan& plan) { return plan.rows_size() > 0; };
  // What is removed can wait for a step that has rows.
  if (std::none_of(draft.plans.begin(), draft.plans.end(), has_rows)) return std::nullopt;
  last_step_ = draft.record.step;
  for (size_t g = 0; g < groups_.size(); ++g) {
    v1::StepPlan& plan = draft.plans[g];
    plan.set_epoch(epoch_);
    plan.set_step(last_step_);
    plan.set_group(static_cast<uint32_t>(g));
    plan.mutable_removed()->Add(groups_[g].removed.begin(), groups_[g].removed.end());
    groups_[g].removed.clear();
  }
  in_flight_.push_back(std::move(draft.record));
  return std::move(draft.plans);
}

// One row for whoever needs one, then the rest of the budget to prompts and replays; each in order of arrival.
void Scheduler::Impl::PlanRunning(Draft* draft) {
  for (Group& group : groups_) {
    for (const bool decoding : {true, false}) {
      const ByArrival running = group.running;  // preemption changes it
      for (const auto& [order, sequence] : running) {
        if (!sequence->running() || sequence->paused || !sequence->WantsRows()) continue;
        if (draft->alone && draft->alone != sequence) continue;
        if (sequence->last_step == draft->record.step || (sequence->rows_missing() == 1) != decoding) continue;
        PlanRows(sequence, draft);
      }
    }
  }
}

// As many rows as are missing and fit the budget, the chunk and the blocks; maybe none.
void Scheduler::Impl::PlanRows(SequenceState* sequence, Draft* draft) {
  Group& group = groups_[sequence->group];
  int64_t& budget = draft->budget[sequence->group];
  int64_t rows = std::min({budget, sequence->rows_missing(), MaxRows()});
  if (rows == 0) return;
  BlockTable& table = sequence->table;
  const size_t known = table.blocks.size();
  while (group.blocks.Lines(table) < models::LinesFor(sequence->position + rows, options_.kv_block_tokens)) {
    if (group.blocks.Extend(&table) || PreemptFor(*sequence, *draft)) continue;
    rows = group.blocks.Lines(table) * options_.kv_block_tokens - sequence->position;
    break;
  }
  if (rows <= 0) return;
  v1::SequenceRows planned;
  planned.mutable_new_blocks()->Add(table.blocks.begin() + known, table.blocks.end());
  if (table.held < static_cast<int64_t>(table.blocks.size())) {
    planned.mutable_dropped()->Add(table.dropped.begin(), table.dropped.end());
  }
  const bool sample = rows == sequence->rows_missing() && sequence->spec.max_tokens > 0;
  planned.set_id(sequence->spec.id);
  planned.set_position(static_cast<int32_t>(sequence->position));
  planned.set_rows(static_cast<int32_t>(rows));
  planned.set_sample(sample);
  draft->plans[sequence->group].mutable_rows()->Add(std::move(planned));
  draft->record.rows[sequence->group].push_back({sequence->spec.id, sequence->position, rows, sample});
  budget -= rows;
  sequence->position += rows;
  sequence->samples_ahead += sample ? 1 : 0;
  sequence->steps_ahead += 1;
  sequence->last_step = draft->record.step;
}

// Strictly in order of arrival: whoever finds no room makes those behind it wait, so nobody starves.
void Scheduler::Impl::Admit(Draft* draft) {
  const ByArrival waiting = waiting_;
  for (const auto& [order, sequence] : waiting) {
    if (sequence->paused || (draft->alone && draft->alone != sequence)) continue;
    // A preempted sequence comes back once all it sampled is known: its tokens travel with it. One whose last samples
    // are on their way does not come back at all.
    if (!sequence->WantsRows()) continue;
    if (sequence->steps_ahead > 0 || !Place(sequence, draft)) return;
    v1::NewSequence* added = draft->plans[sequence->group].add_added();
    added->set_id(sequence->spec.id);
    added->mutable_prompt_ids()->Add(sequence->spec.prompt_ids.begin(), sequence->spec.prompt_ids.end());
    added->mutable_emitted_ids()->Add(sequence->emitted.begin(), sequence->emitted.end());
    *added->mutable_sampling() = sequence->spec.sampling;
    added->set_output(sequence->spec.output);
    PlanRows(sequence, draft);
    ATOLL_CHECK(sequence->last_step == draft->record.step, "sequence {} was admitted without rows", sequence->spec.id);
  }
}

// On the group with the most room. Its tokens so far and one more must fit; those that may not run now make room.
bool Scheduler::Impl::Place(SequenceState* sequence, Draft* draft) {
  const int64_t need =
      std::min(BlocksHeld(0, std::min(sequence->length() + 1, sequence->max_rows()), MaxRows()), options_.kv_blocks);
  const auto idle = [&](const SequenceState& other) {
    return other.last_step != draft->record.step && (other.paused || draft->alone != nullptr);
  };
  int best = -1;
  std::pair<bool, int64_t> best_room;  // fits without preemption, blocks
  for (int g = 0; g < options_.groups; ++g) {
    const int64_t room = Room(groups_[g]);
    int64_t reclaimable = 0, slots = options_.max_sequences - static_cast<int64_t>(groups_[g].running.size());
    for (const auto& [order, other] : groups_[g].running) {
      if (!idle(*other)) continue;
      reclaimable += BlocksWanted(*other);
      ++slots;
    }
    if (draft->budget[g] == 0 || slots <= 0 || room + reclaimable < need) continue;
    const bool fits = room >= need && static_cast<int64_t>(groups_[g].running.size()) < options_.max_sequences;
    const std::pair<bool, int64_t> candidate(fits, fits ? room : room + reclaimable);
    if (best < 0 || candidate > best_room) best_room = candidate, best = g;
  }
  if (best < 0) return false;
  Group& group = groups_[best];
  while (Room(group) < need || static_cast<int64_t>(group.running.size()) >= options_.max_sequences) {
    const auto victim = std::find_if(group.running.rbegin(), group.running.rend(),
                                     [&](const auto& other) { return idle(*other.second); });
    ATOLL_CHECK(victim != group.running.rend(), "group {} has room for {} blocks, {} are needed", best, Room(group),
                need);
    Preempt(victim->second);
  }
  waiting_.erase(sequence->order);
  sequence->group = best;
  group.running[sequence->order] = sequence;
  return true;
}

std::vector<Emitted> Scheduler::Impl::OnResult(const v1::StepResult& result) {
  std::vector<Emitted> emitted;
  if (!active_ || result.epoch() != epoch_) return emitted;
  const auto step = std::find_if(in_flight_.begin(), in_flight_.end(),
                                 [&](const StepInFlight& s) { return s.step == result.step(); });
  ATOLL_CHECK(step != in_flight_.end() && result.group() < step->rows.size(),
              "a result of step {}, group {}, which is not in flight", result.step(), result.group());
  int next = 0;
  for (const PlannedRows& planned : step->rows[result.group()]) {
    const bool answered = next < result.outputs_size() && result.outputs(next).id() == planned.id;
    const v1::SequenceOutput& output = answered ? result.outputs(next++) : v1::SequenceOutput::default_instance();
    const auto found = sequences_.find(planned.id);
    if (found == sequences_.end()) continue;  // removed meanwhile
    if (std::optional<Emitted> one = Deliver(planned, &found->second, output)) emitted.push_back(*std::move(one));
  }
  step->rows[result.group()].clear();
  if (--step->results_missing == 0) in_flight_.erase(step);
  return emitted;
}

// What `output` brings that was not delivered before: a replay runs old rows again.
std::optional<Emitted> Scheduler::Impl::Deliver(const PlannedRows& planned, SequenceState* sequence,
                                                const v1::SequenceOutput& output) {
  Emitted emitted{.id = planned.id, .output = output};
  v1::SequenceOutput& fresh = emitted.output;
  const int64_t known = std::clamp<int64_t>(sequence->rows_done - planned.position, 0, planned.rows);
  fresh.mutable_logits()->erase(0, fresh.logits().size() / planned.rows * known);
  const int scored = static_cast<int>(std::min<int64_t>(known, fresh.target_logprobs_size()));
  fresh.mutable_target_logprobs()->ExtractSubrange(0, scored, nullptr);
  const bool was_done = sequence->rows_done >= sequence->prompt();
  sequence->rows_done = std::max(sequence->rows_done, planned.position + planned.rows);
  emitted.prompt_done = sequence->rows_done >= sequence->prompt();
  sequence->steps_ahead -= 1;
  if (planned.sample) {
    ATOLL_CHECK(output.tokens_size() == 1 && output.first_position() == planned.position + planned.rows,
                "sequence {} sampled {} tokens at {}, one at {} was planned", planned.id, output.tokens_size(),
                output.first_position(), planned.position + planned.rows);
    sequence->samples_ahead -= 1;
    sequence->emitted.push_back(output.tokens(0));
  }
  const bool news = planned.sample || !fresh.logits().empty() || fresh.target_logprobs_size() > 0;
  if (!news && emitted.prompt_done == was_done) return std::nullopt;
  return emitted;
}

void Scheduler::Impl::ForgetRanks() {
  for (auto& [id, sequence] : sequences_) {
    if (sequence.running()) StopRunning(&sequence);
    sequence.samples_ahead = sequence.steps_ahead = 0;
    sequence.last_step = 0;
    waiting_[sequence.order] = &sequence;
  }
  for (Group& group : groups_) group.removed.clear();
  in_flight_.clear();
  last_step_ = 0;
}

Scheduler::Scheduler(const SchedulerOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Scheduler::~Scheduler() = default;
absl::Status Scheduler::Add(Sequence sequence) { return impl_->Add(std::move(sequence)); }
void Scheduler::Remove(uint64_t id) { impl_->Remove(id); }
void Scheduler::Pause(uint64_t id) { impl_->SetPaused(id, true); }
void Scheduler::Resume(uint64_t id) { impl_->SetPaused(id, false); }
std::optional<std::vector<v1::StepPlan>> Scheduler::PlanStep() { return impl_->PlanStep(); }
std::vector<Emitted> Scheduler::OnResult(const v1::StepResult& result) { return impl_->OnResult(result); }
void Scheduler::Reset(uint64_t epoch) { impl_->Reset(epoch); }
void Scheduler::Lost() { impl_->Lost(); }
std::vector<uint64_t> Scheduler::TakeFailed() { return impl_->TakeFailed(); }
SchedulerStats Scheduler::stats() const { return impl_->stats(); }

}  // namespace atl::coordinator
