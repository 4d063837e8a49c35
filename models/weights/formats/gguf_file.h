// One GGUF file: metadata by key and tensors by name. Layout (little-endian):
//   "GGUF", version u32, tensors u64, keys u64;
//   each key: name, type u32, value; each tensor: name, dimensions u32, their sizes u64 (the fastest first), type u32,
//   offset u64; then, aligned to general.alignment (32), the tensors' bytes, whose offsets count from there.
// A name or string is its length u64 and its bytes; an array its element type u32, its length u64 and its elements.
//
//   ATOLL_ASSIGN_OR_RETURN(const GgufFile gguf, GgufFile::Parse(file));    // headers only; the file stays mapped
//   gguf.values["llama.block_count"]; gguf.Strings("tokenizer.ggml.tokens"); gguf.tensors["token_embd.weight"]
//
// Every statement is checked against the file before it is believed: lengths, types, extents, overlaps, duplicates.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/spec/weight_format.h"
#include "models/weights/mapped_file.h"

namespace atl::models {

struct GgufTensor {
  uint32_t type = 0;                   // as the file numbers it
  std::optional<WeightFormat> format;  // nullopt: a type that no weight of ours has
  std::vector<int64_t> shape;          // [..., rows, columns]: the fastest last
  const std::byte* data = nullptr;
  int64_t bytes = 0;  // 0 where the type is unknown
};

struct GgufFile {
  static absl::StatusOr<GgufFile> Parse(std::shared_ptr<const MappedFile> file);

  // Arrays of strings or of numbers, in full; empty where the key is absent; InvalidArgument for another type.
  absl::StatusOr<std::vector<std::string>> Strings(const std::string& key) const;
  absl::StatusOr<std::vector<float>> Floats(const std::string& key) const;
  absl::StatusOr<std::vector<int32_t>> Integers(const std::string& key) const;

  // NOLINTBEGIN(misc-non-private-member-variables-in-classes): a record; only where its arrays lie is its own to know
  std::shared_ptr<const MappedFile> file;
  // Scalars by key, and short arrays of numbers. An f32 becomes the number that its shortest decimal form names: the
  // one that was meant (1e-6, not 9.99999997e-7).
  nlohmann::json values = nlohmann::json::object();
  std::map<std::string, GgufTensor> tensors;
  // NOLINTEND(misc-non-private-member-variables-in-classes)

 private:
  struct Array {
    uint32_t type = 0;
    int64_t count = 0;
    const std::byte* begin = nullptr;
  };
  friend class GgufParser;
  template <typename T>
  absl::StatusOr<std::vector<T>> Numbers(const std::string& key) const;

  std::map<std::string, Array> arrays_;
};

// What GGUF numbers a type of ours.
std::optional<WeightFormat> GgufFormat(uint32_t type);

}  // namespace atl::models
