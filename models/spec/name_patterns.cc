#include "models/spec/name_patterns.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "parallel/base/shown.h"

namespace atl::models {
namespace {

constexpr uint32_t kMaxSteps = 1'000'000;
constexpr size_t kMaxPattern = 4096;

}  // namespace

struct NamePatterns::Expression {
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code;
  std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits;
};

absl::StatusOr<NamePatterns> NamePatterns::Compile(const std::vector<std::string>& patterns, const std::string& what) {
  NamePatterns compiled;
  for (const std::string& pattern : patterns) {
    if (!pattern.starts_with("re:")) {
      compiled.names_.push_back(pattern);
      continue;
    }
    const std::string text = pattern.substr(3);
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* code = text.size() > kMaxPattern ? nullptr
                                                 : pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                                                 PCRE2_ANCHORED, &error, &offset, nullptr);
    if (code == nullptr) {
      return InvalidArgument("{}: {} is not a regular expression that can be used", what, Shown(pattern));
    }
    pcre2_match_context* limits = pcre2_match_context_create(nullptr);
    pcre2_set_match_limit(limits, kMaxSteps);
    pcre2_set_depth_limit(limits, kMaxSteps);
    compiled.expressions_.push_back(
        std::make_shared<const Expression>(Expression{{code, pcre2_code_free}, {limits, pcre2_match_context_free}}));
  }
  return compiled;
}

bool NamePatterns::Match(const std::string& module) const {
  const auto named = [&](const std::string& name) {
    return module.starts_with(name) && (module.size() == name.size() || module[name.size()] == '.');
  };
  if (std::any_of(names_.begin(), names_.end(), named)) return true;
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> found(pcre2_match_data_create(1, nullptr),
                                                                                  pcre2_match_data_free);
  return std::any_of(expressions_.begin(), expressions_.end(), [&](const auto& expression) {
    return pcre2_match(expression->code.get(), reinterpret_cast<PCRE2_SPTR>(module.data()), module.size(), 0, 0,
                       found.get(), expression->limits.get()) >= 0;
  });
}

}  // namespace atl::models
