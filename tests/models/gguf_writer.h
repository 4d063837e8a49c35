// GGUF files, made for a test.
//
//   GgufWriter gguf;
//   gguf.Text("general.architecture", "llama");
//   gguf.Number("llama.block_count", 4u);
//   gguf.Tensor("output_norm.weight", {64}, 0, bytes);     // [rows, columns] in our order
//   gguf.Write("model.gguf");
#pragma once

#include <cstring>
#include <fstream>
#include <string>
#include <type_traits>
#include <vector>

namespace atl::models {

class GgufWriter {
 public:
  void Text(const std::string& key, const std::string& value) {
    Key(key, 8);
    PutString(value, &keys_);
  }
  template <typename T>
  void Number(const std::string& key, T value) {
    Key(key, TypeOf<T>());
    Put(value, &keys_);
  }
  template <typename T>
  void Array(const std::string& key, const std::vector<T>& values) {
    Key(key, 9);
    if constexpr (std::is_same_v<T, std::string>) {
      Put(uint32_t{8}, &keys_);
      Put(static_cast<uint64_t>(values.size()), &keys_);
      for (const std::string& value : values) PutString(value, &keys_);
    } else {
      Put(TypeOf<T>(), &keys_);
      Put(static_cast<uint64_t>(values.size()), &keys_);
      for (const T value : values) Put(value, &keys_);
    }
  }
  void Tensor(const std::string& name, const std::vector<int64_t>& shape, uint32_t type, const std::string& bytes) {
    ++tensors_;
    PutString(name, &infos_);
    Put(static_cast<uint32_t>(shape.size()), &infos_);
    for (size_t i = shape.size(); i > 0; --i) Put(static_cast<uint64_t>(shape[i - 1]), &infos_);
    Put(type, &infos_);
    Put(static_cast<uint64_t>(data_.size()), &infos_);
    data_ += bytes;
    data_.resize((data_.size() + 31) / 32 * 32);
  }

  std::string Bytes() const {
    std::string file = "GGUF";
    Put(uint32_t{3}, &file);
    Put(tensors_, &file);
    Put(count_, &file);
    file += keys_ + infos_;
    file.resize((file.size() + 31) / 32 * 32);
    return file + data_;
  }
  void Write(const std::string& path) const { std::ofstream(path, std::ios::binary) << Bytes(); }

  template <typename T>
  static void Put(T value, std::string* to) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    to->append(bytes, sizeof(T));
  }
  static void PutString(const std::string& text, std::string* to) {
    Put(static_cast<uint64_t>(text.size()), to);
    *to += text;
  }

 private:
  template <typename T>
  static constexpr uint32_t TypeOf() {
    if constexpr (std::is_same_v<T, bool>) return 7;
    if constexpr (std::is_same_v<T, float>) return 6;
    if constexpr (std::is_same_v<T, double>) return 12;
    constexpr uint32_t kUnsigned[] = {0, 2, 4, 10}, kSigned[] = {1, 3, 5, 11};
    constexpr int size = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
    return std::is_signed_v<T> ? kSigned[size] : kUnsigned[size];
  }
  void Key(const std::string& key, uint32_t type) {
    ++count_;
    PutString(key, &keys_);
    Put(type, &keys_);
  }

  uint64_t count_ = 0, tensors_ = 0;
  std::string keys_, infos_, data_;
};

}  // namespace atl::models
