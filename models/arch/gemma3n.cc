// Gemma 3n, text tower. A token has several residual streams h (AltUp): each layer predicts all of them, runs on the
// first prediction alone, and corrects all by what it found there. Beside attention stands a low-rank branch (LAuReL),
// and an embedding of the token for this layer alone is gated into the other streams.
//
//   p = h + P(h_0) h;  a = p_0;  n = norm(a)
//   g = ((a + norm(attention(n))) + (n + norm(right(left(n))))) / sqrt(2)
//   y = g + norm(mlp(norm(g)))
//   h = p + (y - p_0) c(y);  h_1.. += norm(project(gelu(gate(h_0 * s)) * embedding of this layer))
//
// Rows of all of this are at home; only attention and the MLP's inner axis are cut over the group.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/arch/table.h"
#include "models/layers/decoder.h"
#include "models/layers/embedding.h"
#include "models/spec/matformer.h"

namespace atl::models {
namespace {

constexpr float kHalfRoot = 1 / std::numbers::sqrt2_v<float>;
constexpr float kLeastSquare = 1e-5f;  // of a stream's mean square, where it is divided by

std::span<float> Take(const Pass& pass, const char* buffer, int64_t width) {
  return pass.step.workspace.Take<float>(buffer, pass.rows() * width);
}

std::span<float> Apply(const Pass& pass, const Linear& linear, std::span<const float> x, const char* buffer) {
  const std::span<float> out = Take(pass, buffer, linear.weight.rows);
  linear.Apply({pass.step, x, pass.rows()}, out);
  return out;
}

// Rows of `stream` get the root mean square of the same rows of `like`.
void MatchMagnitude(std::span<const float> like, int64_t width, std::span<float> stream) {
  const auto square = [width](const float* x) { return kernels::Dot(x, x, width) / static_cast<float>(width); };
  for (size_t at = 0; at < stream.size(); at += width) {
    const float now = std::sqrt(std::max(square(stream.data() + at), kLeastSquare));
    kernels::Scale(std::sqrt(square(like.data() + at)) / now, width, stream.data() + at);
  }
}

struct AltUp {
  Norm router_norm;
  Linear router;                  // [streams, hidden]
  Linear prediction;              // [streams * streams, streams]
  std::vector<float> correction;  // [streams, streams]
  const float* output_scale = nullptr;

  // [rows, streams]: what the coefficients of each row are made of.
  std::span<float> Modalities(const Pass& pass, std::span<const float> x) const {
    const std::span<float> normed = pass.Run(router_norm, x);
    kernels::Scale(1.0f / static_cast<float>(router_norm.width), static_cast<int64_t>(normed.size()), normed.data());
    const std::span<float> modalities = Apply(pass, router, normed, "altup.modalities");
    kernels::Tanh(modalities.data(), static_cast<int64_t>(modalities.size()), modalities.data());
    return modalities;
  }
};

struct Layer final : DecoderLayer {
  int64_t hidden = 0, streams = 0, inner = 0, layers = 0;
  AltUp altup;
  Norm attention_norm;
  Linear laurel_left, laurel_right;
  Norm laurel_norm;
  Gqa attention;
  Norm attended_norm;
  Norm mlp_norm;
  Mlp mlp;
  Norm mixed_norm;
  Linear layer_gate, layer_projection;  // [inner, hidden], [hidden, inner]
  Norm layer_norm;

  absl::Status Run(const Pass& pass, std::span<float> h) const override {
    const std::span<float> p = Predict(pass, h);
    const std::span<float> a = Stream(p, 0);
    const std::span<float> y = Take(pass, "altup.active", hidden);
    const std::span<float> n = Take(pass, "altup.normed", hidden);
    attention_norm.Apply(a.data(), pass.rows(), n.data());
    ATOLL_ASSIGN_OR_RETURN(const auto attended, pass.Run(attention, n));
    std::copy(a.begin(), a.end(), y.begin());
    pass.Add(pass.Run(attended_norm, attended), y);
    pass.Add(Laurel(pass, n), y);
    kernels::Scale(kHalfRoot, static_cast<int64_t>(y.size()), y.data());
    ATOLL_ASSIGN_OR_RETURN(const auto mixed, pass.Run(mlp, pass.Run(mlp_norm, y)));
    pass.Add(pass.Run(mixed_norm, mixed), y);
    Correct(pass, p, y, h);
    AddLayerEmbedding(pass, h);
    return absl::OkStatus();
  }

 private:
  std::span<float> Stream(std::span<float> all, int64_t i) const {
    return all.subspan(i * (all.size() / streams), all.size() / streams);
  }

