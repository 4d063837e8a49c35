#include "models/weights/formats/gguf_file.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "parallel/base/shown.h"

namespace atl::models {
namespace {

constexpr uint64_t kMaxTensors = 1 << 20, kMaxKeys = 1 << 16, kMaxName = 1 << 16, kMaxDimensions = 4;
constexpr int64_t kMaxAlignment = 1 << 20;
constexpr int64_t kShortArray = 4096;  // a value for each layer, but no vocabulary

enum ValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

// 0: not a number.
int64_t NumberBytes(uint32_t type) {
  switch (type) {
    case kU8:
    case kI8:
    case kBool:
      return 1;
    case kU16:
    case kI16:
      return 2;
    case kU32:
    case kI32:
    case kF32:
      return 4;
    case kU64:
    case kI64:
    case kF64:
      return 8;
    default:
      return 0;
  }
}

template <typename T>
T At(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

double Meant(float value) {
  char text[32];
  const char* end = std::to_chars(text, text + sizeof(text), value).ptr;
  double meant = value;
  std::from_chars(text, end, meant);
  return meant;
}

nlohmann::json Number(uint32_t type, const std::byte* from) {
  switch (type) {
    case kU8:
      return At<uint8_t>(from);
    case kI8:
      return At<int8_t>(from);
    case kU16:
      return At<uint16_t>(from);
    case kI16:
      return At<int16_t>(from);
    case kU32:
      return At<uint32_t>(from);
    case kI32:
      return At<int32_t>(from);
    case kF32:
      return Meant(At<float>(from));
    case kBool:
      return At<uint8_t>(from) != 0;
    case kU64:
      return At<uint64_t>(from);
    case kI64:
      return At<int64_t>(from);
    default:
      return At<double>(from);
  }
}

}  // namespace

// Walks the header. After the first failure every read gives zero or nothing, and status() tells.
class GgufParser {
 public:
  explicit GgufParser(GgufFile* out)
      : out_(*out), at_(out->file->data()), end_(out->file->data() + out->file->size()), path_(out->file->path()) {}

  absl::Status Parse() {
    if (Left() < 24 || std::memcmp(at_, "GGUF", 4) != 0) return InvalidArgument("{} is not a GGUF file", path_);
    at_ += 4;
    const auto version = Read<uint32_t>();
    if (version != 2 && version != 3) {
      const char* why = __builtin_bswap32(version) <= 3 ? " (it is big-endian)" : "";
      return InvalidArgument("{}: GGUF version {} cannot be read{}; versions 2 and 3 can", path_, version, why);
    }
    const auto tensors = Read<uint64_t>(), keys = Read<uint64_t>();
    if (tensors > kMaxTensors || keys > kMaxKeys) {
      return InvalidArgument("{}: it would have {} tensors and {} keys; is the file damaged?", path_, tensors, keys);
    }
    for (uint64_t i = 0; i < keys && status_.ok(); ++i) ReadKey();
    for (uint64_t i = 0; i < tensors && status_.ok(); ++i) ReadTensor();
    ATOLL_RETURN_IF_ERROR(status_);
    return PlaceTensors();
  }

 private:
  int64_t Left() const { return end_ - at_; }

