// How fast text becomes ids, on one core: ordinary English with DeepSeek's tokenizer, and a megabyte without a space
// through Gemma's, which cuts nothing and merges the text as one word. tests/benchmarks/tokenizer_compare.py runs it
// beside Hugging Face's tokenizers, on the same texts.
//
//   ATOLL_TOKENIZERS=../shared/tokenizers build/release/benchmarks/tokenizer_benchmark
//
// ATOLL_TEXT: a file of English; without it the licence texts that Debian installs.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {
namespace {

namespace fs = std::filesystem;

constexpr size_t kEnglishBytes = 4 << 20, kSolidBytes = 1 << 20;

std::string ReadAll(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string English() {
  const char* file = std::getenv("ATOLL_TEXT");
  std::string text;
  for (const char* name :
       {"Apache-2.0", "Artistic", "GFDL-1.3", "GPL-1", "GPL-2", "GPL-3", "LGPL-2", "MPL-1.1", "MPL-2.0"}) {
    text += file != nullptr ? "" : ReadAll(fs::path("/usr/share/common-licenses") / name);
  }
  if (file != nullptr) text = ReadAll(file);
  const std::string once = text;
  while (!text.empty() && text.size() < kEnglishBytes) text += once;
  return text.substr(0, kEnglishBytes);
}

std::string Solid() {
  std::string text = English();
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\f' || c == '\r'; });
  return text.substr(0, kSolidBytes);
}

void Encode(benchmark::State& state, const char* name, const std::string& text) {
  const char* folder = std::getenv("ATOLL_TOKENIZERS");
  const fs::path path = fs::path(folder != nullptr ? folder : "../shared/tokenizers") / name / "tokenizer.json.gz";
  if (!fs::exists(path)) return state.SkipWithError(("SKIPPED: " + path.string() + " is not there").c_str());
  if (text.empty()) return state.SkipWithError("SKIPPED: no English text is there; name a file in ATOLL_TEXT");
  const auto tokenizer = LoadTokenizer(path.string());
  if (!tokenizer.ok()) return state.SkipWithError(ToString(tokenizer.status().message()).c_str());
  size_t ids = 0;
  for (auto _ : state) {
    ids = (*tokenizer)->Encode(text, {}).size();
    benchmark::DoNotOptimize(ids);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  state.counters["MB/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * 1e-6 * static_cast<double>(text.size()), benchmark::Counter::kIsRate);
  state.counters["ids"] = static_cast<double>(ids);
}

void BM_EnglishDeepseek(benchmark::State& state) { Encode(state, "deepseek_v3", English()); }
void BM_OneMegabyteWithoutASpaceGemma(benchmark::State& state) { Encode(state, "gemma3", Solid()); }
BENCHMARK(BM_EnglishDeepseek)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_OneMegabyteWithoutASpaceGemma)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace atl::coordinator