  std::span<float> Predict(const Pass& pass, std::span<float> h) const {
    const std::span<float> predicted = Take(pass, "altup.predicted", streams * hidden);
    const std::span<float> coefficients =
        Apply(pass, altup.prediction, altup.Modalities(pass, Stream(h, 0)), "altup.coefficients");
    std::copy(h.begin(), h.end(), predicted.begin());
    for (int64_t row = 0; row < pass.rows(); ++row) {
      const float* mine = coefficients.data() + row * streams * streams;
      for (int64_t to = 0; to < streams; ++to) {
        for (int64_t from = 0; from < streams; ++from) {
          kernels::Axpy(mine[to * streams + from], Stream(h, from).data() + row * hidden, hidden,
                        Stream(predicted, to).data() + row * hidden);
        }
      }
    }
    return predicted;
  }

  // n + norm(right(left(n)))
  std::span<float> Laurel(const Pass& pass, std::span<const float> n) const {
    const std::span<float> low = Apply(pass, laurel_left, n, "laurel.low");
    const std::span<float> high = Apply(pass, laurel_right, low, "laurel.high");
    laurel_norm.Apply(high.data(), pass.rows(), high.data());
    pass.Add(n, high);
    return high;
  }

  // h = p + (y - p_0) c(y)
  void Correct(const Pass& pass, std::span<float> p, std::span<float> y, std::span<float> h) const {
    const std::span<const float> modalities = altup.Modalities(pass, y);
    const std::span<const float> first = Stream(p, 0);
    for (size_t i = 0; i < y.size(); ++i) y[i] -= first[i];
    std::copy(p.begin(), p.end(), h.begin());
    for (int64_t row = 0; row < pass.rows(); ++row) {
      for (int64_t i = 0; i < streams; ++i) {
        const float* weights = altup.correction.data() + i * streams;
        const float factor = kernels::Dot(weights, modalities.data() + row * streams, streams) + 1;
        kernels::Axpy(factor, y.data() + row * hidden, hidden, Stream(h, i).data() + row * hidden);
      }
    }
  }

  void AddLayerEmbedding(const Pass& pass, std::span<float> h) const {
    const std::span<float> scaled = Take(pass, "altup.active", hidden);
    const std::span<const float> first = Stream(h, 0);
    std::copy(first.begin(), first.end(), scaled.begin());
    for (int64_t row = 0; row < pass.rows(); ++row) {
      kernels::ScaleBy(1, altup.output_scale, 0, hidden, scaled.data() + row * hidden);
    }
    const std::span<float> gate = Apply(pass, layer_gate, scaled, "per_layer.gate");
    const std::span<const float> inputs = Take(pass, "per_layer.inputs", layers * inner);
    for (int64_t row = 0; row < pass.rows(); ++row) {
      float* mine = gate.data() + row * inner;
      kernels::GeluTanhMultiply(mine, inputs.data() + (row * layers + pass.layer) * inner, inner, mine);
    }
    const std::span<float> added = Apply(pass, layer_projection, gate, "laurel.high");
    layer_norm.Apply(added.data(), pass.rows(), added.data());
    for (int64_t i = 1; i < streams; ++i) pass.Add(added, Stream(h, i));
  }
};

std::unique_ptr<DecoderLayer> MakeLayer(const Builder& build, int64_t index) {
  const ModelSpec& spec = build.spec();
  const Gemma3nSpec& extra = *spec.gemma3n;
  const std::string name = build.LayerName(index);
  auto layer = std::make_unique<Layer>();
  layer->hidden = spec.hidden;
  layer->streams = extra.streams;
  layer->inner = extra.per_layer_width;
  layer->layers = spec.num_layers();
  AltUp& altup = layer->altup;
  altup.router_norm = build.MakeNorm(name + "altup.router_norm", spec.hidden);
  altup.router = build.Whole(name + "altup.modality_router");
  altup.prediction = build.Whole(name + "altup.prediction_coefs");
  altup.output_scale = build.weights().FloatVector(name + "altup.correct_output_scale");
  altup.correction.resize(extra.streams * extra.streams);
  const kernels::Matrix correction = build.weights().Matrix(name + "altup.correction_coefs.weight");
  for (int64_t i = 0; i < extra.streams; ++i) {
    kernels::WidenRow(correction, i, altup.correction.data() + i * extra.streams);
  }
  if (const auto clip = static_cast<float>(extra.correction_clip); clip > 0) {
    for (float& weight : altup.correction) weight = std::clamp(weight, -clip, clip);
  }
  layer->attention_norm = build.MakeNorm(name + "input_layernorm", spec.hidden);
  layer->laurel_left = build.Whole(name + "laurel.linear_left");
  layer->laurel_right = build.Whole(name + "laurel.linear_right");
  layer->laurel_norm = build.MakeNorm(name + "laurel.post_laurel_norm", spec.hidden);
  layer->attention = build.MakeGqa(index, name + "self_attn.");
  layer->attended_norm = build.MakeNorm(name + "post_attention_layernorm", spec.hidden);
  layer->mlp_norm = build.MakeNorm(name + "pre_feedforward_layernorm", spec.hidden);
  layer->mlp = build.MakeMlp(name + "mlp.", spec.layers[index].mlp);
  if (spec.layers[index].sparsity > 0) layer->mlp.spread = SpreadOf(spec.layers[index].sparsity);
  layer->mixed_norm = build.MakeNorm(name + "post_feedforward_layernorm", spec.hidden);
  layer->layer_gate = build.Whole(name + "per_layer_input_gate");
  layer->layer_projection = build.Whole(name + "per_layer_projection");
  layer->layer_norm = build.MakeNorm(name + "post_per_layer_input_norm", spec.hidden);
  return layer;
}

// What comes before the first layer and after the last one.
struct Ends {
  int64_t hidden = 0, layers = 0, inner = 0;
  Embedding tables;                       // of all layers, side by side
  std::vector<Linear> table_projections;  // the same of the projections, one below the other
  Norm table_norm;
  std::vector<Linear> projections, unembed_projections;  // of streams 1..