  void Fail(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  void FailShort(const std::string& what) {
    Fail(InvalidArgument("{}: the file ends inside {}; is it truncated?", path_, what));
  }

  template <typename T>
  T Read() {
    if (!status_.ok() || Left() < static_cast<int64_t>(sizeof(T))) {
      FailShort("its header");
      return T();
    }
    const T value = At<T>(at_);
    at_ += sizeof(T);
    return value;
  }

  // The bytes of a string in the file.
  std::string_view ReadString(uint64_t most, const char* what) {
    const auto length = Read<uint64_t>();
    if (!status_.ok()) return {};
    if (length > most || static_cast<int64_t>(length) > Left()) {
      Fail(InvalidArgument("{}: {} would have {} bytes; is the file damaged?", path_, what, length));
      return {};
    }
    const std::string_view text(reinterpret_cast<const char*>(at_), length);
    at_ += length;
    return text;
  }

  void ReadKey() {
    const std::string key(ReadString(kMaxName, "a key's name"));
    const auto type = Read<uint32_t>();
    if (!status_.ok()) return;
    if (out_.values.contains(key) || out_.arrays_.contains(key)) {
      return Fail(InvalidArgument("{}: key {} is there twice", path_, Shown(key)));
    }
    if (type == kString) {
      // Not all writers care for UTF-8; JSON does.
      const auto any = nlohmann::json(std::string(ReadString(INT64_MAX, "a key's text")));
      out_.values[key] = any;
    } else if (type == kArray) {
      ReadArray(key);
    } else if (const int64_t bytes = NumberBytes(type); bytes == 0) {
      Fail(InvalidArgument("{}: key {} has type {}, which GGUF does not define", path_, Shown(key), type));
    } else if (bytes > Left()) {
      FailShort("its metadata");
    } else {
      out_.values[key] = Number(type, at_);
      at_ += bytes;
    }
  }

  void ReadArray(const std::string& key) {
    GgufFile::Array array;
    array.type = Read<uint32_t>();
    const auto count = Read<uint64_t>();
    if (!status_.ok()) return;
    const int64_t bytes = NumberBytes(array.type);
    if (bytes == 0 && array.type != kString) {
      return Fail(
          InvalidArgument("{}: key {} is an array of type {}, which cannot be read", path_, Shown(key), array.type));
    }
    // A string takes at least its length.
    if (count > static_cast<uint64_t>(Left() / (bytes == 0 ? 8 : bytes))) {
      return Fail(
          InvalidArgument("{}: key {} would have {} elements, more than the file has room for; is it truncated?", path_,
                          Shown(key), count));
    }
    array.count = static_cast<int64_t>(count);
    array.begin = at_;
    if (bytes > 0) {
      at_ += array.count * bytes;
      if (array.count <= kShortArray) {
        nlohmann::json& values = out_.values[key] = nlohmann::json::array();
        for (int64_t i = 0; i < array.count; ++i) values.push_back(Number(array.type, array.begin + i * bytes));
      }
    } else {
      for (int64_t i = 0; i < array.count && status_.ok(); ++i) ReadString(INT64_MAX, "a text of an array");
    }
    out_.arrays_[key] = array;
  }

  void ReadTensor() {
    const std::string name(ReadString(kMaxName, "a tensor's name"));
    const auto dimensions = Read<uint32_t>();
    if (!status_.ok()) return;
    if (dimensions < 1 || dimensions > kMaxDimensions) {
      return Fail(InvalidArgument("{}: tensor {} has {} dimensions", path_, Shown(name), dimensions));
    }
    GgufTensor tensor;
    for (uint32_t i = 0; i < dimensions; ++i) {
      const auto size = Read<uint64_t>();
      if (size > static_cast<uint64_t>(INT64_MAX)) {
        return Fail(InvalidArgument("{}: tensor {} has a dimension of {}", path_, Shown(name), size));
      }
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
    }
    tensor.type = Read<uint32_t>();
    const auto offset = Read<uint64_t>();
    if (!status_.ok()) return;
    if (offset > static_cast<uint64_t>(INT64_MAX)) {
      return Fail(InvalidArgument("{}: tensor {} begins at offset {}", path_, Shown(name), offset));
    }
    tensor.format = GgufFormat(tensor.type);
    std::vector<int64_t> extents = tensor.shape;
    int64_t bytes = 1;  // of an unknown type: elements, so that products of its extents fit all the same
    if (tensor.format) {
      const WeightFormatInfo info = InfoOf(*tensor.format);
      if (tensor.shape.back() % info.group != 0) {
        return Fail(InvalidArgument("{}: tensor {} has rows of {} elements, which {} cannot hold in blocks of {}",
                                    path_, Shown(name), tensor.shape.back(), info.name, info.group));
      }
      extents.back() /= info.group;
      bytes = info.group_bytes;
    }
    for (const int64_t extent : extents) {
      if (__builtin_mul_overflow(bytes, extent, &bytes)) {
        return Fail(InvalidArgument("{}: tensor {} is too large for 64 bits", path_, Shown(name)));
      }
    }
    if (tensor.format) tensor.bytes = bytes;
    if (!out_.tensors.emplace(name, std::move(tensor)).second) {
      return Fail(InvalidArgument("{}: tensor {} is there twice", path_, Shown(name)));
    }
    offsets_.emplace_back(static_cast<int64_t>(offset), name);
  }

  absl::Status PlaceTensors() {
    int64_t alignment = 32;
    if (out_.values.contains("general.alignment")) {
      const nlohmann::json& stated = out_.values["general.alignment"];
      alignment = stated.is_number_unsigned() && stated.get<uint64_t>() <= kMaxAlignment ? stated.get<int64_t>() : 0;
      if (alignment < 1 || (alignment & (alignment - 1)) != 0) {
        return InvalidArgument("{}: general.alignment is {}; it must be a power of two", path_,
                               stated.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 60));
      }
    }
    const int64_t header = at_ - out_.file->data();
    const int64_t data = (header + alignment - 1) / alignment * alignment;
    std::sort(offsets_.begin(), offsets_.end());
    int64_t next = 0;
    for (const auto& [offset, name] : offsets_) {
      GgufTensor& tensor = out_.tensors[name];
      if (offset % alignment != 0) {
        return InvalidArgument("{}: tensor {} begins at offset {}, which is not aligned to {}", path_, Shown(name),
                               offset, alignment);
      }
      if (offset < next) {
        return InvalidArgument("{}: tensor {} overlaps the one before it", path_, Shown(name));
      }
      const int64_t room = out_.file->size() - data;
      if (offset > room || tensor.bytes > room - offset) {
        return InvalidArgument(
            "{}: tensor {} ({} bytes at offset {}) leaves the file's {} bytes of data; is the file "
            "truncated?",
            path_, Shown(name), tensor.bytes, offset, std::max<int64_t>(room, 0));
      }
      next = offset + tensor.bytes;
      tensor.data = out_.file->data() + data + offset;
    }
    return absl::OkStatus();
  }

