// A safetensors file of any bytes: it is refused in one sentence, or its tensors lie inside it, own every byte of its
// data once, and whatever they could store (plain, FP8 with its scales, packed INT4) is read or refused.
#include "models/weights/formats/safetensors.h"
#include "models/weights/formats/table.h"
#include "models/weights/slice_reader.h"
#include "tests/fuzz/input_file.h"
#include "tests/fuzz/read_slices.h"

using namespace atl::models;  // NOLINT(google-build-using-namespace): a program of one file

namespace {

void CheckHeader(const InputFile& input) {
  const auto file = input.Map();
  const auto tensors = ReadSafetensorsHeader(*file);
  if (!tensors.ok()) return CheckSentence(tensors.status());
  int64_t owned = 0;
  for (const auto& [name, tensor] : *tensors) {
    ATOLL_CHECK(
        tensor.bytes >= 0 && tensor.data >= file->data() && tensor.data + tensor.bytes <= file->data() + file->size(),
        "{} is not inside", name);
    Touch(tensor.data, tensor.bytes);
    owned += tensor.bytes;
  }
  ATOLL_CHECK(owned <= file->size() - 8, "{} bytes owned of {}", owned, file->size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const InputFile input(data, size);
  CheckHeader(input);
  const auto checkpoint = Checkpoint::Open(input.path());
  if (!checkpoint.ok()) return 0;
  for (const auto& [name, tensor] : checkpoint->tensors()) {
    if (tensor.shape.empty() || tensor.shape.size() > 2) continue;
    Parameter p;
    p.name = name;
    p.shape = tensor.shape;
    constexpr std::string_view kPacked = "_packed";
    if (name.ends_with(kPacked) && p.shape.size() == 2 && p.shape[1] < (1 << 20)) {
      p.name.resize(name.size() - kPacked.size());
      p.shape[1] *= 8;
    }
    ReadSlices(*checkpoint, p);
  }
  return 0;
}
