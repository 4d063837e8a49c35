// A tokenizer file of any bytes: it is refused, or what it gives encodes and decodes without a crash, its ids are its
// own, and a stream decodes to what decoding at once gives.
#include <string>

#include "coordinator/tokenizer/formats/parse.h"
#include "coordinator/tokenizer/utf8.h"

using atl::coordinator::StreamDecoder;
using atl::coordinator::Tokenizer;

namespace {

void Check(const Tokenizer& t, const std::string& text) {
  for (const bool add_special : {false, true}) {
    const std::vector<int32_t> ids = t.Encode(text, {.add_special = add_special});
    StreamDecoder decoder(&t, /*skip_special=*/false);
    std::string streamed;
    for (const int32_t id : ids) {
      ATOLL_CHECK(id >= 0 && id < t.size(), "id {} of {}", id, t.size());
      const std::string part = decoder.Push(id);
      ATOLL_CHECK(atl::coordinator::Utf8End(part, 0) == part.size(), "half a character after id {}", id);
      streamed += part;
    }
    streamed += decoder.Finish();
    ATOLL_CHECK(streamed == t.Decode(ids, /*skip_special=*/false), "a stream decodes to something else");
    (void)t.Decode(ids, /*skip_special=*/true);
  }
  (void)t.Encode(text, {.parse_special = false});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = atl::coordinator::ParseTokenizer(text, "");
  if (!tokenizer.ok()) return 0;
  Check(**tokenizer, "");
  Check(**tokenizer, "Hello  the <s>\n\t world's 123 \xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80 \xff\xe2\x82 e\xcc\x81");
  Check(**tokenizer, text.substr(0, 64));
  for (int32_t id = -1; id < std::min<int64_t>(300, (*tokenizer)->size() + 1); ++id) {
    (void)(*tokenizer)->TokenBytes(id);
    (void)(*tokenizer)->FirstTokenText(id);
  }
  return 0;
}
