#include "coordinator/cli/served_model.h"

#include <algorithm>

#include "coordinator/cli/model_text.h"
#include "parallel/base/log.h"

namespace atl::coordinator {

absl::StatusOr<std::unique_ptr<ServedModel>> ServedModel::Load(const ClusterFlags& flags,
                                                               const ServedModelOptions& options) {
  auto model = std::make_unique<ServedModel>();
  Service& service = model->service_;
  ATOLL_ASSIGN_OR_RETURN(service.options, ToClusterOptions(flags));
  ATOLL_ASSIGN_OR_RETURN(model->tokenizer_, LoadModelTokenizer(flags.model));
  absl::StatusOr<std::unique_ptr<ChatTemplate>> chat =
      LoadModelChatTemplate(flags.model, {.file = options.chat_template});
  if (chat.ok()) {
    model->chat_template_ = *std::move(chat);
  } else if (!options.chat_template.empty()) {
    return chat.status();
  } else {
    Log()->warn("no chat: {}", ToString(chat.status().message()));
  }
  service.name = options.name.empty() ? ModelName(service.options.model_path) : options.name;
  // Some tokenizers have ids beyond the head's rows, some heads rows beyond the tokenizer's ids.
  service.options.sample_vocab = std::min(model->tokenizer_->size(), service.options.spec.vocab);
  service.tokenizer = model->tokenizer_.get();
  service.chat_template = model->chat_template_.get();
  service.defaults = ReadSamplingDefaults(flags.model);
  EngineOptions engine;
  engine.scheduler = ToSchedulerOptions(service.options);
  engine.max_queued_requests = options.max_queued_requests;
  ATOLL_ASSIGN_OR_RETURN(model->running_,
                         RunningCluster::Create(service.options, std::move(engine), model->tokenizer_.get()));
  service.engine = &model->running_->engine();
  service.cluster = &model->running_->cluster();
  return model;
}

}  // namespace atl::coordinator
