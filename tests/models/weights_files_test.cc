// safetensors files and checkpoints, whole, cut short, and lying.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "models/weights/formats/table.h"
#include "tests/models/in_directory.h"

namespace atl::models {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class WeightsFiles : public InDirectory {
 protected:
  fs::path Write(const std::string& name, const std::string& bytes) {
    std::ofstream(directory_ / name, std::ios::binary) << bytes;
    return directory_ / name;
  }
  static std::string OpenError(const fs::path& path) {
    const auto checkpoint = Checkpoint::Open(path.string());
    return checkpoint.ok() ? "ok" : ToString(checkpoint.status().message());
  }
};

std::string File(const std::string& header, size_t data_bytes, int64_t length = -1) {
  const auto stated = static_cast<uint64_t>(length < 0 ? static_cast<int64_t>(header.size()) : length);
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &stated, 8);
  return bytes + header + std::string(data_bytes, 'x');
}

TEST_F(WeightsFiles, WhatIsWrittenIsRead) {
  const std::vector<float> a{1, 2, 3, 4, 5, 6};
  const std::vector<int32_t> b{7, 8};
  const auto path = (directory_ / "model.safetensors").string();
  const auto bytes = [](const auto& v) { return reinterpret_cast<const std::byte*>(v.data()); };
  ASSERT_TRUE(WriteSafetensors(path, {{"z", {DType::kF32, {2, 3}, bytes(a), 24}},
                                      {"a", {DType::kI32, {2}, bytes(b), 8}},
                                      {"empty", {DType::kBF16, {0, 4}, bytes(b), 0}}})
                  .ok());
  for (const std::string& open : {path, directory_.string()}) {
    const auto checkpoint = Checkpoint::Open(open);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(checkpoint->tensors().size(), 3u);
    const TensorView* z = checkpoint->Find("z");
    ASSERT_NE(z, nullptr);
    EXPECT_EQ(z->shape, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(std::vector<std::byte>(z->data, z->data + 24), std::vector<std::byte>(bytes(a), bytes(a) + 24));
    EXPECT_EQ(std::memcmp(checkpoint->Find("a")->data, b.data(), 8), 0);
    EXPECT_EQ(checkpoint->Find("b"), nullptr);
  }
  const auto checkpoint = Checkpoint::Open(path);
  const auto find = [&](const std::string& name, std::vector<int64_t> shape) {
    Parameter p;
    p.name = name;
    p.shape = std::move(shape);
    return FindStored(*checkpoint, p).status();
  };
  EXPECT_TRUE(find("z", {2, 3}).ok());
  EXPECT_THAT(ToString(find("z", {3, 2}).message()), HasSubstr("z is [2, 3], config.json asks for [3, 2]"));
  EXPECT_EQ(find("y", {1}).code(), absl::StatusCode::kNotFound);
}

TEST_F(WeightsFiles, LyingHeadersAreRefused) {
  const auto entry = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"({{"t":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
  };
  const std::string good = entry(R"("F32")", "[2]", "[0,8]");
  EXPECT_EQ(OpenError(Write("good", File(good, 8))), "ok");
  EXPECT_EQ(OpenError(Write("meta", File(R"({"__metadata__":{"format":"pt"}})", 0))), "ok");

  struct Lie {
    std::string bytes, says;
  };
  const Lie lies[] = {
      {"", "it has 0 bytes"},
      {"1234567", "it has 7 bytes"},
      {File("", 0), "not a JSON object"},
      {File(good, 8, 1 << 20), "its header would have 1048576 bytes"},
      {File(good, 8, INT64_MAX), "its header would have"},
      {std::string(8, '\xff') + good, "its header would have 18446744073709551615 bytes"},
      {File(good, 8, static_cast<int64_t>(good.size()) - 1), "not a JSON object"},
      {File("[]", 0), "not a JSON object"},
      {File("\xff\xff", 0), "not a JSON object"},
      {File(std::string(10000, '{'), 0), "not a JSON object"},
      {File(good, 7), "truncated"},
      {File(good, 0), "truncated"},
      {File(good, 9), "belong to no tensor"},
      {File(entry(R"("F32")", "[2]", "[4,12]"), 12), "belong to no tensor"},
      {File(entry(R"("F32")", "[2]", "[8,0]"), 8), "data_offsets"},
      {File(entry(R"("F32")", "[2]", "[-8,0]"), 8), "data_offsets"},
      {File(entry(R"("F32")", "[2]", "[0]"), 8), "data_offsets"},
      {File(entry(R"("F32")", "[2]", "[0,8,8]"), 8), "data_offsets"},
      {File(entry(R"("F32")", "[2]", R"(["0","8"])"), 8), "data_offsets"},
      {File(entry(R"("F32")", "[2]", "[0,18446744073709551615]"), 8), "data_offsets"},
      {File(entry(R"("F32")", "[3]", "[0,8]"), 8), "shape and dtype make 12 bytes"},
      {File(entry(R"("BF16")", "[2]", "[0,8]"), 8), "shape and dtype make 4 bytes"},
      {File(entry(R"("F32")", "[-2]", "[0,8]"), 8), "shape"},
      {File(entry(R"("F32")", "[2.0]", "[0,8]"), 8), "shape"},
      {File(entry(R"("F32")", "2", "[0,8]"), 8), "shape"},
      {File(entry(R"("F32")", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8), "shape"},
      {File(entry(R"("F32")", "[4611686018427387904,4]", "[0,8]"), 8), "overflows"},
      {File(entry(R"("F32")", "[2147483648,2147483648,4]", "[0,0]"), 0), "overflows"},
      {File(entry(R"("C64")", "[1]", "[0,8]"), 8), "dtype C64 is not supported"},
      {File(entry("32", "[2]", "[0,8]"), 8), "dtype is missing"},
      {File(R"({"t":{"shape":[2],"data_offsets":[0,8]}})", 8), "dtype is missing"},
      {File(R"({"t":[0,8]})", 8), "not an object"},
      {File(
           R"({"t":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"t":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
           8),
       "names t twice"},
      {File(
           R"({"a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
           8),
       "overlap at data offset 4"},
      {File(
           R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
           8),
       "overlap"},
      {File(
           R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
           8),
       "bytes 2 to 4 of its data belong to no tensor"},
  };
  int number = 0;
  for (const Lie& lie : lies) {
    EXPECT_THAT(OpenError(Write("lie", lie.bytes)), HasSubstr(lie.says)) << "case " << number;
    ++number;
  }
}

// A download that stopped anywhere is noticed.
TEST_F(WeightsFiles, EveryTruncationIsRefused) {
  const std::string whole = File(
      R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}})",
      19);
  EXPECT_EQ(OpenError(Write("whole", whole)), "ok");
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(OpenError(Write("cut", whole.substr(0, size))), "ok") << size;
  }
}