  explicit Ends(const Builder& build) {
    const ModelSpec& spec = build.spec();
    hidden = spec.hidden, layers = spec.num_layers(), inner = spec.gemma3n->per_layer_width;
    tables.vocab = spec.gemma3n->per_layer_vocab;
    tables.beyond_is_zero = true;
    for (const StoredRun& run : StoredRuns(spec)) {
      tables.tables.push_back(build.weights().Matrix("model.embed_tokens_per_layer" + run.suffix + ".weight"));
      table_projections.push_back(build.Whole("model.per_layer_model_projection" + run.suffix));
    }
    table_norm = build.MakeNorm("model.per_layer_projection_norm", inner);
    for (int64_t i = 0; i + 1 < spec.gemma3n->streams; ++i) {
      projections.push_back(build.Whole(fmt::format("model.altup_projections.{}", i)));
      unembed_projections.push_back(build.Whole(fmt::format("model.altup_unembed_projections.{}", i)));
    }
  }

  // h_i = project_i(h_0), as large as h_0; and the inputs of all layers.
  absl::Status Begin(const Pass& pass, std::span<float> h) const {
    const int64_t size = pass.rows() * hidden;
    const std::span<float> first = h.first(size);
    for (size_t i = 0; i < projections.size(); ++i) {
      const std::span<float> stream = h.subspan((i + 1) * size, size);
      projections[i].Apply({pass.step, first, pass.rows()}, stream);
      MatchMagnitude(first, hidden, stream);
    }
    return LayerInputs(pass, first);
  }

  // (norm(project(h_0) / sqrt(hidden)) + embedding * sqrt(inner)) / sqrt(2), for each layer.
  absl::Status LayerInputs(const Pass& pass, std::span<const float> first) const {
    const std::span<float> inputs = Take(pass, "per_layer.inputs", layers * inner);
    int64_t at = 0;
    for (const Linear& projection : table_projections) {
      const std::span<float> projected = Apply(pass, projection, first, "per_layer.embedded");
      const int64_t width = projection.weight.rows;
      for (int64_t row = 0; row < pass.rows(); ++row) {
        std::copy_n(projected.data() + row * width, width, inputs.data() + row * layers * inner + at);
      }
      at += width;
    }
    const std::span<float> embedded = Take(pass, "per_layer.embedded", layers * inner);
    ATOLL_RETURN_IF_ERROR(Embed(pass.step, tables, embedded));
    const auto count = static_cast<int64_t>(inputs.size());
    kernels::Scale(1 / std::sqrt(static_cast<float>(hidden)), count, inputs.data());
    table_norm.Apply(inputs.data(), pass.rows() * layers, inputs.data());
    const float scale = EmbeddingScale(std::sqrt(static_cast<double>(inner)), pass.step.wire);
    kernels::Scale(scale, count, embedded.data());
    pass.Add(embedded, inputs);
    kernels::Scale(kHalfRoot, count, inputs.data());
    return absl::OkStatus();
  }

  // The mean of the streams, each first made as large as h_0.
  absl::Status End(const Pass& pass, std::span<float> h) const {
    const int64_t size = pass.rows() * hidden;
    const std::span<float> sum = Take(pass, "altup.active", hidden), first = h.first(size);
    std::copy(first.begin(), first.end(), sum.begin());
    for (size_t i = 0; i < unembed_projections.size(); ++i) {
      const std::span<float> stream = h.subspan((i + 1) * size, size);
      const std::span<float> out = Apply(pass, unembed_projections[i], stream, "laurel.high");
      MatchMagnitude(first, hidden, out);
      pass.Add(out, sum);
    }
    std::copy(sum.begin(), sum.end(), first.begin());
    kernels::Scale(1 / static_cast<float>(unembed_projections.size() + 1), size, first.data());
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<Model> MakeGemma3n(Runtime runtime) {
  return MakeDecoder(std::move(runtime), [](const Builder& build) {
    const auto ends = std::make_shared<const Ends>(build);
    return Architecture{.make_layer = MakeLayer,
                        .begin = [ends](const Pass& pass, std::span<float> h) { return ends->Begin(pass, h); },
                        .end = [ends](const Pass& pass, std::span<float> h) { return ends->End(pass, h); }};
  });
}

}  // namespace atl::models
