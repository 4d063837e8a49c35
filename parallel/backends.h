// How a process joins a world. Adding a backend is a file in parallel/backends/ and its line here.
//
//   inproc: ranks are threads of this process (unit tests, `atoll-worker --ranks N`):
//       std::vector<std::unique_ptr<Communicator>> world = InprocWorld(4, /*epoch=*/1);   // one for each thread
//   mpi:    this process is one rank of MPI_COMM_WORLD, under any MPI launcher:
//       ATOLL_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> world, MpiWorld(&argc, &argv, /*epoch=*/1));
#pragma once

#include <memory>
#include <vector>

#include "parallel/communicator.h"

namespace atl::parallel {

std::vector<std::unique_ptr<Communicator>> InprocWorld(int size, uint64_t epoch);

// Initialises MPI in the calling thread, which becomes the only one that may use the communicator. Call once.
// Slices above max_message_bytes travel in pieces: MPI counts in int.
inline constexpr int64_t kMaxMpiMessageBytes = int64_t{1} << 30;
absl::StatusOr<std::unique_ptr<Communicator>> MpiWorld(int* argc, char*** argv, uint64_t epoch,
                                                       int64_t max_message_bytes = kMaxMpiMessageBytes);
// Leaves in order (all ranks alive). A rank that leaves for any other reason calls _exit.
void MpiFinish();

}  // namespace atl::parallel
