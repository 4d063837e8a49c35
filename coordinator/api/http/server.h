// The OpenAI-compatible HTTP front end.
//
//   ATOLL_ASSIGN_OR_RETURN(auto http, HttpServer::Start(&service, "127.0.0.1", 8000));   // port 0: any
//   http->StartDraining();                // /health says 503, new requests are refused, running ones go on
//   http->AwaitAnswered(Deadline::After(...));    // until the last byte of the running ones has left
//   http->Stop();
//
// POST /v1/chat/completions, POST /v1/completions, GET /v1/models, /v1/models/{id}, /health, /metrics. A client that
// leaves frees its request's memory within a step; a slow one stalls only itself; whoever only holds connections open
// loses them once they are all taken.
#pragma once

#include <memory>
#include <string>

#include "coordinator/api/service.h"

namespace atl::coordinator {

class HttpServer {
 public:
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const Service* service, const std::string& host, int port);
  virtual ~HttpServer() = default;
  virtual int port() const = 0;
  virtual void StartDraining() = 0;
  virtual bool AwaitAnswered(Deadline deadline) = 0;
  virtual void Stop() = 0;
};

}  // namespace atl::coordinator
