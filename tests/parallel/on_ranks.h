// How the conformance suite gets its ranks. Each backend's program defines these three; the suite is the same.
#pragma once

#include <functional>
#include <string>

#include "parallel/communicator.h"

namespace atl::parallel {

// Runs `body` on each of `ranks` ranks (1 to MaxRanks()) of a group of that size. Under MPI every process calls this in
// lockstep, and those that are not members return at once.
void OnRanks(int ranks, const std::function<void(Communicator&)>& body);
int MaxRanks();
bool CanRebuild();

}  // namespace atl::parallel
