// What `atoll bench machine` makes of a rank's report.
#include "coordinator/cli/bench_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atl::coordinator {
namespace {

TEST(BenchMachine, PrintsEachLimitWithItsUnit) {
  const auto table = MachineTable(
      R"({"threads":2,"ranks":4,"transport":"mpi","kernels":{"f32 and bf16":"AVX3","int8 and int4":"avx512-vnni"},)"
      R"("read_bytes_per_s":{"one":2.0e10,"all":3.3e10},"operations_per_s":{"f32":1.5e11,"bf16":3e11,"int8":7.42e11},)"
      R"("exchanges":[{"name":"all-to-all, 1 row","bytes":28672,"seconds":1e-5}]})");
  ASSERT_TRUE(table.ok()) << table.status();
  for (const char* line :
       {"read, 1 thread                      20.0 GB/s", "read, 2 threads                     33.0 GB/s",
        "multiply-add, int8                 742.0 GOP/s", "exchanges between 4 ranks (mpi)",
        "all-to-all, 1 row                   10.0 us         2.87 GB/s"}) {
    EXPECT_THAT(*table, testing::HasSubstr(line));
  }
}

TEST(BenchMachine, RefusesWhatIsNoReport) {
  for (const char* report : {"", "[]", "{}", "{\"threads\": 2}", "rank 0 died"}) {
    EXPECT_EQ(MachineTable(report).status().code(), absl::StatusCode::kInternal) << report;
  }
}

TEST(BenchMachine, RefusesWhatCannotBeMeasured) {
  EXPECT_EQ(RunBenchMachine({.transport = "pigeon"}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RunBenchMachine({.ranks = 0}).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace atl::coordinator
