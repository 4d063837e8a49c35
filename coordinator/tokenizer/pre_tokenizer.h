// Cuts a text into the pieces that are encoded one by one, in steps: each step sees the pieces of the one before, and
// nothing outside of them.
//
//   PreTokenizer steps;
//   steps.AddSplit({.matcher = digits, .behavior = SplitBehavior::kIsolated});
//   steps.AddIsolating(Cl100kExpressions());   // a hand-written scanner where there is one
//   PreTokenized out;  steps.Run(text, /*first=*/true, &out);
//   for (const Span& piece : out.pieces) ... out.text.substr(piece.begin, piece.size())
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/tokenizer/matcher.h"
#include "coordinator/tokenizer/scanners.h"

namespace atl::coordinator {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
absl::StatusOr<SplitBehavior> SplitBehaviorNamed(const std::string& name);  // as tokenizer.json names them

struct Split {
  Matcher matcher;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what does not match counts as matching
};

enum class PrependScheme { kNever, kFirst, kAlways };

struct PreTokenized {
  std::string_view text;     // the input, or `buffer` where a step has changed it
  std::vector<Span> pieces;  // of `text`, none empty
  std::string buffer;

  // Working memory of the steps.
  std::vector<Span> next_pieces, matches;
  std::string next_buffer;
};

class PreTokenizer {
 public:
  void AddSplit(Split split);
  // Splits by each in turn that isolate their matches, by as few scanners as there are for them.
  absl::Status AddIsolating(const Expressions& expressions, Dialect dialect);
  void AddPrefixSpace();  // a piece that does not begin with a space gets one
  // Spaces become `replacement`; a piece that does not begin with it gets one as `scheme` says.
  void AddMetaspace(std::string replacement, PrependScheme scheme);
  bool empty() const { return steps_.empty(); }

  // `first`: the text is the beginning of the whole one. `out` is overwritten.
  void Run(std::string_view text, bool first, PreTokenized* out) const;

 private:
  struct Step {
    // Exactly one of these.
    Scanner scanner = nullptr;
    std::shared_ptr<const Split> split;
    std::string replaced_space;  // Metaspace's; " " for AddPrefixSpace
    PrependScheme scheme = PrependScheme::kNever;
  };
  static void Apply(const Split& split, Span piece, PreTokenized* out);
  static void Rewrite(const Step& step, bool first, PreTokenized* out);

  std::vector<Step> steps_;
};

}  // namespace atl::coordinator
