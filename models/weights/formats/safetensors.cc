#include "models/weights/formats/safetensors.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "parallel/base/shown.h"

namespace atl::models {
namespace {

constexpr int64_t kMaxHeaderBytes = 100 << 20;  // as the format's own reader limits it

struct NamedType {
  const char* name;
  DType type;
};
constexpr NamedType kTypes[] = {{"F32", DType::kF32},        {"BF16", DType::kBF16}, {"F16", DType::kF16},
                                {"F8_E4M3", DType::kF8E4M3}, {"I8", DType::kI8},     {"U8", DType::kU8},
                                {"I32", DType::kI32},        {"I64", DType::kI64},   {"BOOL", DType::kBool}};

std::optional<DType> TypeNamed(const std::string& name) {
  for (const NamedType& t : kTypes) {
    if (name == t.name) return t.type;
  }
  return std::nullopt;
}

// A list of non-negative whole numbers, or nothing.
std::optional<std::vector<int64_t>> Sizes(const nlohmann::json& entry, const char* key) {
  const auto found = entry.find(key);
  if (found == entry.end() || !found->is_array() || found->size() > 8) return std::nullopt;
  std::vector<int64_t> sizes;
  for (const nlohmann::json& value : *found) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    sizes.push_back(value.get<int64_t>());
  }
  return sizes;
}

// Parses with duplicate names noticed: a JSON object would silently keep the last.
nlohmann::json ParseHeader(const char* begin, const char* end, std::string* duplicate) {
  std::vector<std::map<std::string, int>> seen;
  const auto callback = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    if (event == nlohmann::json::parse_event_t::object_start) seen.emplace_back();
    if (event == nlohmann::json::parse_event_t::object_end && !seen.empty()) seen.pop_back();
    if (event == nlohmann::json::parse_event_t::key && !seen.empty() && ++seen.back()[parsed.get<std::string>()] > 1) {
      *duplicate = parsed.get<std::string>();
    }
    return depth < 16;
  };
  return nlohmann::json::parse(begin, end, callback, /*allow_exceptions=*/false);
}

absl::StatusOr<TensorView> CheckTensor(const std::string& path, const std::string& name, const nlohmann::json& entry,
                                       const std::byte* data, int64_t data_bytes) {
  const auto bad = [&](const std::string& what) {
    return InvalidArgument("{}: tensor {}: {}", path, Shown(name), what);
  };
  if (!entry.is_object()) return bad("its entry is not an object");
  const auto dtype = entry.find("dtype");
  if (dtype == entry.end() || !dtype->is_string()) return bad("dtype is missing");
  const std::optional<DType> type = TypeNamed(dtype->get<std::string>());
  if (!type) return bad(fmt::format("dtype {} is not supported", Shown(dtype->get<std::string>())));
  const auto shape = Sizes(entry, "shape");
  if (!shape) return bad("shape is not a list of at most 8 sizes");
  const auto offsets = Sizes(entry, "data_offsets");
  if (!offsets || offsets->size() != 2) return bad("data_offsets is not a pair of offsets");
  const int64_t begin = (*offsets)[0], end = (*offsets)[1];
  if (begin > end || end > data_bytes) {
    return bad(fmt::format("data_offsets [{}, {}] leave the file's {} bytes of data; is the file truncated?", begin,
                           end, data_bytes));
  }
  int64_t bytes = SizeOf(*type);
  for (const int64_t extent : *shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) return bad("its size overflows 64 bits");
  }
  if (bytes != end - begin) {
    return bad(fmt::format("shape and dtype make {} bytes, data_offsets {}", bytes, end - begin));
  }
  return TensorView{*type, *shape, data + begin, bytes};
}

}  // namespace

absl::StatusOr<std::map<std::string, TensorView>> ReadSafetensorsHeader(const MappedFile& file) {
  const std::string& path = file.path();
  if (file.size() < 8) return InvalidArgument("{} is not safetensors: it has {} bytes", path, file.size());
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  if (length > static_cast<uint64_t>(kMaxHeaderBytes) || static_cast<int64_t>(length) > file.size() - 8) {
    return InvalidArgument("{} is not safetensors, or truncated: its header would have {} bytes, the file has {}", path,
                           length, file.size());
  }
  const char* text = reinterpret_cast<const char*>(file.data()) + 8;
  std::string duplicate;
  const nlohmann::json header = ParseHeader(text, text + length, &duplicate);
  if (header.is_discarded() || !header.is_object()) {
    return InvalidArgument("{} is not safetensors: its header is not a JSON object", path);
  }
  if (!duplicate.empty()) return InvalidArgument("{}: the header names {} twice", path, Shown(duplicate));

  const std::byte* data = file.data() + 8 + length;
  const int64_t data_bytes = file.size() - 8 - static_cast<int64_t>(length);
  std::map<std::string, TensorView> tensors;
  std::vector<std::pair<int64_t, int64_t>> extents;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    ATOLL_ASSIGN_OR_RETURN(const TensorView tensor, CheckTensor(path, name, entry, data, data_bytes));
    if (tensor.bytes > 0) extents.emplace_back(tensor.data - data, tensor.data - data + tensor.bytes);
    tensors.emplace(name, tensor);
  }
  // The format allows neither overlaps nor bytes that no tensor owns.
  std::sort(extents.begin(), extents.end());
  extents.emplace_back(data_bytes, data_bytes);
  int64_t next = 0;
  for (const auto& [begin, end] : extents) {
    if (begin < next) return InvalidArgument("{}: two tensors overlap at data offset {}", path, begin);
    if (begin > next) {
      return InvalidArgument("{}: bytes {} to {} of its data belong to no tensor; is the file whole?", path, next,
                             begin);
    }
    next = end;
  }
  return tensors;
}

absl::Status WriteSafetensors(const std::string& path, const std::vector<TensorToWrite>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  int64_t offset = 0;
  for (const TensorToWrite& t : tensors) {
    const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                    [&](const NamedType& named) { return named.type == t.tensor.dtype; });
    header[t.name] = {
        {"dtype", type->name}, {"shape", t.tensor.shape}, {"data_offsets", {offset, offset + t.tensor.bytes}}};
    offset += t.tensor.bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return InvalidArgument("{} cannot be written: {}", path, std::strerror(errno));
  bool ok = std::fwrite(&length, 8, 1, file) == 1 && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  for (const TensorToWrite& t : tensors) {
    ok = ok && std::fwrite(t.tensor.data, 1, t.tensor.bytes, file) == static_cast<size_t>(t.tensor.bytes);
  }
  if (std::fclose(file) != 0 || !ok) return ResourceExhausted("{}: writing failed; is the disk full?", path);
  return absl::OkStatus();
}

}  // namespace atl::models
