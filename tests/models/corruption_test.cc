// Damaged checkpoints beside the fuzz targets: every byte of small files changed and cut, scales that are no numbers,
// nesting and names made to hurt. Each is refused in one sentence, or still reads as something whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/weights/formats/gguf.h"
#include "models/weights/read_model.h"
#include "tests/fuzz/input_file.h"
#include "tests/fuzz/read_slices.h"
#include "tests/models/checkpoint_file.h"
#include "tests/models/in_directory.h"

namespace atl::models {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path kSeeds = fs::path(ATOLL_SOURCE_DIR) / "tests/fuzz/seeds";

std::string Read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class Corruption : public InDirectory {
 protected:
  std::string Write(const std::string& name, const std::string& bytes) const {
    std::ofstream(directory_ / name, std::ios::binary) << bytes;
    return (directory_ / name).string();
  }
};

// Opens a file of these bytes and reads every tensor that was believed. Whether anything was refused; errors are
// checked to be sentences.
bool Refused(const std::string& bytes) {
  const InputFile file(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  const auto checkpoint = Checkpoint::Open(file.path());
  if (!checkpoint.ok()) {
    CheckSentence(checkpoint.status());
    return true;
  }
  for (const auto& [tensor, view] : checkpoint->tensors()) {
    Parameter p;
    p.name = tensor;
    p.shape = view.shape;
    if (!p.shape.empty() && p.shape.size() <= 2) ReadSlices(*checkpoint, p);
  }
  if (checkpoint->gguf() == nullptr) return false;
  auto spec = ReadDescription(file.path());
  if (!spec.ok()) {
    CheckSentence(spec.status());
    return true;
  }
  const int64_t experts = spec->moe ? spec->moe->experts : 0;
  if (spec->num_layers() * (experts + 1) > 64) return false;  // the damage has made it large
  const auto formats = AddStoredFormats(*checkpoint, &*spec);
  if (!formats.ok()) CheckSentence(formats.status());
  for (const Parameter& p : Parameters(*spec)) ReadSlices(*checkpoint, p);
  return !formats.ok();
}

// Refusing everything would pass for robust, so the undamaged files must be read and some damage must be harmless.
TEST_F(Corruption, EveryByteOfAHeader) {
  int files = 0, refused = 0, read = 0;
  for (const char* folder : {"safetensors_fuzz", "gguf_fuzz"}) {
    for (const auto& entry : fs::directory_iterator(kSeeds / folder)) {
      const std::string name = entry.path().filename().string(), whole = Read(entry.path());
      if (name.starts_with("crash") || name == "name_of_lines.safetensors") continue;
      ++files;
      if (name != "values.gguf" && name != "gemma3_header.gguf") {
        EXPECT_FALSE(Refused(whole)) << name;
      }
      const size_t header = std::min<size_t>(whole.size(), 1200);
      for (size_t at = 0; at < header; ++at) {
        std::string bytes = whole;
        constexpr char kChanges[] = {'\x01', '\x80', '\xff'};
        bytes[at] = static_cast<char>(bytes[at] ^ kChanges[at % 3]);
        ++(Refused(bytes) ? refused : read);
      }
      for (size_t size = 0; size < header; size += 7) EXPECT_TRUE(Refused(whole.substr(0, size))) << name << size;
    }
  }
  EXPECT_GE(files, 8);
  EXPECT_GT(refused, 500);
  EXPECT_GT(read, 500);
}

struct ScaleCase {
  WeightFormat format;
  std::vector<int64_t> halves;  // where a block's f16 scales stand
};

// Where GGUF's block types keep their scales.
TEST_F(Corruption, ScalesThatAreNoNumbers) {
  using enum WeightFormat;
  const ScaleCase cases[] = {{kQ4_0, {0}},    {kQ4_1, {0, 2}},   {kQ5_0, {0}},    {kQ5_1, {0, 2}}, {kQ8_0, {0}},
                             {kIQ4_NL, {0}},  {kQ2_K, {80, 82}}, {kQ3_K, {108}},  {kQ4_K, {0, 2}}, {kQ5_K, {0, 2}},
                             {kQ6_K, {208}},  {kIQ1_S, {0}},     {kIQ2_XXS, {0}}, {kIQ2_XS, {0}},  {kIQ2_S, {0}},
                             {kIQ3_XXS, {0}}, {kIQ3_S, {0}},     {kIQ4_XS, {0}}};
  const auto error = [](WeightFormat format, const std::vector<std::byte>& blocks) {
    const WeightFormatInfo info = InfoOf(format);
    Parameter p;
    p.name = "w";
    p.shape = {3, info.group};
    p.format = format;
    StoredTensor stored;
    stored.format = format;
    stored.data = blocks.data();
    stored.row_bytes = stored.column_bytes = info.group_bytes;
    std::vector<std::byte> out(3 * info.group_bytes);
    return ToString(ReadSlice(p, stored, {{0, 3}, {0, info.group}}, out.data()).message());
  };
  for (const ScaleCase& c : cases) {
    const int64_t bytes = InfoOf(c.format).group_bytes;
    const std::vector<std::byte> good(3 * bytes, std::byte{0x11});
    EXPECT_EQ(error(c.format, good), "") << Name(c.format);
    for (const int64_t at : c.halves) {
      for (const uint16_t bits : {0x7e00, 0xfe01, 0x7c00, 0xfc00}) {  // two NaNs, both infinities
        std::vector<std::byte> bad = good;
        std::memcpy(bad.data() + 2 * bytes + at, &bits, 2);
        EXPECT_THAT(error(c.format, bad), HasSubstr("a number in row 2 of w is not finite"))
            << Name(c.format) << " at " << at;
      }
    }
  }
  std::vector<std::byte> mxfp4(3 * 17, std::byte{0x11});
  EXPECT_EQ(error(kMXFP4, mxfp4), "");
  mxfp4[17] = std::byte{255};
  EXPECT_THAT(error(kMXFP4, mxfp4), HasSubstr("a number in row 1"));
  // IQ1_M has its scale in the upper four bits of the block's last four words, the lowest first.
  std::vector<std::byte> iq1_m(3 * 56, std::byte{0x11});
  EXPECT_EQ(error(kIQ1_M, iq1_m), "");
  iq1_m[53] = iq1_m[55] = std::byte{0x7f};
  iq1_m[53] = std::byte{0xcf};
  EXPECT_THAT(error(kIQ1_M, iq1_m), HasSubstr("a number in row 0"));
  // FP8 that is no number, of either sign; largest values are good.
  for (const int byte : {0x7f, 0xff}) {
    std::vector<std::byte> fp8 = {std::byte{0x7e}, static_cast<std::byte>(byte), std::byte{0xfe}};
    EXPECT_THAT(error(kFp8Block, fp8), HasSubstr("a number in row 1 of w is not finite"));
  }
}

// What parses without recursion must not be copied, compared or printed with it.
TEST_F(Corruption, NestingCannotExhaustTheStack) {
  const auto deep = [](const std::string& open, const std::string& close) {
    std::string text;
    for (int i = 0; i < 200000; ++i) text += open;
    text += "1";
    for (int i = 0; i < 200000; ++i) text += close;
    return text;
  };
  for (const std::string& value : {deep("[", "]"), deep("{\"a\":", "}")}) {
    for (const char* key : {"vocab_size", "quantization_config", "rope_scaling", "hidden_act", "text_config"}) {
      const auto spec = ParseModelSpec(fmt::format(R"({{"model_type": "llama", "{}": {}}})", key, value));
      EXPECT_THAT(ToString(spec.status().message()), HasSubstr("config.json nests more than 64 deep")) << key;
    }
    Write("model.safetensors.index.json", "{\"weight_map\": " + value + "}");
    EXPECT_THAT(ToString(Checkpoint::Open(directory_.string()).status().message()), HasSubstr("is not an index"));
    std::string file(8, '\0');
    const uint64_t size = value.size();
    std::memcpy(file.data(), &size, 8);
    EXPECT_TRUE(Refused(file + value));
  }
}

// A name of a file's stands in a message short and on one line.
TEST_F(Corruption, NamesCannotFloodAMessage) {
  for (const std::string& name :
       {std::string("a\nb\r\x01\x7f"), std::string(30000, 'n'), std::string("\u00e9\u65e5")}) {
    const nlohmann::json header = {{name, {{"dtype", "C64"}, {"shape", {1}}, {"data_offsets", {0, 1}}}}};
    const std::string text = header.dump();
    std::string bytes(8, '\0');
    const uint64_t size = text.size();
    std::memcpy(bytes.data(), &size, 8);
    const absl::Status opened = Checkpoint::Open(Write("model.safetensors", bytes + text + "x")).status();
    EXPECT_THAT(ToString(opened.message()), HasSubstr("dtype C64 is not supported"));
    for (const absl::Status& status : {opened, ParseModelSpec(nlohmann::json{{"model_type", name}}.dump()).status()}) {
      const std::string message = ToString(status.message());
      EXPECT_FALSE(status.ok());
      EXPECT_LT(message.size(), 1000u);
      for (const char c : message) EXPECT_TRUE(c >= ' ' && c <= '~') << static_cast<int>(c);
    }
  }
}

TEST_F(Corruption, WrongTypesAreNamed) {
  TestTensors tensors;
  tensors.Add("w", DType::kI8, {2, 2}, std::vector<int8_t>{1, 2, 3, 4});
  const Checkpoint checkpoint = tensors.Checkpoint();
  Parameter p;
  p.name = "w";
  p.shape = {2, 2};
  EXPECT_THAT(ToString(FindStored(checkpoint, p).status().message()),
              HasSubstr("tensor w is stored as i8; f32, f16 or bf16 can be read"));
}

}  // namespace
}  // namespace atl::models
