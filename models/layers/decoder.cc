#include "models/layers/decoder.h"

#include "models/layers/embedding.h"
#include "models/layers/head.h"
#include "models/layers/rope.h"
#include "models/layers/tensor_parallel.h"
#include "models/spec/workspace.h"

namespace atl::models {

std::span<float> Pass::Run(const Norm& norm, std::span<const float> x) const {
  const std::span<float> normed = step.workspace.Take<float>("normed", rows() * norm.width);
  ParallelRows(step.pool, rows(), norm.width * SizeOf(DType::kF32), [&](int64_t begin, int64_t end) {
    norm.Apply(x.data() + begin * norm.width, end - begin, normed.data() + begin * norm.width);
  });
  return normed;
}

void Pass::Add(std::span<const float> branch, std::span<float> x) const {
  ParallelRows(step.pool, std::ssize(branch), SizeOf(DType::kF32), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x[i] += branch[i];
  });
}

namespace {

std::span<float> Branch(const Step& step, std::span<const float> x) {
  return step.workspace.Take<float>("branch", static_cast<int64_t>(x.size()));
}

}  // namespace

absl::StatusOr<std::span<float>> Pass::Run(const Mla& mla, std::span<const float> x) const {
  const std::span<float> out = Branch(step, x);
  step.costs->Enter(Phase::kAttention);
  ATOLL_RETURN_IF_ERROR(RunMla(step, mla, cache, layer, x, out));
  step.costs->Enter(Phase::kOther);
  return out;
}

absl::StatusOr<std::span<float>> Pass::Run(const Gqa& gqa, std::span<const float> x) const {
  const std::span<float> out = Branch(step, x);
  step.costs->Enter(Phase::kAttention);
  ATOLL_RETURN_IF_ERROR(RunGqa(step, gqa, cache, layer, x, out));
  step.costs->Enter(Phase::kOther);
  return out;
}

absl::StatusOr<std::span<float>> Pass::Run(const Mlp& mlp, std::span<const float> x) const {
  const std::span<float> out = Branch(step, x);
  step.costs->Enter(Phase::kMlp);
  ATOLL_RETURN_IF_ERROR(RunMlp(step, mlp, layer, ToWire(step, x, mlp.up.weight.cols), out));
  step.costs->Enter(Phase::kOther);
  return out;
}

absl::StatusOr<std::span<float>> Pass::Run(const Moe& moe, std::span<const float> x) const {
  const std::span<float> out = Branch(step, x);
  ATOLL_RETURN_IF_ERROR(RunMoe(step, exchange, moe, layer, x, out));
  return out;
}

namespace {

class Decoder : public Model {
 public:
  Decoder(Runtime runtime, const std::function<Architecture(const Builder& build)>& make) : r_(std::move(runtime)) {
    const Builder build(r_);
    architecture_ = make(build);
    const ModelSpec& spec = r_.spec;
    embedding_ = {.tables = {r_.weights.Matrix(architecture_.embedding + ".weight")}, .vocab = spec.vocab};
    if (spec.learned_positions) positions_ = r_.weights.Matrix(architecture_.positions + ".weight");
    for (int64_t i = 0; i < spec.num_layers(); ++i) layers_.push_back(architecture_.make_layer(build, i));
    final_norm_ = build.MakeNorm(architecture_.final_norm, spec.hidden);
    head_ = {.out = build.Whole(spec.tied_embeddings ? architecture_.embedding : architecture_.head),
             .vocab = spec.vocab,
             .softcap = static_cast<float>(spec.logit_softcap)};
    for (size_t i = 0; i < spec.ropes.size(); ++i) ropes_.push_back(MakeRope(spec, static_cast<int64_t>(i)));
  }

  const ModelSpec& spec() const override { return r_.spec; }
  const RankMemory& memory() const override { return r_.memory; }
  const ExchangeCounters& last_exchange() const override { return counters_; }
  const StepCosts& last_costs() const override { return costs_; }
  ThreadPool* pool() const override { return r_.pool.get(); }
  void set_hidden_tap(HiddenTap tap) override { tap_ = std::move(tap); }

