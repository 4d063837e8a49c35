// Lists of module names as quantised checkpoints write them: a name means the module and everything below it; after
// "re:" comes a regular expression that must match from the name's beginning.
//
//   ATOLL_ASSIGN_OR_RETURN(NamePatterns ignored, NamePatterns::Compile({"lm_head", "re:.*self_attn.*"}, "ignore"));
//   ignored.Match("model.layers.0.self_attn.o_proj")
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/base/status.h"

namespace atl::models {

class NamePatterns {
 public:
  // `what` names the list in errors.
  static absl::StatusOr<NamePatterns> Compile(const std::vector<std::string>& patterns, const std::string& what);
  // An expression that needs absurdly many steps matches nothing.
  bool Match(const std::string& module) const;

 private:
  struct Expression;
  std::vector<std::string> names_;
  std::vector<std::shared_ptr<const Expression>> expressions_;
};

}  // namespace atl::models
