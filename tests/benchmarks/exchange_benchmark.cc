// What expert parallelism's moves cost between ranks, beside Open MPI's own all-to-all of the same bytes:
//
//   mpirun -n 2 --bind-to none build/release/benchmarks/exchange_benchmark
//
// The row RawAlltoallv is the limit: MPI_Alltoallv on buffers that are ready. AllToAllV moves the same bytes through
// Communicator; Dispatch adds counts, lists and the gathering of rows, Combine the weighted sums. All ranks run the
// same fixed number of exchanges; rank 0 reports. "GB/s": bytes that one rank sends to others, a second.
#include <benchmark/benchmark.h>
#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "parallel/backends.h"
#include "parallel/dispatch.h"
#include "parallel/exchange_size.h"

namespace atl::parallel {
namespace {

constexpr int64_t kHidden = 7168;  // DeepSeek-V3, Kimi K2
constexpr int kTopK = 8;
constexpr int kExpertsPerRank = 16;

std::unique_ptr<Communicator> world;  // set by main

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "rank %d: %s\n", world->rank(), value.status().ToString().c_str());
  std::_Exit(1);
}
void OrDie(const absl::Status& status) { OrDie(status.ok() ? absl::StatusOr<bool>(true) : status); }

void Together() { MPI_Barrier(MPI_COMM_WORLD); }

void CountBytes(benchmark::State& state, int64_t bytes) {
  using benchmark::Counter;
  const auto sent = static_cast<double>(bytes) * static_cast<double>(state.iterations());
  state.counters["GB/s"] = Counter(sent / 1e9, Counter::kIsRate);
  state.counters["KB"] = static_cast<double>(bytes) / 1e3;
}

// Argument of all: rows of kHidden f32 that each rank sends to each other one (not to itself).
struct EvenRows {
  explicit EvenRows(int64_t rows) : counts(world->size(), rows * kHidden), displacements(world->size(), 0) {
    counts[world->rank()] = 0;
    for (size_t i = 1; i < counts.size(); ++i) {
      displacements[i] = displacements[i - 1] + static_cast<int>(counts[i - 1]);
    }
    send.assign(rows * kHidden * (world->size() - 1), 1.0f);
    recv.assign(send.size(), 0.0f);
  }
  int64_t bytes() const { return static_cast<int64_t>(send.size() * sizeof(float)); }

  std::vector<int64_t> counts;
  std::vector<int> displacements;
  std::vector<float> send, recv;
};

void BM_RawAlltoallv(benchmark::State& state) {
  EvenRows even(state.range(0));
  const std::vector<int> counts(even.counts.begin(), even.counts.end());
  Together();
  for (auto _ : state) {
    MPI_Alltoallv(even.send.data(), counts.data(), even.displacements.data(), MPI_FLOAT, even.recv.data(),
                  counts.data(), even.displacements.data(), MPI_FLOAT, MPI_COMM_WORLD);
  }
  CountBytes(state, even.bytes());
}

void BM_AllToAllV(benchmark::State& state) {
  EvenRows even(state.range(0));
  Together();
  for (auto _ : state) {
    Pending move = OrDie(world->StartAllToAllV(ConstBuffer::Of(std::span<const float>(even.send)), even.counts,
                                               Buffer::Of(std::span(even.recv)), even.counts, {"benchmark"}));
    OrDie(move.Wait(Deadline::After(Seconds(30))));
  }
  CountBytes(state, even.bytes());
}

