// A GGUF file of any bytes: it is refused in one sentence, or its tensors lie inside it, and its metadata makes a model
// whose parameters are read, or is refused in one sentence too.
#include "models/weights/formats/gguf.h"
#include "models/weights/gguf_spec.h"
#include "models/weights/read_model.h"
#include "tests/fuzz/input_file.h"
#include "tests/fuzz/read_slices.h"

using namespace atl::models;  // NOLINT(google-build-using-namespace): a program of one file

namespace {

bool CheckHeader(const InputFile& input) {
  const auto file = input.Map();
  const auto gguf = GgufFile::Parse(file);
  if (!gguf.ok()) {
    CheckSentence(gguf.status());
    return false;
  }
  for (const auto& [name, tensor] : gguf->tensors) {
    ATOLL_CHECK(
        tensor.bytes >= 0 && tensor.data >= file->data() && tensor.data + tensor.bytes <= file->data() + file->size(),
        "a tensor is not inside");
    Touch(tensor.data, tensor.bytes);
  }
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) (void)gguf->Strings(key);
  for (const char* key : {"tokenizer.ggml.scores"}) (void)gguf->Floats(key);
  for (const char* key : {"tokenizer.ggml.token_type"}) (void)gguf->Integers(key);
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const InputFile input(data, size);
  if (!CheckHeader(input)) return 0;
  const auto gguf = Gguf::Open(input.path());
  if (!gguf.ok()) {
    CheckSentence(gguf.status());
    return 0;
  }
  (void)(*gguf)->Tokenizer();
  auto spec = GgufModelSpec(**gguf);
  if (!spec.ok()) {
    CheckSentence(spec.status());
    return 0;
  }
  const int64_t experts = spec->moe ? spec->moe->experts : 0;
  if (spec->num_layers() * (experts + 1) > 512) return 0;  // a list of that many tensors takes its time
  const auto checkpoint = Checkpoint::Open(input.path());
  ATOLL_CHECK(checkpoint.ok(), "opened once, not twice");
  const auto weights = AddStoredFormats(*checkpoint, &*spec);
  if (!weights.ok()) CheckSentence(weights.status());
  for (const Parameter& p : Parameters(*spec)) ReadSlices(*checkpoint, p);
  return 0;
}
