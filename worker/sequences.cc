#include "worker/sequences.h"

#include <algorithm>

namespace atl::worker {

absl::Status SequenceTable::CheckRows(const v1::StepPlan& plan, const v1::SequenceRows& rows,
                                      const SequenceState& sequence) const {
  const int64_t end = int64_t{rows.position()} + rows.rows();
  const int64_t lines = static_cast<int64_t>(sequence.blocks.size()) / layout_.line;
  if (rows.position() < 0 || rows.rows() < 1 || end > sequence.length()) {
    return Internal("step {}: rows [{}, {}) of sequence {}, which has {} tokens", plan.step(), rows.position(), end,
                    rows.id(), sequence.length());
  }
  if (end > lines * models::kKvBlockTokens) {
    return Internal("step {}: rows up to {} of sequence {}, whose {} lines of blocks hold {}", plan.step(), end,
                    rows.id(), lines, lines * models::kKvBlockTokens);
  }
  if (rows.sample() && end != sequence.length()) {
    return Internal("step {}: a sample at position {} of sequence {}, which already has {} tokens", plan.step(), end,
                    rows.id(), sequence.length());
  }
  return absl::OkStatus();
}

// A place that is given back becomes -1: a layer that reads it all the same aborts instead of seeing another's keys.
absl::Status SequenceTable::UpdateBlocks(const v1::StepPlan& plan, const v1::SequenceRows& rows,
                                         SequenceState* sequence) const {
  const int64_t groups = static_cast<int64_t>(layout_.groups.size()), line = layout_.line;
  sequence->blocks.insert(sequence->blocks.end(), rows.new_blocks().begin(), rows.new_blocks().end());
  sequence->dropped.resize(groups);
  const int64_t lines = static_cast<int64_t>(sequence->blocks.size()) / line;
  if (rows.new_blocks_size() % line != 0 || (rows.dropped_size() != 0 && rows.dropped_size() != groups)) {
    return Internal("step {}: {} new blocks and {} groups of sequence {}; a line has {} of {}", plan.step(),
                    rows.new_blocks_size(), rows.dropped_size(), rows.id(), line, groups);
  }
  // Room for as many tokens as the blocks lead to, so that no step has to make it while it samples.
  const int64_t most = lines * models::kKvBlockTokens + 1 - sequence->prompt_length();
  const auto room = static_cast<int64_t>(sequence->emitted.capacity());
  if (most > room) sequence->emitted.reserve(std::max(most, 2 * room));
  int64_t column = 0;
  for (int64_t g = 0; g < rows.dropped_size(); column += layout_.groups[g++].blocks) {
    for (int64_t& at = sequence->dropped[g]; at < std::min<int64_t>(rows.dropped(g), lines); ++at) {
      std::fill_n(sequence->blocks.begin() + at * line + column, layout_.groups[g].blocks, -1);
    }
  }
  return absl::OkStatus();
}

absl::Status SequenceTable::Apply(const v1::StepPlan& plan) {
  for (const uint64_t id : plan.removed()) {
    if (sequences_.erase(id) == 0) return Internal("step {}: removes sequence {}, not known", plan.step(), id);
  }
  for (const v1::NewSequence& added : plan.added()) {
    const auto [place, fresh] = sequences_.try_emplace(added.id());
    if (!fresh) return Internal("step {}: adds sequence {} a second time", plan.step(), added.id());
    SequenceState& sequence = place->second;
    sequence.prompt.assign(added.prompt_ids().begin(), added.prompt_ids().end());
    sequence.emitted.assign(added.emitted_ids().begin(), added.emitted_ids().end());
    sequence.sampling = added.sampling();
    sequence.output = added.output();
  }
  for (const v1::SequenceRows& rows : plan.rows()) {
    const auto found = sequences_.find(rows.id());
    if (found == sequences_.end()) return Internal("step {}: rows of sequence {}, not known", plan.step(), rows.id());
    ATOLL_RETURN_IF_ERROR(UpdateBlocks(plan, rows, &found->second));
  }
  return absl::OkStatus();
}

absl::Status SequenceTable::Build(const v1::StepPlan& plan, StepBatch* batch) const {
  batch->Clear();
  for (int index = 0; index < plan.rows_size(); ++index) {
    const v1::SequenceRows& rows = plan.rows(index);
    const SequenceState& sequence = sequences_.at(rows.id());
    ATOLL_RETURN_IF_ERROR(CheckRows(plan, rows, sequence));
    batch->sequences.push_back({.row_begin = static_cast<int64_t>(batch->ids.size()),
                                .rows = rows.rows(),
                                .position = rows.position(),
                                .prompt_length = sequence.prompt_length(),
                                .blocks = sequence.blocks});
    for (int64_t row = 0; row < rows.rows(); ++row) {
      const int64_t next = rows.position() + row + 1;
      LogitUse use{.plan_row = index, .position = next};
      use.sample = rows.sample() && row + 1 == rows.rows();
      use.logits = sequence.output == v1::OUTPUT_LOGITS;
      if (sequence.output == v1::OUTPUT_TARGET_LOGPROBS && next < sequence.prompt_length()) {
        use.target = sequence.prompt[next];
      }
      if (use.sample || use.logits || use.target >= 0) {
        batch->logit_rows.push_back(static_cast<int32_t>(batch->ids.size()));
        batch->uses.push_back(use);
      }
      batch->ids.push_back(sequence.TokenAt(next - 1));
    }
  }
  return absl::OkStatus();
}

}  // namespace atl::worker
