// The conformance suite with ranks as threads.
#include <thread>

#include "parallel/backends.h"
#include "tests/parallel/on_ranks.h"

namespace atl::parallel {

void OnRanks(int ranks, const std::function<void(Communicator&)>& body) {
  const auto world = InprocWorld(ranks, /*epoch=*/1);
  std::vector<std::jthread> threads;
  for (const auto& comm : world) threads.emplace_back([&body, &comm] { body(*comm); });
}

int MaxRanks() { return 8; }
bool CanRebuild() { return true; }

}  // namespace atl::parallel
