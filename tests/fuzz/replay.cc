// Runs a fuzz target where there is no libFuzzer: over every file of the folders that are named, and over changes of
// them that are the same every time.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr int kChanges = 400;  // of each seed

void Run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::string Changed(std::string input, const std::vector<std::string>& seeds, std::mt19937* random) {
  for (unsigned edits = 1 + (*random)() % 3; edits > 0 && !input.empty(); --edits) {
    const size_t at = (*random)() % input.size();
    const std::string& other = seeds[(*random)() % seeds.size()];
    switch ((*random)() % 5) {
      case 0:
        input[at] = static_cast<char>((*random)());
        break;
      case 1:
        input.resize(at);
        break;
      case 2:
        input.erase(at, 1 + (*random)() % 16);
        break;
      case 3:
        input.insert(at, other, other.empty() ? 0 : (*random)() % other.size(), 1 + (*random)() % 64);
        break;
      default:  // one bit: of a number, its size
        input[at] = static_cast<char>(input[at] ^ 1 << (*random)() % 8);
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> seeds;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  }
  if (seeds.empty()) {
    std::fprintf(stderr, "replay: no seeds; name a folder that has some\n");
    return 1;
  }
  std::mt19937 random(1);
  Run("");
  for (const std::string& seed : seeds) {
    Run(seed);
    for (int i = 0; i < kChanges; ++i) Run(Changed(seed, seeds, &random));
  }
  std::printf("%zu seeds, %zu inputs\n", seeds.size(), 1 + seeds.size() * (kChanges + 1));
  return 0;
}
