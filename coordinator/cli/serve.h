// `atoll serve`: a cluster behind the HTTP and gRPC front ends, until SIGTERM or SIGINT. The first signal drains: no
// new requests, running ones finish up to --shutdown-timeout. The second stops at once. Either way the end is orderly:
// the ranks are told, and the exit code is 0.
#pragma once

#include "coordinator/cli/flags.h"

namespace atl::coordinator {

struct ServeFlags {
  ClusterFlags cluster;
  std::string host = "127.0.0.1";
  int port = 8000;
  int grpc_port = 50051;
  std::string name;           // shown to clients; empty: the model directory's or file's
  std::string chat_template;  // a Jinja file; empty: the model's own
  int64_t max_queued_requests = 4096;
  double shutdown_timeout = 45;
};

absl::Status RunServe(const ServeFlags& flags);

}  // namespace atl::coordinator