class ShardedWeights : public WeightsFiles {
 protected:
  static std::string Shard(const std::string& tensor) {
    return File(fmt::format(R"({{"{}":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}})", tensor), 2);
  }
  void Index(const std::string& text) { Write("model.safetensors.index.json", text); }
};

TEST_F(ShardedWeights, ShardsAreJoined) {
  Write("one.safetensors", Shard("a"));
  Write("two.safetensors", Shard("b"));
  Write("stray.safetensors", "not looked at: the index does not name it");
  Index(R"({"metadata":{"total_size":4},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  const auto checkpoint = Checkpoint::Open(directory_.string());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_NE(checkpoint->Find("a"), nullptr);
  EXPECT_NE(checkpoint->Find("b"), nullptr);
}

TEST_F(ShardedWeights, BrokenIndexesAreRefused) {
  EXPECT_THAT(OpenError(directory_),
              HasSubstr("neither model.safetensors, model.safetensors.index.json nor a GGUF file"));
  EXPECT_THAT(OpenError(directory_ / "absent.safetensors"), HasSubstr("absent.safetensors cannot be opened"));
  Write("one.safetensors", Shard("a"));
  struct Lie {
    const char *index, *says;
  };
  for (const Lie& lie :
       {Lie{"", "is not an index"}, Lie{"[]", "is not an index"}, Lie{R"({"weight_map":[]})", "is not an index"},
        Lie{R"({"weight_map":{"a":1}})", "the shard of a is not a file name"},
        Lie{R"({"weight_map":{"a":"../one.safetensors"}})", "the shard of a is not a file name"},
        Lie{R"({"weight_map":{"a":"one\nsafetensors"}})", "the shard of a is not a file name"},
        Lie{R"({"weight_map":{"a":".."}})", "is not a regular file"},
        Lie{R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})", "two.safetensors cannot be opened"},
        Lie{R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors"}})",
            "one.safetensors holds b, but it does not"}}) {
    Index(lie.index);
    EXPECT_THAT(OpenError(directory_), HasSubstr(lie.says)) << lie.index;
  }
  Write("two.safetensors", Shard("a"));
  Index(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  EXPECT_THAT(OpenError(directory_), HasSubstr("tensor a is in another shard too"));
}

}  // namespace
}  // namespace atl::models
