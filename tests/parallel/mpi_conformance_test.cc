// The conformance suite with ranks as MPI processes: `mpirun -n 4 mpi_conformance_test`. All ranks run the same tests
// in the same order; rank 0 reports, the others speak only of their failures.
#include <gtest/gtest.h>
#include <unistd.h>

#include <numeric>

#include "parallel/backends.h"
#include "tests/parallel/on_ranks.h"

namespace atl::parallel {
namespace {

// Slices above this travel in pieces, so small data takes the path of slices above 1 GiB.
constexpr int64_t kMessageBytes = 1000;

Communicator* world = nullptr;  // of this program, from main on

class FailuresOnly : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", world->rank(), result.file_name() ? result.file_name() : "?",
                 result.line_number(), result.message());
  }
};

}  // namespace

// A new group each time, so that a test that leaves an operation unfinished disturbs no other. The epoch is one for the
// process: the tests that end it are a run of their own (CMakeLists.txt).
void OnRanks(int ranks, const std::function<void(Communicator&)>& body) {
  if (world->rank() >= ranks) return;
  std::vector<int> members(ranks);
  std::iota(members.begin(), members.end(), 0);
  auto group = world->Subgroup(members, Deadline::After(Seconds(20)));
  ASSERT_TRUE(group.ok()) << group.status();
  body(**group);
}

int MaxRanks() { return world->size(); }
bool CanRebuild() { return false; }

namespace {

int RunAllTests(int argc, char** argv) {
  auto joined = MpiWorld(&argc, &argv, /*epoch=*/1, kMessageBytes);
  if (!joined.ok()) {
    std::fprintf(stderr, "%s\n", ToString(joined.status().message()).c_str());
    return 1;
  }
  world = joined->get();
  if (world->rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailuresOnly);
  }
  const int failed = RUN_ALL_TESTS();
  std::fflush(nullptr);
  if (failed != 0) _exit(1);  // mpirun ends the others and returns it
  MpiFinish();
  return 0;
}

}  // namespace
}  // namespace atl::parallel

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return atl::parallel::RunAllTests(argc, argv);
}
