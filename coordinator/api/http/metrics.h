// The page of GET /metrics, in Prometheus' text format, from the engine's and the cluster's counters.
#pragma once

#include <string>

#include "coordinator/api/service.h"

namespace atl::coordinator {

std::string MetricsText(const Service& service);

}  // namespace atl::coordinator
