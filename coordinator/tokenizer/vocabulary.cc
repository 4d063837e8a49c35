#include "coordinator/tokenizer/vocabulary.h"

#include <cstring>

namespace atl::coordinator {

uint64_t HashBytes(std::string_view bytes) {
  uint64_t hash = bytes.size() * 0x9e3779b97f4a7c15u;
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, bytes.data() + at, 8);
    hash = (hash ^ eight) * 0xff51afd7ed558ccdu;
    hash ^= hash >> 32;
  }
  uint64_t rest = 0;
  if (at < bytes.size()) std::memcpy(&rest, bytes.data() + at, bytes.size() - at);
  hash = (hash ^ rest) * 0xc4ceb9fe1a85ec53u;
  return hash ^ hash >> 32;
}

size_t Vocabulary::Place(std::string_view token, uint64_t hash) const {
  size_t at = hash & (slots_.size() - 1);
  while (slots_[at].id >= 0 &&
         (slots_[at].hash != static_cast<uint32_t>(hash >> 32) || Token(slots_[at].id) != token)) {
    at = (at + 1) & (slots_.size() - 1);
  }
  return at;
}

absl::Status Vocabulary::Add(int64_t id, std::string_view token) {
  if (id < 0 || id > kMaxId) return InvalidArgument("the id of \"{}\" is {}; ids go from 0 to {}", token, id, kMaxId);
  if (Has(static_cast<int32_t>(id))) return InvalidArgument("id {} stands for two tokens, \"{}\" is one", id, token);
  if (2 * (count_ + 1) > static_cast<int64_t>(slots_.size())) Grow();
  const uint64_t hash = HashBytes(token);
  Slot& slot = slots_[Place(token, hash)];
  if (slot.id >= 0) return InvalidArgument("\"{}\" has two ids, {} and {}", token, slot.id, id);
  if (text_.size() + token.size() >= kNone) return ResourceExhausted("the vocabulary is over 4 GiB");
  if (id >= size()) words_.resize(id + 1);
  words_[id] = {static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(token.size())};
  text_ += token;
  slot = {static_cast<uint32_t>(hash >> 32), static_cast<int32_t>(id)};
  ++count_;
  return absl::OkStatus();
}

int32_t Vocabulary::Find(std::string_view token) const { return slots_[Place(token, HashBytes(token))].id; }

std::string_view Vocabulary::Token(int32_t id) const {
  return Has(id) ? std::string_view(text_).substr(words_[id].begin, words_[id].bytes) : std::string_view();
}

void Vocabulary::Grow() {
  std::vector<Slot> old(2 * slots_.size());
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.id < 0) continue;
    const std::string_view token = Token(slot.id);
    slots_[Place(token, HashBytes(token))] = slot;
  }
}

}  // namespace atl::coordinator
