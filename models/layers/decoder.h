// The frame that all architectures share: embedding, layers, last norm, head. An architecture is what its layers do.
//
//   struct Layer final : DecoderLayer {               // models/arch/<name>.cc
//     absl::Status Run(const Pass& pass, std::span<float> x) const override {
//       ATOLL_ASSIGN_OR_RETURN(const auto attended, pass.Run(attention, pass.Run(attention_norm, x)));
//       Add(attended, x);                             // x += attention(norm(x))
//       ...
//   std::unique_ptr<Model> MakeName(Runtime runtime) {
//     return MakeDecoder(std::move(runtime), {.make_layer = [](const Builder& build, int64_t layer) { ... }});
//   }
#pragma once

#include <functional>

#include "models/layers/builder.h"
#include "models/layers/mla.h"

namespace atl::models {

// One layer of one step. Each Run leaves its result in a buffer of the workspace, good until the next Run of its kind.
struct Pass {
  const Step& step;
  const KvCache& cache;
  const Exchange& exchange;
  int layer = 0;

  int64_t rows() const { return step.home.size(); }
  // x: [home rows, hidden]; the result too.
  std::span<float> Run(const Norm& norm, std::span<const float> x) const;
  absl::StatusOr<std::span<float>> Run(const Mla& mla, std::span<const float> x) const;
  absl::StatusOr<std::span<float>> Run(const Gqa& gqa, std::span<const float> x) const;
  absl::StatusOr<std::span<float>> Run(const Mlp& mlp, std::span<const float> x) const;
  absl::StatusOr<std::span<float>> Run(const Moe& moe, std::span<const float> x) const;
  // x += branch.
  void Add(std::span<const float> branch, std::span<float> x) const;
};

class DecoderLayer {
 public:
  virtual ~DecoderLayer() = default;
  virtual absl::Status Run(const Pass& pass, std::span<float> x) const = 0;
};

// x: the residual stream [home rows, hidden]; of an architecture with several [streams, home rows, hidden], in which
// begin makes the others of the first and end leaves the first for the last norm.
struct Architecture {
  std::function<std::unique_ptr<DecoderLayer>(const Builder& build, int64_t layer)> make_layer;
  std::function<absl::Status(const Pass&pass, std::span<float> x)> begin = nullptr, end = nullptr;
  std::string embedding = "model.embed_tokens", final_norm = "model.norm", head = "lm_head";
  std::string positions = {};  // the table of learned positions, if there is one
};
std::unique_ptr<Model> MakeDecoder(Runtime runtime, const std::function<Architecture(const Builder& build)>& make);

}  // namespace atl::models
