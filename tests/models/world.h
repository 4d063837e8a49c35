// A world of ranks as threads of this process, each with its model, for tests of the whole forward pass.
//
//   World world({.path = path, .topology = {4, 2}, .profile = "f32"});
//   std::vector<float> logits = world.Score(ids, prompt_length, chunk);       // [ids.size() * vocab]
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "models/model.h"
#include "parallel/backends.h"
#include "parallel/communicator.h"

namespace atl::models {

struct WorldOptions {
  std::string path;
  parallel::Topology topology;
  std::string profile = "f32";
  int64_t kv_blocks = 16;
  int64_t max_batch_tokens = 256;
  int threads = 1;
  bool dummy_weights = false;
  std::optional<parallel::ExpertPlacement> placement = std::nullopt;
  // What a rank's world communicator is replaced by: faults.
  std::function<std::unique_ptr<parallel::Communicator>(int rank, std::unique_ptr<parallel::Communicator>)> wrap = {};
  std::optional<ModelSpec> spec = std::nullopt;  // instead of what the path's config.json says
  std::string weights = {}, head_weights = {};   // --weights, --head-weights
};

// Rows of one sequence in one step: ids of positions [position, position + ids.size()).
struct Chunk {
  std::vector<int32_t> ids;
  int64_t position = 0;
  int64_t prompt_length = 0;
  std::vector<int32_t> blocks;
};

class World {
 public:
  explicit World(const WorldOptions& options) : options_(options) {
    const int size = options.topology.world;
    auto spec = options.dummy_weights ? ReadModelSpec(options.path) : ReadModel(options.path);
    if (!spec.ok()) throw std::runtime_error(ToString(spec.status().message()));
    spec_ = options.spec.value_or(*spec);
    spec_.kept = *KeptFormats::Named(options.weights, options.head_weights);
    shape_ = {.topology = options.topology,
              .numerics = *NumericsNamed(options.profile),
              .kv_blocks = options.kv_blocks,
              .max_batch_tokens = options.max_batch_tokens,
              .max_logit_rows = 0};
    placement_ = options.placement.value_or(
        parallel::ExpertPlacement::Contiguous(spec_.moe ? static_cast<int>(spec_.moe->experts) : 1, size));
    worlds_ = parallel::InprocWorld(size, 1);
    for (int rank = 0; options.wrap && rank < size; ++rank) {
      worlds_[rank] = options.wrap(rank, std::move(worlds_[rank]));
    }
    groups_.resize(size);
    models_.resize(size);
    OnRanks([&](int rank) -> absl::Status {
      const auto members = options_.topology.RanksOf(options_.topology.GroupOf(rank));
      ATOLL_ASSIGN_OR_RETURN(groups_[rank], worlds_[rank]->Subgroup(members, Deadline::After(Seconds(30))));
      LoadOptions load{.path = options_.path, .spec = spec_, .shape = shape_, .placement = *placement_};
      load.dummy_weights = options_.dummy_weights;
      load.threads = options_.threads;
      ATOLL_ASSIGN_OR_RETURN(models_[rank], LoadModel(load, Context(rank), nullptr));
      return absl::OkStatus();
    });
  }

  const ModelSpec& spec() const { return spec_; }
  const JobShape& shape() const { return shape_; }
  const parallel::ExpertPlacement& placement() const { return *placement_; }
  Model& model(int rank) { return *models_[rank]; }
  parallel::ParallelContext Context(int rank) {
    return {.topology = options_.topology,
            .rank = rank,
            .world = worlds_[rank].get(),
            .tp_group = groups_[rank].get(),
            .timeout = Seconds(60)};
  }

  // A table for a step that runs positions [from, tokens), its blocks the last ones of the cache, out of order: the
  // layout must not matter. What no row of the step may read any more is taken away: reading it would abort.
  std::vector<int32_t> Table(int64_t tokens, int64_t from) const {
    const KvLayout layout = KvLayoutOf(spec_);
    std::vector<int32_t> table;
    for (int64_t line = 0; line < BlocksFor(tokens); ++line) {
      for (const KvGroup& group : layout.groups) {
        const bool gone = line < group.FirstVisible(from) / kKvBlockTokens;
        for (int64_t i = 0; i < group.blocks; ++i) {
          const auto last = static_cast<int32_t>(options_.kv_blocks * layout.line - 1);
          table.push_back(gone ? -1 : last - static_cast<int32_t>(table.size()));
        }
      }
    }
    return table;
  }

