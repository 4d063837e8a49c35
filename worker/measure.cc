#include "worker/measure.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "models/machine.h"
#include "parallel/base/log.h"
#include "parallel/reduce.h"

namespace atl::worker {
namespace {

constexpr Seconds kPatience{30};
constexpr int64_t kHidden = 7168;  // values of a row of DeepSeek-V3 and Kimi K2

// One exchange of `rows` rows from each rank to each other.
struct Exchange {
  const char* name;
  int64_t rows;
  int repeats;
};
constexpr Exchange kAllToAll[] = {{"all-to-all, 64 bytes", 0, 2000},
                                  {"all-to-all, 1 row", 1, 1000},
                                  {"all-to-all, 8 rows", 8, 400},
                                  {"all-to-all, 64 rows", 64, 100}};
constexpr Exchange kAllReduce[] = {{"all-reduce, 1 row", 1, 1000}, {"all-reduce, 64 rows", 64, 100}};

absl::StatusOr<double> Median(int repeats, const auto& once) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    ATOLL_RETURN_IF_ERROR(once());
    seconds.push_back(Seconds(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + repeats / 2, seconds.end());
  return seconds[repeats / 2];
}

nlohmann::json Entry(const Exchange& exchange, int64_t bytes, double seconds) {
  return {{"name", exchange.name}, {"bytes", bytes}, {"seconds", seconds}};
}

absl::StatusOr<nlohmann::json> MeasureExchanges(parallel::Communicator& world) {
  nlohmann::json entries = nlohmann::json::array();
  const int size = world.size();
  for (const Exchange& exchange : kAllToAll) {
    const int64_t count = exchange.rows > 0 ? exchange.rows * kHidden : 16;
    const std::vector<float> send(count * size, 1.0f);
    std::vector<float> recv(count * size);
    ATOLL_ASSIGN_OR_RETURN(const double seconds, Median(exchange.repeats, [&]() -> absl::Status {
                             ATOLL_ASSIGN_OR_RETURN(parallel::Pending move,
                                                    world.StartAllToAll(ConstBuffer::Of(std::span<const float>(send)),
                                                                        Buffer::Of(std::span(recv)), {"measure"}));
                             return move.Wait(Deadline::After(kPatience));
                           }));
    entries.push_back(Entry(exchange, count * 4 * (size - 1), seconds));
  }
  for (const Exchange& exchange : kAllReduce) {
    if (size > 8 || (size & (size - 1)) != 0) continue;  // a tensor-parallel group has 1, 2, 4 or 8 ranks
    const std::vector<float> partial(exchange.rows * kHidden, 1.0f);
    std::vector<float> sums(partial.size()), scratch(2 * (partial.size() + kHidden * size));
    ATOLL_ASSIGN_OR_RETURN(const double seconds, Median(exchange.repeats, [&] {
                             return parallel::AllReduce(world, partial, exchange.rows, kHidden, scratch, sums,
                                                        {"measure"}, Deadline::After(kPatience));
                           }));
    entries.push_back(Entry(exchange, static_cast<int64_t>(partial.size()) * 4 * 2 * (size - 1) / size, seconds));
  }
  return entries;
}

}  // namespace

absl::Status MeasureRank(const MeasureOptions& options, parallel::Communicator& world) {
  ATOLL_ASSIGN_OR_RETURN(const nlohmann::json exchanges, MeasureExchanges(world));
  if (world.rank() != 0) return absl::OkStatus();  // alone from here on: the others would share the memory's bandwidth
  const models::MachineLimits limits =
      models::MeasureMachine({.threads = options.threads, .memory_bytes = options.memory_bytes},
                             [](const char* what) { Log()->info("measuring {}", what); });
  const nlohmann::json report = {
      {"threads", limits.threads},
      {"ranks", world.size()},
      {"transport", options.transport},
      {"kernels", {{"f32 and bf16", limits.kernel_target}, {"int8 and int4", limits.packed_target}}},
      {"read_bytes_per_s", {{"one", limits.read_one}, {"all", limits.read_all}}},
      {"operations_per_s",
       {{"f32", limits.f32}, {"bf16", limits.bf16}, {"int8", limits.int8}, {"int8 tiles", limits.int8_tiles}}},
      {"exchanges", exchanges}};
  std::printf("%s\n", report.dump().c_str());
  std::fflush(stdout);
  return absl::OkStatus();
}

}  // namespace atl::worker
