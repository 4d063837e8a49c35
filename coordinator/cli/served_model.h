// A model directory and the cluster that runs it: what every command shares that answers people or clients.
//
//   ATOLL_ASSIGN_OR_RETURN(const auto model, ServedModel::Load(flags.cluster, {.name = name}));   // files; no rank yet
//   ATOLL_RETURN_IF_ERROR(model->service().ToRequest(question).status());   // already possible
//   model->running().Launch();                                              // the ranks begin to load
//   ATOLL_RETURN_IF_ERROR(model->running().WaitReady());
//   model->service().Submit(...)
//
// Destruction ends the engine and the ranks.
#pragma once

#include <memory>
#include <string>

#include "coordinator/api/service.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/running_cluster.h"

namespace atl::coordinator {

struct ServedModelOptions {
  std::string name = {};           // as clients know it; empty: the directory's or the file's
  std::string chat_template = {};  // a Jinja file; empty: the model's own
  int64_t max_queued_requests = 1;
};

class ServedModel {
 public:
  // A model without a chat template is none for chats; a template of `options` that cannot be read is an error.
  static absl::StatusOr<std::unique_ptr<ServedModel>> Load(const ClusterFlags& flags,
                                                           const ServedModelOptions& options);
  const Service& service() const { return service_; }
  RunningCluster& running() { return *running_; }

 private:
  Service service_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::unique_ptr<RunningCluster> running_;  // destroyed first: it uses what stands above
};

}  // namespace atl::coordinator
