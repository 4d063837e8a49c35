#include "coordinator/tokenizer/pre_tokenizer.h"

#include <algorithm>

namespace atl::coordinator {
namespace {

// Of two kinds of neighbours, matches and what lies between them, in the order of the text.
struct Part {
  Span span;
  bool match;
};

// Parts that begin (or, seen from the end, end) with a match join what stands before it, unless that is a match too.
template <typename Parts, typename Join, typename Push>
void Merge(const Parts& parts, const Join& join, const Push& push) {
  bool previous = false, any = false;
  for (const Part& part : parts) {
    part.match && !previous && any ? join(part.span) : push(part.span);
    previous = part.match;
    any = true;
  }
}

}  // namespace

absl::StatusOr<SplitBehavior> SplitBehaviorNamed(const std::string& name) {
  const std::pair<const char*, SplitBehavior> known[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  };
  for (const auto& [its, behavior] : known) {
    if (name == its) return behavior;
  }
  return Unimplemented(
      "a split's behavior is \"{}\"; Removed, Isolated, MergedWithPrevious, MergedWithNext and "
      "Contiguous exist",
      name);
}

void PreTokenizer::AddSplit(Split split) {
  Step step;
  step.split = std::make_shared<const Split>(std::move(split));
  steps_.push_back(std::move(step));
}

absl::Status PreTokenizer::AddIsolating(const Expressions& expressions, Dialect dialect) {
  for (size_t at = 0; at < expressions.size();) {
    Step step;
    size_t count = expressions.size() - at;  // the longest run that is known
    const auto begin = expressions.begin() + static_cast<ptrdiff_t>(at);
    while (count > 0 &&
           (step.scanner = ScannerFor(Expressions(begin, begin + static_cast<ptrdiff_t>(count)))) == nullptr) {
      --count;
    }
    if (step.scanner != nullptr) {
      steps_.push_back(std::move(step));
    } else {
      ATOLL_ASSIGN_OR_RETURN(Matcher matcher, Matcher::Regex(expressions[at], dialect));
      AddSplit({.matcher = std::move(matcher), .behavior = SplitBehavior::kIsolated});
    }
    at += std::max<size_t>(count, 1);
  }
  return absl::OkStatus();
}

void PreTokenizer::AddPrefixSpace() { AddMetaspace(" ", PrependScheme::kAlways); }

void PreTokenizer::AddMetaspace(std::string replacement, PrependScheme scheme) {
  Step step;
  step.replaced_space = std::move(replacement);
  step.scheme = scheme;
  steps_.push_back(std::move(step));
}

void PreTokenizer::Run(std::string_view text, bool first, PreTokenized* out) const {
  out->text = text;
  out->pieces.clear();
  if (!text.empty()) out->pieces.push_back({0, text.size()});
  for (const Step& step : steps_) {
    if (!step.replaced_space.empty()) {
      Rewrite(step, first, out);
      continue;
    }
    out->next_pieces.clear();
    for (const Span piece : out->pieces) {
      if (step.scanner != nullptr) {
        step.scanner(out->text.substr(piece.begin, piece.size()), piece.begin, &out->next_pieces);
      } else {
        Apply(*step.split, piece, out);
      }
    }
    out->pieces.swap(out->next_pieces);
  }
}

void PreTokenizer::Apply(const Split& split, Span piece, PreTokenized* out) {
  split.matcher.Find(out->text.substr(piece.begin, piece.size()), &out->matches);
  std::vector<Span>& result = out->next_pieces;
  const auto push = [&](Span span) { result.push_back(span); };
  // Parts, in order; an empty match is a part too: it parts what it stands between.
  std::vector<Part> parts;
  size_t done = piece.begin;
  for (const Span& match : out->matches) {
    const Span span{piece.begin + match.begin, piece.begin + match.end};
    if (done < span.begin) parts.push_back({{done, span.begin}, split.invert});
    parts.push_back({span, !split.invert});
    done = span.end;
  }
  if (done < piece.end) parts.push_back({{done, piece.end}, split.invert});

  const size_t before = result.size();
  switch (split.behavior) {
    case SplitBehavior::kIsolated:
    case SplitBehavior::kRemoved:
      for (const Part& part : parts) {
        if (!part.match || split.behavior == SplitBehavior::kIsolated) push(part.span);
      }
      break;
    case SplitBehavior::kContiguous:
      for (size_t i = 0; i < parts.size(); ++i) {
        // The first part joins nothing, whatever it is.
        i > 0 && parts[i].match == parts[i - 1].match ? void(result.back().end = parts[i].span.end)
                                                      : push(parts[i].span);
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      Merge(
          parts, [&](Span span) { result.back().end = span.end; }, push);
      break;
    case SplitBehavior::kMergedWithNext:
      std::reverse(parts.begin(), parts.end());
      Merge(
          parts, [&](Span span) { result.back().begin = span.begin; }, push);
      std::reverse(result.begin() + static_cast<ptrdiff_t>(before), result.end());
      break;
  }
  result.erase(std::remove_if(result.begin() + static_cast<ptrdiff_t>(before), result.end(),
                              [](const Span& span) { return span.size() == 0; }),
               result.end());
}

// The text again, piece by piece, with what the step adds; what lies between pieces goes.
void PreTokenizer::Rewrite(const Step& step, bool first, PreTokenized* out) {
  const std::string& mark = step.replaced_space;
  std::string& buffer = out->next_buffer;
  buffer.clear();
  buffer.reserve(out->text.size() + 16);
  for (Span& piece : out->pieces) {
    const std::string_view text = out->text.substr(piece.begin, piece.size());
    const bool prepend =
        step.scheme == PrependScheme::kAlways || (step.scheme == PrependScheme::kFirst && first && piece.begin == 0);
    const size_t begin = buffer.size();
    if (prepend && text[0] != ' ' && !text.starts_with(mark)) buffer += mark;
    for (const char c : text) c == ' ' ? void(buffer += mark) : void(buffer += c);
    piece = {begin, buffer.size()};
  }
  out->buffer.swap(buffer);
  out->text = out->buffer;
}

}  // namespace atl::coordinator
