#include "models/kernels/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

#include "models/kernels/limits_loop.h"

namespace atl::models::kernels {
namespace {

// What loops compute goes here, so that no compiler leaves them out.
std::atomic<uint64_t> sink{0};

double SecondsOf(const auto& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// `streams` runs of one thread's part, read side by side: with several the prefetchers keep more lines in flight.
uint64_t ReadPart(const std::byte* data, int64_t bytes, int streams, bool prefetch) {
  constexpr int64_t kLine = 64, kAhead = 2048;
  const int64_t run = bytes / streams / kLine * kLine;
  uint64_t sums[8] = {};
  for (int64_t at = 0; at < run; at += kLine) {
    for (int s = 0; s < streams; ++s) {
      const std::byte* line = data + s * run + at;
      if (prefetch) __builtin_prefetch(line + kAhead);
      uint64_t words[8];
      std::memcpy(words, line, kLine);
      for (int i = 0; i < 8; ++i) sums[i] ^= words[i];
    }
  }
  uint64_t all = 0;
  for (const uint64_t sum : sums) all ^= sum;
  return all;
}

struct Loop {
  const char* name;
  MultiplyAddLoop run;
};

Loop Best(Arithmetic arithmetic) {
  for (const Loop& loop : {Loop{"amx", MultiplyAddAmx(arithmetic)},
                           Loop{"avx512-vnni, avx512-bf16 or avx512", MultiplyAddAvx512(arithmetic)},
                           Loop{"avx2", MultiplyAddAvx2(arithmetic)}}) {
    if (loop.run != nullptr) return loop;
  }
  if (arithmetic == Arithmetic::kInt8Tiles) return {"none", nullptr};
  return {"portable", MultiplyAddPortable(arithmetic)};
}

}  // namespace

double ReadBandwidth(std::span<const std::byte> memory, ThreadPool* pool) {
  const int threads = pool != nullptr ? pool->threads() : 1;
  const int64_t part = static_cast<int64_t>(memory.size()) / threads;
  double best = 0;
  const auto measure = [&](const auto& read) {
    const double seconds = SecondsOf([&] {
      ParallelFor(pool, threads, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) sink ^= read(memory.data() + t * part, part);
      });
    });
    best = std::max(best, static_cast<double>(part * threads) / seconds);
  };
  for (const int streams : {1, 2, 4, 8}) {
    measure([&](const std::byte* data, int64_t bytes) { return ReadPart(data, bytes, streams, false); });
    measure([&](const std::byte* data, int64_t bytes) { return ReadPart(data, bytes, streams, true); });
  }
  for (const ReadLoop wide : {ReadAvx512(), ReadAvx2()}) {
    for (int repeat = 0; wide != nullptr && repeat < 2; ++repeat) measure(wide);
  }
  return best;
}

double MultiplyAddPeak(Arithmetic arithmetic, ThreadPool* pool) {
  const int threads = pool != nullptr ? pool->threads() : 1;
  const Loop loop = Best(arithmetic);
  if (loop.run == nullptr) return 0;
  constexpr int64_t kRounds = 3'000'000;
  double best = 0;
  for (int attempt = 0; attempt < 4; ++attempt) {
    int64_t operations = 0;
    const double seconds = SecondsOf([&] {
      std::vector<int64_t> done(threads);
      ParallelFor(pool, threads, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          uint64_t result = 0;
          done[t] = loop.run(kRounds, &result);
          sink ^= result;
        }
      });
      for (const int64_t count : done) operations += count;
    });
    best = std::max(best, static_cast<double>(operations) / seconds);
  }
  return best;
}

std::string MultiplyAddInstructions(Arithmetic arithmetic) { return Best(arithmetic).name; }

}  // namespace atl::models::kernels
