#include "coordinator/api/grpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/service_type.h>

#include <thread>

#include "coordinator/api/grpc_inference.h"
#include "grpc/health/v1/health.pb.h"

namespace atl::coordinator {

absl::StatusOr<std::unique_ptr<GrpcFrontEnd>> GrpcFrontEnd::Start(const Service* service, const std::string& host,
                                                                  int port) {
  if (port < 0 || port > UINT16_MAX) {
    return InvalidArgument("--grpc-port {} is not a port; 0 to {} are", port, UINT16_MAX);
  }
  const std::string address = fmt::format("{}:{}", host, port);
  auto front = std::make_unique<GrpcFrontEnd>();
  front->inference_ = MakeInference(service, front->calls_);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::health::v1::HealthCheckRequest::descriptor();  // linked in, for reflection
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &front->port_);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // or two servers would share the port in silence
  builder.RegisterService(front->inference_.get());
  front->server_ = builder.BuildAndStart();
  if (!front->server_ || front->port_ == 0) {
    return Unavailable("gRPC cannot listen on {}; is the port taken? --grpc-port chooses another", address);
  }
  front->server_->GetHealthCheckService()->SetServingStatus("", true);
  front->SetServing(false);
  return front;
}

GrpcFrontEnd::~GrpcFrontEnd() { Shutdown(); }

void GrpcFrontEnd::SetServing(bool serving) {
  server_->GetHealthCheckService()->SetServingStatus("atoll.v1.Inference", serving);
}

bool GrpcFrontEnd::AwaitAnswered(Deadline deadline) {
  while (*calls_ > 0) {
    if (deadline.Expired()) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

void GrpcFrontEnd::Shutdown() {
  if (!server_) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

}  // namespace atl::coordinator