  GgufFile& out_;
  const std::byte* at_;
  const std::byte* const end_;
  const std::string path_;
  absl::Status status_;
  std::vector<std::pair<int64_t, std::string>> offsets_;
};

absl::StatusOr<GgufFile> GgufFile::Parse(std::shared_ptr<const MappedFile> file) {
  GgufFile gguf;
  gguf.file = std::move(file);
  ATOLL_RETURN_IF_ERROR(GgufParser(&gguf).Parse());
  return gguf;
}

absl::StatusOr<std::vector<std::string>> GgufFile::Strings(const std::string& key) const {
  std::vector<std::string> strings;
  const auto found = arrays_.find(key);
  if (found == arrays_.end()) return strings;
  if (found->second.type != kString) return InvalidArgument("{}: {} must be an array of strings", file->path(), key);
  const std::byte* at = found->second.begin;
  for (int64_t i = 0; i < found->second.count; ++i) {
    const auto length = static_cast<size_t>(At<uint64_t>(at));
    strings.emplace_back(reinterpret_cast<const char*>(at + 8), length);
    at += 8 + length;
  }
  return strings;
}

template <typename T>
absl::StatusOr<std::vector<T>> GgufFile::Numbers(const std::string& key) const {
  std::vector<T> numbers;
  const auto found = arrays_.find(key);
  if (found == arrays_.end()) return numbers;
  constexpr uint32_t type = std::is_same_v<T, float> ? kF32 : kI32;
  if (found->second.type != type) {
    return InvalidArgument("{}: {} must be an array of {}", file->path(), key, type == kF32 ? "f32" : "i32");
  }
  numbers.resize(found->second.count);
  if (!numbers.empty()) std::memcpy(numbers.data(), found->second.begin, numbers.size() * sizeof(T));
  return numbers;
}

absl::StatusOr<std::vector<float>> GgufFile::Floats(const std::string& key) const { return Numbers<float>(key); }
absl::StatusOr<std::vector<int32_t>> GgufFile::Integers(const std::string& key) const { return Numbers<int32_t>(key); }

std::optional<WeightFormat> GgufFormat(uint32_t type) {
  using enum WeightFormat;
  constexpr std::pair<uint32_t, WeightFormat> kTypes[] = {
      {0, kF32},      {1, kF16},     {2, kQ4_0},     {3, kQ4_1},   {6, kQ5_0},    {7, kQ5_1},
      {8, kQ8_0},     {10, kQ2_K},   {11, kQ3_K},    {12, kQ4_K},  {13, kQ5_K},   {14, kQ6_K},
      {16, kIQ2_XXS}, {17, kIQ2_XS}, {18, kIQ3_XXS}, {19, kIQ1_S}, {20, kIQ4_NL}, {21, kIQ3_S},
      {22, kIQ2_S},   {23, kIQ4_XS}, {29, kIQ1_M},   {30, kBF16},  {39, kMXFP4}};
  for (const auto& [number, format] : kTypes) {
    if (number == type) return format;
  }
  return std::nullopt;
}

}  // namespace atl::models