  // One step: batches[group] of each attention group (missing: empty). All rows' logits: [group][rows * vocab].
  std::vector<std::vector<float>> Step(const std::vector<std::vector<Chunk>>& batches) {
    const int groups = options_.topology.groups();
    std::vector<std::vector<float>> logits(groups);
    std::vector<std::vector<int32_t>> ids(groups), rows(groups);
    std::vector<std::vector<SequenceRows>> sequences(groups);
    for (int g = 0; g < groups && g < static_cast<int>(batches.size()); ++g) {
      for (const Chunk& chunk : batches[g]) {
        sequences[g].push_back({static_cast<int64_t>(ids[g].size()), static_cast<int64_t>(chunk.ids.size()),
                                chunk.position, chunk.prompt_length, chunk.blocks});
        ids[g].insert(ids[g].end(), chunk.ids.begin(), chunk.ids.end());
      }
      for (size_t i = 0; i < ids[g].size(); ++i) rows[g].push_back(static_cast<int32_t>(i));
      logits[g].resize(ids[g].size() * spec_.vocab);
    }
    OnRanks([&](int rank) -> absl::Status {
      const int g = options_.topology.GroupOf(rank);
      const Batch batch{.ids = ids[g], .sequences = sequences[g], .logit_rows = rows[g]};
      ATOLL_ASSIGN_OR_RETURN(const LogitRows mine, models_[rank]->Forward(batch, Context(rank)));
      std::copy_n(mine.values.begin(), mine.count * spec_.vocab, logits[g].begin() + mine.first * spec_.vocab);
      return absl::OkStatus();
    });
    return logits;
  }

  // Logits of every position of one sequence [ids.size() * vocab] on `group`, in chunks, beside `mates` of the same
  // group (run in every step; their rows come first) and of the other groups.
  std::vector<float> Score(const std::vector<int32_t>& ids, int64_t prompt_length, int64_t chunk, int group = 0,
                           const std::function<std::vector<Chunk>(int group)>& mates = nullptr,
                           int64_t first_chunk = 0) {
    std::vector<float> all;
    const auto total = static_cast<int64_t>(ids.size());
    int64_t count = 0;
    for (int64_t begin = 0; begin < total; begin += count) {
      count = std::min(begin == 0 && first_chunk > 0 ? first_chunk : chunk, total - begin);
      std::vector<std::vector<Chunk>> batches(options_.topology.groups());
      int64_t before = 0;
      for (size_t g = 0; mates && g < batches.size(); ++g) batches[g] = mates(static_cast<int>(g));
      for (const Chunk& mate : batches[group]) before += static_cast<int64_t>(mate.ids.size());
      Chunk mine{{ids.begin() + begin, ids.begin() + begin + count}, begin, prompt_length, {}};
      mine.blocks = Table(begin + count, begin);
      batches[group].push_back(mine);
      const std::vector<float> logits = Step(batches)[group];
      all.insert(all.end(), logits.begin() + before * spec_.vocab, logits.end());
    }
    return all;
  }

  void OnRanks(const std::function<absl::Status(int rank)>& body) {
    std::vector<std::thread> threads;
    std::vector<absl::Status> statuses(options_.topology.world);
    for (int rank = 0; rank < options_.topology.world; ++rank) {
      threads.emplace_back([&, rank] {
        statuses[rank] = body(rank);
        if (!statuses[rank].ok()) worlds_[rank]->Revoke(ToString(statuses[rank].message()));
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const absl::Status& status : statuses) {
      if (!status.ok()) throw std::runtime_error(ToString(status.message()));
    }
  }

 private:
  const WorldOptions options_;
  ModelSpec spec_;
  JobShape shape_;
  std::optional<parallel::ExpertPlacement> placement_;
  std::vector<std::unique_ptr<parallel::Communicator>> worlds_, groups_;
  std::vector<std::unique_ptr<Model>> models_;
};

}  // namespace atl::models
