#include "coordinator/tokenizer/pipeline.h"

#include <mutex>

#include "coordinator/tokenizer/byte_level.h"
#include "coordinator/tokenizer/utf8.h"

namespace atl::coordinator {
namespace {

// What one call of Encode works with. Kept between calls, since the words it remembers are worth more than its memory.
struct Memory {
  Bpe::Memory bpe;
  std::vector<AddedTokens::Part> parts, normalized_parts;
  std::string normalized;
  PreTokenized pieces;
};

class Memories {
 public:
  std::unique_ptr<Memory> Borrow() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Memory>();
    std::unique_ptr<Memory> memory = std::move(free_.back());
    free_.pop_back();
    return memory;
  }
  void Return(std::unique_ptr<Memory> memory) {
    const std::lock_guard lock(mutex_);
    if (free_.size() < kKept) free_.push_back(std::move(memory));
  }

 private:
  static constexpr size_t kKept = 16;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Memory>> free_;
};

class Pipeline : public Tokenizer {
 public:
  Pipeline(PipelineParts parts, Bpe bpe) : parts_(std::move(parts)), bpe_(std::move(bpe)) {}

  std::vector<int32_t> Encode(const std::string& text, const EncodeOptions& options) const override {
    std::vector<int32_t> ids = options.add_special ? parts_.before : std::vector<int32_t>();
    std::unique_ptr<Memory> memory = memories_.Borrow();
    const std::string_view all = text;
    for (size_t at = 0; at < all.size();) {
      const size_t end = Utf8End(all, at);
      if (end > at) EncodeUtf8(all.substr(at, end - at), at == 0, options.parse_special, memory.get(), &ids);
      if (end < all.size()) bpe_.EncodeByte(static_cast<uint8_t>(all[end]), &ids);
      at = end + 1;
    }
    memories_.Return(std::move(memory));
    if (options.add_special) ids.insert(ids.end(), parts_.after.begin(), parts_.after.end());
    return ids;
  }

  std::string TokenBytes(int32_t id) const override { return TokenText(id, /*first=*/false); }
  std::string FirstTokenText(int32_t id) const override { return TokenText(id, /*first=*/true); }
  int FallbackByte(int32_t id) const override { return parts_.tokens.Byte(id); }
  bool IsSpecial(int32_t id) const override { return parts_.tokens.IsSpecial(id); }
  int64_t size() const override { return parts_.tokens.size(); }
  const DecodeRules& decode_rules() const override { return parts_.decode; }

  int32_t Find(const std::string& token) const override {
    for (const AddedTokens* added : {&parts_.added, &parts_.added_normalized}) {
      if (const int32_t id = added->Find(token); id >= 0) return id;
    }
    if (!parts_.byte_level) return bpe_.vocabulary().Find(token);
    if (const auto odd = parts_.odd_tokens.find(token); odd != parts_.odd_tokens.end()) return odd->second;
    const std::optional<std::string> bytes = ByteLevelDecode(token);
    return bytes ? bpe_.vocabulary().Find(*bytes) : -1;
  }

 private:
  std::string TokenText(int32_t id, bool first) const {
    if (const int byte = parts_.tokens.Byte(id); byte >= 0) return std::string(1, static_cast<char>(byte));
    return ApplySteps(parts_.decode.steps, parts_.tokens.Text(id), first);
  }

  // `first`: nothing of the whole text stands before this.
  void EncodeUtf8(std::string_view text, bool first, bool parse_special, Memory* memory,
                  std::vector<int32_t>* ids) const {
    if (!parse_special) return EncodeBetween(text, first, parse_special, memory, ids);
    parts_.added.Split(text, &memory->parts);
    for (const AddedTokens::Part& part : memory->parts) {
      if (part.id >= 0) {
        ids->push_back(part.id);
      } else {
        EncodeBetween(text.substr(part.begin, part.end - part.begin), first && part.begin == 0, parse_special, memory,
                      ids);
      }
    }
  }

  void EncodeBetween(std::string_view text, bool first, bool parse_special, Memory* memory,
                     std::vector<int32_t>* ids) const {
    text = parts_.normalizer.Apply(text, &memory->normalized);
    if (!parse_special || parts_.added_normalized.empty()) return EncodePlain(text, first, memory, ids);
    parts_.added_normalized.Split(text, &memory->normalized_parts);
    for (const AddedTokens::Part& part : memory->normalized_parts) {
      if (part.id >= 0) {
        ids->push_back(part.id);
      } else {
        EncodePlain(text.substr(part.begin, part.end - part.begin), first && part.begin == 0, memory, ids);
      }
    }
  }

  void EncodePlain(std::string_view text, bool first, Memory* memory, std::vector<int32_t>* ids) const {
    parts_.pre_tokenizer.Run(text, first, &memory->pieces);
    const std::string_view cut = memory->pieces.text;
    for (const Span& piece : memory->pieces.pieces) {
      bpe_.Encode(cut.substr(piece.begin, piece.size()), cut.data() + cut.size(), &memory->bpe, ids);
    }
  }

  const PipelineParts parts_;
  const Bpe bpe_;
  mutable Memories memories_;
};

}  // namespace

std::unique_ptr<Tokenizer> MakePipeline(PipelineParts parts, Bpe bpe) {
  return std::make_unique<Pipeline>(std::move(parts), std::move(bpe));
}

}  // namespace atl::coordinator
