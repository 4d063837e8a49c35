// One request's output: tokens become text, and the rules say where it ends.
//
//   Generation generation(request, eos_ids, tokenizer);        // tokenizer null: tokens without text
//   Delta delta = generation.Take(emitted);                    // delta.last(): finished, nothing more is to be taken
//
// Text that could still become a stop string is held back until it cannot, or comes out at the end.
#pragma once

#include <optional>

#include "coordinator/engine/request.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {

// Cuts a text at the first occurrence of any of the stop strings, also where they span pieces.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  std::string Push(const std::string& piece);  // what can be shown now
  std::string Finish();                        // what was held back
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;  // the end of the text while it begins a stop string
  bool stopped_ = false;
};

class Generation {
 public:
  Generation(Request request, const std::vector<int64_t>& eos_ids, const Tokenizer* tokenizer);
  Delta Take(Emitted emitted);
  const Request& request() const { return request_; }
  Usage usage() const { return {static_cast<int64_t>(request_.prompt_ids.size()), tokens_}; }

 private:
  bool Ends(int32_t token) const;

  const Request request_;
  std::vector<int32_t> end_ids_;
  std::optional<StreamDecoder> decoder_;
  StopFilter filter_;
  int64_t tokens_ = 0;
};

}  // namespace atl::coordinator
