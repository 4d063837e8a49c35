// Slices: copied from files or made from names, they are the same elements whatever the cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "models/kernels/kernels.h"
#include "models/weights/dummy.h"
#include "models/weights/formats/table.h"
#include "models/weights/mapped_file.h"
#include "models/weights/read_model.h"
#include "models/weights/slice_reader.h"
#include "tests/models/checkpoint_file.h"

namespace atl::models {
namespace {

using parallel::ExpertPlacement;
using parallel::Topology;
using testing::HasSubstr;

const std::string kSource = ATOLL_SOURCE_DIR;

Slice Whole(const Parameter& p) { return {{0, p.shape[0]}, {0, p.shape.size() > 1 ? p.shape[1] : 1}}; }

using Bytes = std::vector<std::byte>;

// The slice's elements in f32, row by row.
std::vector<float> Decoded(const Parameter& p, const Bytes& bytes, const Slice& slice) {
  const kernels::Matrix m = kernels::PackedMatrix(bytes.data(), p.format, slice.rows, slice.columns);
  std::vector<float> values(m.rows * m.cols);
  for (int64_t r = 0; r < m.rows; ++r) kernels::WidenRow(m, r, values.data() + r * m.cols);
  return values;
}

// Element by element from the whole tensor: the plain way to cut a slice.
std::vector<float> Cut(const Parameter& p, const std::vector<float>& whole, const Slice& slice) {
  const int64_t stride = p.shape.size() > 1 ? p.shape[1] : 1;
  std::vector<float> out;
  for (int64_t r = slice.rows.begin; r < slice.rows.end; ++r) {
    for (int64_t c = slice.columns.begin; c < slice.columns.end; ++c) out.push_back(whole[r * stride + c]);
  }
  return out;
}

Bytes Room(const Parameter& p, const Slice& slice) {
  return Bytes(PackingOf(p.format, slice.rows, slice.columns).bytes);
}

void ForEverySlice(const ModelSpec& spec, const std::function<void(const Parameter&, const Slice&)>& body) {
  for (const Topology topology : {Topology{1, 1}, {2, 2}, {4, 4}, {8, 8}}) {
    if (spec.heads % topology.tp != 0 || topology.world > spec.moe->experts) continue;
    const auto placement = ExpertPlacement::Contiguous(static_cast<int>(spec.moe->experts), topology.world);
    for (const Parameter& p : Parameters(spec)) {
      for (int rank = 0; rank < topology.world; ++rank) {
        if (const auto slice = SliceOf(p, spec, topology, rank, placement)) body(p, *slice);
      }
    }
  }
}

TEST(WeightsSlices, OfFilesEqualTheWhole) {
  for (const char* path : {"deepseek_v3", "moonlight", "deepseek_v3-fp8", "kimi_k2-int4"}) {
    const auto spec = ReadModel(kSource + "/tests/golden/" + path);
    ASSERT_TRUE(spec.ok()) << spec.status();
    const auto checkpoint = Checkpoint::Open(kSource + "/tests/golden/" + path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    std::map<std::string, std::vector<float>> wholes;
    ForEverySlice(*spec, [&](const Parameter& p, const Slice& slice) {
      const auto stored = FindStored(*checkpoint, p);
      ASSERT_TRUE(stored.ok()) << stored.status();
      std::vector<float>& whole = wholes[p.name];
      if (whole.empty()) {
        Bytes bytes = Room(p, Whole(p));
        ASSERT_TRUE(ReadSlice(p, *stored, Whole(p), bytes.data()).ok());
        if (stored->format == p.format) {
          EXPECT_EQ(std::memcmp(bytes.data(), stored->data, p.shape[0] * stored->row_bytes), 0) << p.name;
        }
        whole = Decoded(p, bytes, Whole(p));
      }
      Bytes out = Room(p, slice);
      const absl::Status status = ReadSlice(p, *stored, slice, out.data());
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_EQ(Decoded(p, out, slice), Cut(p, whole, slice)) << p.name;
    });
  }
}

TEST(WeightsSlices, OfDummyWeightsEqualTheWhole) {
  for (const char* path : {"kimi_k2", "deepseek_v3-fp8", "kimi_k2-int4"}) {
    const auto spec = ReadModelSpec(kSource + "/tests/golden/" + path);
    ASSERT_TRUE(spec.ok()) << spec.status();
    std::map<std::string, std::vector<float>> wholes;
    ForEverySlice(*spec, [&](const Parameter& p, const Slice& slice) {
      std::vector<float>& whole = wholes[p.name];
      if (whole.empty()) {
        Bytes bytes = Room(p, Whole(p));
        DummySlice(p, Whole(p), bytes.data());
        whole = Decoded(p, bytes, Whole(p));
      }
      Bytes out = Room(p, slice);
      DummySlice(p, slice, out.data());
      EXPECT_EQ(Decoded(p, out, slice), Cut(p, whole, slice)) << p.name;
    });
  }
}

TEST(WeightsSlices, DummyMatricesKeepTheScaleOfARow) {
  using enum WeightFormat;
  for (const WeightFormat format : {kF32, kF16, kBF16, kFp8Block, kInt4F32, kInt4F16, kInt4BF16}) {
    Parameter p;
    p.name = "model.layers.0.mlp.gate_proj.weight";
    p.shape = {256, 1024};
    p.kind = ParameterKind::kDense;
    p.format = format;
    Bytes bytes = Room(p, Whole(p));
    DummySlice(p, Whole(p), bytes.data());
    const std::vector<float> values = Decoded(p, bytes, Whole(p));
    double sum = 0, squares = 0;
    for (const float v : values) sum += v, squares += static_cast<double>(v) * v;
    const auto n = static_cast<double>(values.size());
    const bool int4 = format >= kInt4F32;
    EXPECT_NEAR(sum / n, int4 ? -0.5 / 8 * std::sqrt(3.0 / 1024) : 0, 3e-4) << Name(format);
    EXPECT_NEAR(squares / n * 1024, 1, 0.04) << Name(format);  // variance 1 / inputs

    Parameter other = p;
    other.name = "model.layers.1.mlp.gate_proj.weight";
    Bytes others = Room(p, Whole(p));
    DummySlice(other, Whole(other), others.data());
    EXPECT_NE(bytes, others) << Name(format);
  }
}

Parameter OfShape(std::vector<int64_t> shape, WeightFormat format, std::optional<TensorPart> part = {}) {
  Parameter p;
  p.name = "w";
  p.shape = std::move(shape);
  p.format = format;
  p.part = std::move(part);
  return p;
}

// The slice of a checkpoint that has the one tensor `w`, read to `out`.
template <typename T>
std::string Read(const Parameter& p, DType type, std::vector<int64_t> shape, const std::vector<T>& values,
                 const Slice& slice, void* out) {
  TestTensors tensors;
  tensors.Add("w", type, std::move(shape), values);
  const Checkpoint checkpoint = tensors.Checkpoint();
  const auto stored = FindStored(checkpoint, p);
  if (!stored.ok()) return ToString(stored.status().message());
  return ToString(ReadSlice(p, *stored, slice, out).message());
}

TEST(WeightsSlices, VectorsAreWidened) {
  const Parameter p = OfShape({5}, WeightFormat::kF32);
  std::vector<float> floats(5);
  const std::vector<uint16_t> f16{0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000};  // 1, -2, 2^-24, 65504, -0
  EXPECT_EQ(Read(p, DType::kF16, {5}, f16, {{0, 5}, {0, 1}}, floats.data()), "");
  EXPECT_THAT(floats, testing::ElementsAre(1.0f, -2.0f, 0x1p-24f, 65504.0f, 0.0f));
  EXPECT_TRUE(std::signbit(floats[4]));

  const std::vector<BF16> bf16{ToBF16(3), ToBF16(-0.5f), {0x7f80}, {0x0001}, {0x8000}};
  EXPECT_EQ(Read(p, DType::kBF16, {5}, bf16, {{1, 4}, {0, 1}}, floats.data()), "");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(floats[i], ToFloat(bf16[i + 1]));

  const std::vector<float> f32{1, 1.001f, -1e-40f, 3e38f, 7};
  EXPECT_EQ(Read(p, DType::kF32, {5}, f32, {{0, 5}, {0, 1}}, floats.data()), "");
  EXPECT_EQ(floats, f32);

  EXPECT_THAT(Read(p, DType::kU8, {5}, std::vector<uint8_t>(5), {{0, 5}, {0, 1}}, floats.data()),
              HasSubstr("w is stored as u8; f32, f16 or bf16 can be read"));
  EXPECT_THAT(Read(p, DType::kF8E4M3, {5}, std::vector<uint8_t>(5), {{0, 5}, {0, 1}}, floats.data()),
              HasSubstr("w is stored as fp8, which only a whole matrix can be"));
}

TEST(WeightsSlices, AMatrixKeepsItsType) {
  const std::vector<float> values{0, 1.001f, 2, 3, 4, 5};
  std::vector<float> out(2);
  const Parameter p = OfShape({2, 3}, WeightFormat::kF32);
  EXPECT_EQ(Read(p, DType::kF32, {2, 3}, values, {{0, 2}, {1, 2}}, out.data()), "");
  EXPECT_THAT(out, testing::ElementsAre(1.001f, 4.0f));
  const Parameter planned = OfShape({2, 3}, WeightFormat::kBF16);
  EXPECT_THAT(Read(planned, DType::kF32, {2, 3}, values, {{0, 2}, {1, 2}}, out.data()),
              HasSubstr("w is stored as f32; bf16 was planned for"));
}

// Rows 5 .. 5 + 70 of the third slab of [4, in = 90, all_rows = 80]: element (slab, c, r) is 10000 slab + 100 c + r.
TEST(WeightsSlices, OfATransposedStack) {
  constexpr int64_t kStack = 4, kIn = 90, kAllRows = 80;
  std::vector<float> values;
  for (int64_t slab = 0; slab < kStack; ++slab) {
    for (int64_t c = 0; c < kIn; ++c) {
      for (int64_t r = 0; r < kAllRows; ++r) values.push_back(static_cast<float>(10000 * slab + 100 * c + r));
    }
  }
  const Parameter p = OfShape({70, kIn}, WeightFormat::kF32,
                              TensorPart{.tensor = "w",
                                         .shape = {kStack, kIn, kAllRows},
                                         .offset = 2 * kIn * kAllRows + 5,
                                         .row_stride = 1,
                                         .column_stride = kAllRows});
  const Slice slice{{1, 70}, {3, 87}};
  std::vector<float> out(slice.elements());
  EXPECT_EQ(Read(p, DType::kF32, {kStack, kIn, kAllRows}, values, slice, out.data()), "");
  for (int64_t r = 0; r < slice.rows.size(); ++r) {
    for (int64_t c = 0; c < slice.columns.size(); ++c) {
      ASSERT_EQ(out[r * slice.columns.size() + c], static_cast<float>(20000 + 100 * (c + 3) + r + 6)) << r << " " << c;
    }
  }
}

int64_t ResidentPages(const MappedFile& file) {
  // mincore answers for the page cache, which other readers fill; what this process mapped is in its own pagemap.
  const int64_t page = sysconf(_SC_PAGESIZE), pages = (file.size() + page - 1) / page;
  std::FILE* map = std::fopen("/proc/self/pagemap", "rb");
  if (map == nullptr) return -1;
  int64_t resident = 0;
  std::fseek(map, static_cast<int64_t>(reinterpret_cast<uintptr_t>(file.data()) / page * 8), SEEK_SET);
  for (int64_t i = 0; i < pages; ++i) {
    uint64_t entry = 0;
    if (std::fread(&entry, 8, 1, map) != 1) break;
    resident += static_cast<int64_t>(entry >> 63);
  }
  std::fclose(map);
  return resident;
}

TEST(WeightsSlices, OnlyTheirPagesAreRead) {
  constexpr int64_t kRows = 2048, kColumns = 8192;  // 16 KiB a row, 32 MiB
  const auto path = (std::filesystem::path(testing::TempDir()) / "pages.safetensors").string();
  const std::vector<BF16> values(kRows * kColumns);
  ASSERT_TRUE(WriteSafetensors(path, {{"t",
                                       {DType::kBF16,
                                        {kRows, kColumns},
                                        reinterpret_cast<const std::byte*>(values.data()),
                                        2 * kRows * kColumns}}})
                  .ok());
  const auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t data = (*file)->size() - 2 * kRows * kColumns;
  StoredTensor stored;
  stored.data = (*file)->data() + data;
  stored.row_bytes = 2 * kColumns;
  stored.column_bytes = 2;
  Parameter p;
  p.name = "t";
  p.shape = {kRows, kColumns};
  const Slice slice{{32, 40}, {0, kColumns}};  // 128 KiB
  std::vector<BF16> out(slice.elements());
  ASSERT_TRUE(ReadSlice(p, stored, slice, out.data()).ok());
  const int64_t resident = ResidentPages(**file);
  std::filesystem::remove(path);
  if (resident <= 0) GTEST_SKIP() << "this system does not say which pages are mapped";
  // Faulting in one page may map its cached neighbours too (up to a huge page), but never most of the file.
  EXPECT_LE(resident * page, (*file)->size() / 4);
}

}  // namespace
}  // namespace atl::models
