// `atoll bench machine`: what one machine and the exchanges between ranks can do at most. The ranks measure themselves
// (`atoll-worker --measure`); this starts them and prints.
#pragma once

#include <string>

#include "parallel/base/status.h"

namespace atl::coordinator {

struct BenchMachineOptions {
  int ranks = 2;
  int threads = 0;  // 0: all cores
  std::string transport = "mpi";
  double memory_gib = 4;
  bool json = false;
};

// `report`: what atoll-worker --measure printed. The table that people read.
absl::StatusOr<std::string> MachineTable(const std::string& report);
// What atoll-worker --measure prints.
absl::StatusOr<std::string> MeasureMachine(const BenchMachineOptions& options);
absl::Status RunBenchMachine(const BenchMachineOptions& options);

}  // namespace atl::coordinator
