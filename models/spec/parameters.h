// Every tensor of a model, once: name, shape, kind, and which slice of it a rank keeps. Inspection counts over this
// list, the planner sizes arenas from it and the loader walks it, so their bytes cannot differ (law 7).
//
//   for (const Parameter& p : Parameters(spec)) total += p.elements();
//   std::optional<Slice> mine = SliceOf(p, spec, topology, rank, placement);   // nullopt: not on this rank
//   for (const std::string& name : PublishedNames(p.tensor())) ...;            // what its checkpoint may call it
//
// The lists themselves are written by the families (families/), with the helpers of tensor_list.h.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/spec/model_spec.h"
#include "parallel/base/partition.h"
#include "parallel/placement.h"
#include "parallel/topology.h"

namespace atl::models {

enum class ParameterKind : uint8_t {
  kEmbedding,
  kHead,
  kAttention,
  kDense,
  kSharedExpert,
  kRoutedExpert,
  kRouter,
  kNorm
};
const char* Name(ParameterKind kind);

enum class Sharding : uint8_t {
  kReplicated,     // whole on every rank
  kHeadRows,       // rows [out] cut by heads over the tp group: shape[0] = heads x width
  kKvHeadRows,     // the same for key and value heads: each rank keeps those that its query heads read
  kAxisRows,       // rows cut along a canonical axis (gate and up projections: their rows are the next product's K)
  kAxisColumns,    // columns [in] cut along a canonical axis (output and down projections); unit = Parameter::unit
  kVocabRows,      // rows cut evenly over the tp group (embedding, head)
  kExpertRows,     // rows of a routed expert, cut along its inner axis into the placement's slices
  kExpertColumns,  // its columns, likewise
  kNowhere,        // published and counted, kept by no rank (keys and values of layers that read another's)
};

// Where a parameter lies in its checkpoint if not as a tensor of its own name and shape: element (r, c) is element
// offset + r row_stride + c column_stride of `tensor`. Transposed matrices (GPT-2), several in one tensor (fused
// projections and experts) and parts of larger ones (MatFormer) have this form.
struct TensorPart {
  std::string tensor;
  std::vector<int64_t> shape;
  int64_t offset = 0;
  int64_t row_stride = 0;
  int64_t column_stride = 0;
};

struct Parameter {
  std::string name;                           // as published, or one like it where `part` says otherwise
  std::vector<int64_t> shape;                 // [out, in] or [n]
  WeightFormat format = WeightFormat::kBF16;  // in memory: a matrix as stored or as the job keeps it, a vector in f32
  ParameterKind kind = ParameterKind::kNorm;
  Sharding sharding = Sharding::kReplicated;
  int64_t unit = 1;   // of the canonical axis
  int64_t parts = 1;  // rows are multiplied in parts that begin at any multiple of it
  int layer = -1;
  int expert = -1;
  std::optional<TensorPart> part;

  int64_t elements() const;
  const std::string& tensor() const { return part ? part->tensor : name; }
  bool is_cut_by_rows() const { return sharding == Sharding::kAxisRows || sharding == Sharding::kExpertRows; }
  bool is_cut_by_columns() const { return sharding == Sharding::kAxisColumns || sharding == Sharding::kExpertColumns; }
  // The axis along which it is, if it is one of those.
  CanonicalAxis axis() const;
};

// In the order the forward pass reads them, which is the arena's order.
std::vector<Parameter> Parameters(const ModelSpec& spec);

// The names under which checkpoints hold a tensor, ours first: multimodal models put the text tower under a prefix, and
// tensors of the other towers are never asked for.
std::vector<std::string> PublishedNames(const std::string& tensor);

// Heads whose queries a rank computes, and the key and value heads that those read.
Range HeadsOf(const ModelSpec& spec, int tp_rank, int tp);
Range KvHeadsOf(const ModelSpec& spec, int tp_rank, int tp);

struct Slice {
  Range rows;     // of shape[0]
  Range columns;  // of shape[1]; {0, 1} for a vector
  int64_t elements() const { return rows.size() * columns.size(); }
};
std::optional<Slice> SliceOf(const Parameter& parameter, const ModelSpec& spec, const parallel::Topology& topology,
                             int rank, const parallel::ExpertPlacement& placement);

struct ParameterCount {
  int64_t total = 0;   // without multi-token prediction layers
  int64_t active = 0;  // read for one token: top_k of the routed experts, everything else whole; Gemma 3n's authors
                       // leave the embedding tables out ("effective")
};
ParameterCount CountParameters(const ModelSpec& spec);

}  // namespace atl::models
