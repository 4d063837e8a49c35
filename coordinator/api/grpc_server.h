// The gRPC front end: atoll.v1.Inference with health and reflection.
//
//   ATOLL_ASSIGN_OR_RETURN(auto server, GrpcFrontEnd::Start(&service, "127.0.0.1", 50051));
//   server->SetServing(true);  ...  server->SetServing(false);   // readiness: health of "atoll.v1.Inference"
//   server->AwaitAnswered(Deadline::After(...));      // until the last message of the calls that run has left
//   server->Shutdown();                               // whoever still watches health is sent away
//
// Health of "" says that the process lives, from Start to Shutdown.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>

#include "coordinator/api/service.h"

namespace atl::coordinator {

class GrpcFrontEnd {
 public:
  static absl::StatusOr<std::unique_ptr<GrpcFrontEnd>> Start(const Service* service, const std::string& host, int port);
  ~GrpcFrontEnd();
  int port() const { return port_; }
  void SetServing(bool serving);
  bool AwaitAnswered(Deadline deadline);
  void Shutdown();

 private:
  const std::shared_ptr<std::atomic<int>> calls_ = std::make_shared<std::atomic<int>>(0);  // of Generate, under way
  std::unique_ptr<grpc::Service> inference_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace atl::coordinator
