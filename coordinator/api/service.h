// What the front ends share: a served model, and the way from a client's request to the engine's.
//
//   Service service{...};
//   ATOLL_ASSIGN_OR_RETURN(Request request, service.ToRequest(generate_request));   // validated, templated, tokenized
//   ATOLL_ASSIGN_OR_RETURN(std::shared_ptr<TokenStream> stream, service.Submit(std::move(request)));
//
// Both front ends speak v1::GenerateRequest: HTTP bodies are translated into it first. Errors: InvalidArgument (the
// field is named), NotFound (model), Unavailable (the ranks have not loaded yet; also from the engine, which is
// draining), ResourceExhausted from the engine.
#pragma once

#include <ctime>
#include <memory>
#include <string>

#include "atoll/v1/inference.pb.h"
#include "coordinator/api/errors.h"
#include "coordinator/chat_template/chat_template.h"
#include "coordinator/cluster/cluster.h"
#include "coordinator/engine/engine.h"
#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {

inline constexpr int kMaxTopLogprobs = 20;  // as OpenAI has it

struct Service {
  std::string name;  // shown to clients
  ClusterOptions options;
  const Tokenizer* tokenizer = nullptr;
  ChatTemplate* chat_template = nullptr;  // null: the model has none
  Engine* engine = nullptr;
  Cluster* cluster = nullptr;
  v1::Sampling defaults;  // generation_config.json's
  int64_t started = std::time(nullptr);

  // A request's way to the engine (to_request.cc). template_arguments: a JSON object of further template variables
  // (chat_template_kwargs), or empty.
  absl::StatusOr<Request> ToRequest(const v1::GenerateRequest& request,
                                    const std::string& template_arguments = "") const;
  // Engine::Submit for a client. Ranks that are down after they were up are a pause, not an error.
  absl::StatusOr<std::shared_ptr<TokenStream>> Submit(Request request) const;
  // Prompt and emitted tokens of one request together.
  int64_t context() const;
  // The text of a conversation with its tools, ready to be encoded (render.cc).
  absl::StatusOr<std::string> Render(const v1::GenerateRequest& request, const std::string& template_arguments) const;
  v1::ModelInfoResponse ModelInfo() const;
};

// Of a request whose client gives none.
uint64_t RandomSeed();

// A short random id: "chatcmpl-5f2c...".
std::string MakeId(const std::string& prefix);

// Sampling defaults from a model directory's generation_config.json; empty where there is none.
v1::Sampling ReadSamplingDefaults(const std::string& model_directory);

}  // namespace atl::coordinator
