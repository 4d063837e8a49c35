// Checkpoints of a few tensors, made for a test.
//
//   TestTensors tensors;
//   tensors.Add("w", DType::kF32, {2, 3}, std::vector<float>{...});
//   const Checkpoint checkpoint = tensors.Checkpoint();
#pragma once

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "models/weights/checkpoint.h"

namespace atl::models {

class TestTensors {
 public:
  template <typename T>
  void Add(const std::string& name, DType type, std::vector<int64_t> shape, const std::vector<T>& values) {
    Tensor& tensor = tensors_[name];
    tensor.type = type;
    tensor.shape = std::move(shape);
    tensor.bytes.resize(values.size() * sizeof(T));
    std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  }
  void Remove(const std::string& name) { tensors_.erase(name); }

  void Write(const std::string& path) const {
    std::vector<TensorToWrite> list;
    for (const auto& [name, tensor] : tensors_) {
      list.push_back(
          {name, {tensor.type, tensor.shape, tensor.bytes.data(), static_cast<int64_t>(tensor.bytes.size())}});
    }
    const absl::Status status = WriteSafetensors(path, list);
    if (!status.ok()) throw std::runtime_error(ToString(status.message()));
  }
  models::Checkpoint Checkpoint() const {
    const auto path = std::filesystem::temp_directory_path() / fmt::format("atoll_test_{}.safetensors", getpid());
    Write(path.string());
    auto checkpoint = models::Checkpoint::Open(path.string());
    std::filesystem::remove(path);  // it stays mapped
    if (!checkpoint.ok()) throw std::runtime_error(ToString(checkpoint.status().message()));
    return *std::move(checkpoint);
  }

 private:
  struct Tensor {
    DType type;
    std::vector<int64_t> shape;
    std::vector<std::byte> bytes;
  };
  std::map<std::string, Tensor> tensors_;
};

}  // namespace atl::models
