// The calls of atoll.v1.Inference: a Generate call is a request on its way in, and its stream's deltas on the way out.
//
//   std::unique_ptr<grpc::Service> inference = MakeInference(&service, calls);      // for grpc::ServerBuilder
//
// A client that cancels, or whose deadline passes, frees its request's memory within a step. One that reads slowly
// stalls only itself: the next delta is taken when the last write is done.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>

#include "coordinator/api/service.h"

namespace atl::coordinator {

// calls: how many of Generate are under way, kept up to date.
std::unique_ptr<grpc::Service> MakeInference(const Service* service, std::shared_ptr<std::atomic<int>> calls);

}  // namespace atl::coordinator