// Rows whose eight experts are spread over all ranks, so each crosses once to each other rank.
class Exchanging {
 public:
  explicit Exchanging(int64_t rows)
      : rows_(rows),
        placement_(OrDie(ExpertPlacement::FromTable(Table(), world->size(), 1))),
        context_{.topology = {world->size(), 1}, .rank = world->rank(), .world = world.get(), .tp_group = nullptr},
        x_(rows * kHidden, 1.0f),
        out_(rows * kHidden) {
    const int experts = world->size() * kExpertsPerRank;
    for (int64_t row = 0; row < rows; ++row) {
      for (int k = 0; k < kTopK; ++k) {
        experts_.push_back(static_cast<int32_t>((row * 7 + k * experts / kTopK) % experts));
        weights_.push_back(1.0f / kTopK);
      }
    }
    const int64_t most = rows * world->size() * kTopK * kHidden * static_cast<int64_t>(sizeof(float)) + 4096;
    send_.resize(most);
    recv_.resize(most);
    lists_.resize(most);
    results_.assign(rows * world->size() * kTopK * kHidden, 1.0f);
  }

  Dispatched Out() {
    return OrDie(Dispatch(context_, placement_, 0, ConstBuffer::Of(std::span<const float>(x_)), kHidden, routing(),
                          {send_, recv_, lists_}));
  }
  void Home(const Dispatched& in) {
    const ConstBuffer results(results_.data(), in.num_pairs * kHidden, DType::kF32);
    OrDie(Combine(context_, in, results, kHidden, routing(), out_, {send_, recv_, lists_}));
  }

 private:
  static std::vector<std::vector<int>> Table() {
    std::vector<std::vector<int>> table;
    for (int e = 0; e < world->size() * kExpertsPerRank; ++e) table.push_back({e / kExpertsPerRank});
    return table;
  }
  Routing routing() const { return {rows_, kTopK, experts_, weights_}; }

  const int64_t rows_;
  const ExpertPlacement placement_;
  const ParallelContext context_;
  std::vector<float> x_, out_;
  std::vector<int32_t> experts_;
  std::vector<float> weights_;
  std::vector<std::byte> send_, recv_, lists_;
  std::vector<float> results_;
};

int64_t BytesToOthers(std::span<const int64_t> to) {
  int64_t count = 0;
  for (int rank = 0; rank < world->size(); ++rank) count += rank == world->rank() ? 0 : to[rank];
  return count * kHidden * static_cast<int64_t>(sizeof(float));
}

void BM_Dispatch(benchmark::State& state) {
  Exchanging exchange(state.range(0));
  Dispatched in = exchange.Out();
  Together();
  for (auto _ : state) in = exchange.Out();
  CountBytes(state, BytesToOthers(in.rows_to));
}

void BM_Combine(benchmark::State& state) {
  Exchanging exchange(state.range(0));
  const Dispatched in = exchange.Out();
  Together();
  for (auto _ : state) exchange.Home(in);
  CountBytes(state, BytesToOthers(in.pairs_from));
}

// The number of exchanges is fixed: all ranks must do the same.
#define EXCHANGE(name)  \
  BENCHMARK(name)       \
      ->ArgName("rows") \
      ->Arg(1)          \
      ->Arg(8)          \
      ->Arg(64)         \
      ->Iterations(300) \
      ->Repetitions(5)  \
      ->UseRealTime()   \
      ->ReportAggregatesOnly()
EXCHANGE(BM_RawAlltoallv);
EXCHANGE(BM_AllToAllV);
EXCHANGE(BM_Dispatch);
EXCHANGE(BM_Combine);

class Silent : public benchmark::ConsoleReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

}  // namespace
}  // namespace atl::parallel

int main(int argc, char** argv) {
  using namespace atl::parallel;  // NOLINT(google-build-using-namespace): main
  auto joined = MpiWorld(&argc, &argv, /*epoch=*/1);
  if (!joined.ok()) {
    std::fprintf(stderr, "%s\n", joined.status().ToString().c_str());
    return 1;
  }
  world = *std::move(joined);
  benchmark::Initialize(&argc, argv);
  if (world->rank() == 0) {
    benchmark::RunSpecifiedBenchmarks();
  } else {
    Silent silent;
    benchmark::RunSpecifiedBenchmarks(&silent);
  }
  world.reset();
  MpiFinish();
  return 0;
}