  absl::StatusOr<LogitRows> Forward(const Batch& batch, const parallel::ParallelContext& context) override {
    costs_.Begin();
    const Step step = MakeStep(batch, context);
    counters_.rows_to.assign(context.topology.world, 0);
    counters_.pairs_to.assign(context.topology.world, 0);
    const Exchange exchange{r_.placement, r_.exchange, counters_};
    Pass pass{.step = step, .cache = r_.kv, .exchange = exchange};
    const int64_t size = step.home.size() * r_.spec.hidden, streams = r_.spec.gemma3n ? r_.spec.gemma3n->streams : 1;
    const std::span<float> x = r_.workspace.Take<float>("residual", streams * size);
    ATOLL_RETURN_IF_ERROR(Start(step, x.first(size)));
    if (architecture_.begin) ATOLL_RETURN_IF_ERROR(architecture_.begin(pass, x));
    for (; pass.layer < r_.spec.num_layers(); ++pass.layer) {
      if (tap_) tap_(pass.layer, x.first(size));
      ATOLL_RETURN_IF_ERROR(layers_[pass.layer]->Run(pass, x));
    }
    if (architecture_.end) ATOLL_RETURN_IF_ERROR(architecture_.end(pass, x));
    const std::span<float> normed = pass.Run(final_norm_, x.first(size));
    if (tap_) tap_(r_.spec.num_layers(), normed);
    costs_.Enter(Phase::kHead);
    absl::StatusOr<LogitRows> logits = RunHead(step, head_, normed);
    costs_.End();
    return logits;
  }

 private:
  // The embedding of each home row's token, scaled, and of its position.
  absl::Status Start(const Step& step, std::span<float> x) const {
    ATOLL_RETURN_IF_ERROR(Embed(step, embedding_, x));
    const auto size = static_cast<int64_t>(x.size());
    if (r_.spec.embedding_scale != 1) {
      kernels::Scale(EmbeddingScale(r_.spec.embedding_scale, step.wire), size, x.data());
    }
    if (!r_.spec.learned_positions) return absl::OkStatus();
    const std::span<float> row = r_.workspace.Take<float>("position", r_.spec.hidden);
    for (const SequenceRows& sequence : step.batch.sequences) {
      for (int64_t i = 0; i < sequence.rows; ++i) {
        const int64_t at = sequence.row_begin + i - step.home.begin, position = sequence.position + i;
        if (at < 0 || at >= step.home.size()) continue;
        if (position >= positions_.rows) {
          return Internal("a row at position {}; the model has {} learned positions", position, positions_.rows);
        }
        kernels::WidenRow(positions_, position, row.data());
        kernels::Axpy(1, row.data(), r_.spec.hidden, x.data() + at * r_.spec.hidden);
      }
    }
    return absl::OkStatus();
  }

  Step MakeStep(const Batch& batch, const parallel::ParallelContext& context) {
    const auto rows = static_cast<int64_t>(batch.ids.size());
    const int tp = context.topology.tp;
    ATOLL_CHECK(rows <= r_.shape.max_batch_tokens, "a step of {} rows, {} were planned for", rows,
                r_.shape.max_batch_tokens);
    const int64_t table = rows * RotaryWidth(r_.spec);
    const std::span<float> all = r_.workspace.Take<float>("rope", static_cast<int64_t>(ropes_.size()) * table);
    for (size_t i = 0; i < ropes_.size(); ++i) RotaryTable(ropes_[i], batch, all.subspan(i * table, table));
    GroupCounts homes(tp);
    for (int rank = 0; rank < tp; ++rank) homes[rank] = EvenPart(rows, rank, tp).size();
    return {.batch = batch,
            .context = context,
            .workspace = r_.workspace,
            .pool = r_.pool.get(),
            .wire = r_.shape.numerics.wire,
            .rows = rows,
            .home = EvenPart(rows, context.tp_rank(), tp),
            .homes = homes,
            .costs = &costs_,
            .rotary = all};
  }

  const Runtime r_;
  Architecture architecture_;
  std::vector<Rope> ropes_;
  Embedding embedding_;
  kernels::Matrix positions_;
  std::vector<std::unique_ptr<DecoderLayer>> layers_;
  Norm final_norm_;
  Head head_;
  ExchangeCounters counters_;
  StepCosts costs_;
  HiddenTap tap_;
};

}  // namespace

std::unique_ptr<Model> MakeDecoder(Runtime runtime, const std::function<Architecture(const Builder& build)>& make) {
  return std::make_unique<Decoder>(std::move(runtime), make);
}

}  // namespace atl::models
