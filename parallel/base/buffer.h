// A typed view of memory, as collectives take it: where, how many elements, of what type, on host or device.
// Views own nothing; whoever starts an operation keeps the memory alive until it has been waited for.
#pragma once

#include <cstdint>
#include <span>

#include "parallel/base/dtype.h"

namespace atl {

enum class MemoryKind : uint8_t { kHost, kDevice };

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<BF16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::kI8;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};

struct Buffer {
  void* data = nullptr;
  int64_t count = 0;  // elements
  DType type = DType::kU8;
  MemoryKind memory = MemoryKind::kHost;

  int64_t bytes() const { return count * SizeOf(type); }
  template <typename T>
  static Buffer Of(std::span<T> values) {
    return {values.data(), static_cast<int64_t>(values.size()), DTypeOf<T>::value};
  }
};

struct ConstBuffer {
  const void* data = nullptr;
  int64_t count = 0;
  DType type = DType::kU8;
  MemoryKind memory = MemoryKind::kHost;

  ConstBuffer() = default;
  ConstBuffer(const void* d, int64_t c, DType t, MemoryKind m = MemoryKind::kHost)
      : data(d), count(c), type(t), memory(m) {}
  // NOLINTNEXTLINE(google-explicit-constructor): a mutable view is a const one
  ConstBuffer(const Buffer& b) : data(b.data), count(b.count), type(b.type), memory(b.memory) {}

  int64_t bytes() const { return count * SizeOf(type); }
  template <typename T>
  static ConstBuffer Of(std::span<const T> values) {
    return {values.data(), static_cast<int64_t>(values.size()), DTypeOf<T>::value};
  }
};

}  // namespace atl
