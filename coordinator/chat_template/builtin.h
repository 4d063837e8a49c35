// Our own templates for families whose published checkpoints come without one (builtin/*.jinja). They travel inside the
// binary, and a template in the model's directory always goes first.
#pragma once

#include <string>

namespace atl::coordinator {

// By config.json's model_type; empty: there is none.
std::string BuiltinTemplate(const std::string& model_type);

}  // namespace atl::coordinator
