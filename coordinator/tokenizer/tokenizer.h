// Text to token ids and back, as a model's tokenizer file says.
//
//   ATOLL_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> t, LoadTokenizer(model_directory));
//   std::vector<int32_t> ids = t->Encode(text, {.add_special = false});
//   StreamDecoder decoder(t.get());  text += decoder.Push(id); ... text += decoder.Finish();
//
// Encode finds added tokens ("<｜User｜>") inside the text first, then normalizes, cuts and merges what is between.
// Input that is not UTF-8 is encoded byte by byte, never refused. Const and thread-safe after loading.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "coordinator/tokenizer/decode_rules.h"
#include "parallel/base/status.h"

namespace atl::coordinator {

struct EncodeOptions {
  bool add_special = false;   // BOS and EOS where the tokenizer's post-processor adds them
  bool parse_special = true;  // "<｜User｜>" in the text is that token; false: plain text
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::vector<int32_t> Encode(const std::string& text, const EncodeOptions& options) const = 0;
  // The bytes a token stands for where it is not the first one; empty for an unknown id. May be part of a character.
  virtual std::string TokenBytes(int32_t id) const = 0;
  virtual bool IsSpecial(int32_t id) const = 0;              // not shown in decoded text
  virtual int64_t size() const = 0;                          // ids 0..size-1; rows beyond are padding and never sampled
  virtual int32_t Find(const std::string& token) const = 0;  // id of an added or vocabulary token, -1: none
  std::string Decode(std::span<const int32_t> ids, bool skip_special) const;

  // What decoding needs beside bytes; most tokenizers have nothing of it.
  virtual const DecodeRules& decode_rules() const;
  virtual std::string FirstTokenText(int32_t id) const { return TokenBytes(id); }
  virtual int FallbackByte(int32_t /*id*/) const { return -1; }  // of a token that is one byte of byte fallback
};

// `path`: a model directory (tokenizer.json, tekken.json, tiktoken.model or tokenizer.model, whichever is there first),
// or a file, perhaps gzipped: Hugging Face's tokenizer.json, tiktoken ranks (".tiktoken" lines, or the JSON of its npm
// package) or tekken's JSON. What a file asks for and this tokenizer cannot do exactly is refused with Unimplemented.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path);

// Decodes token by token: what all Push and Finish give, in a row, is what Decode gives at once. Text comes as soon as
// nothing that follows can change it: whole characters only, and of byte fallback whole runs.
class StreamDecoder {
 public:
  // `shown`: special tokens that are text even where special ones are skipped.
  explicit StreamDecoder(const Tokenizer* tokenizer, bool skip_special = true, std::vector<int32_t> shown = {})
      : tokenizer_(tokenizer),
        skip_special_(skip_special),
        shown_(std::move(shown)),
        strip_left_(tokenizer->decode_rules().strip.left) {}
  std::string Push(int32_t id);
  std::string Finish();  // what is left, with U+FFFD for half a character

 private:
  std::string EndRun();
  std::string Stripped(std::string text);

  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::vector<int32_t> shown_;
  bool first_ = true;
  size_t strip_left_;     // what may still be stripped at the beginning
  std::string held_;      // an unfinished character, at most 3 bytes; a run of byte tokens
  std::string stripped_;  // what is stripped if it turns out to be the end
};

}  // namespace atl::coordinator
