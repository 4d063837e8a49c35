#include "coordinator/tokenizer/merge.h"

#include <algorithm>
#include <cstring>
#include <functional>

namespace atl::coordinator {
namespace {

constexpr size_t kFew = 64;  // up to here, moving symbols costs less than linking them
constexpr int32_t kNever = INT32_MAX;

size_t MergeFew(const PairTable& merges, int32_t* symbols, size_t count) {
  int32_t ranks[kFew], merged[kFew];  // of symbol i and the one after it
  const auto look = [&](size_t i) {
    const PairTable::Value* value = i + 1 < count ? merges.Find(symbols[i], symbols[i + 1]) : nullptr;
    ranks[i] = value != nullptr ? value->a : kNever;
    merged[i] = value != nullptr ? value->b : 0;
  };
  for (size_t i = 0; i < count; ++i) look(i);
  while (count > 1) {
    const size_t best = std::min_element(ranks, ranks + count) - ranks;
    if (ranks[best] == kNever) break;
    symbols[best] = merged[best];
    const size_t moved = (--count - best - 1) * sizeof(int32_t);
    std::memmove(symbols + best + 1, symbols + best + 2, moved);
    std::memmove(ranks + best + 1, ranks + best + 2, moved);
    std::memmove(merged + best + 1, merged + best + 2, moved);
    look(best);
    if (best > 0) look(best - 1);
  }
  return count;
}

size_t MergeMany(const PairTable& merges, int32_t* symbols, size_t count, MergeMemory* memory) {
  std::vector<MergeMemory::Node>& nodes = memory->nodes;
  std::vector<uint64_t>& heap = memory->heap;
  const auto size = static_cast<int32_t>(count);
  nodes.resize(count);
  heap.clear();
  // Sees whether node i and the one after it join; adds them to the heap's end if so.
  const auto look = [&](int32_t i) {
    MergeMemory::Node& node = nodes[i];
    const PairTable::Value* value = node.next < size ? merges.Find(node.symbol, nodes[node.next].symbol) : nullptr;
    node.rank = value != nullptr ? value->a : kNever;
    node.merged = value != nullptr ? value->b : 0;
    if (value == nullptr) return false;
    heap.push_back(uint64_t{static_cast<uint32_t>(node.rank)} << 32 | static_cast<uint32_t>(i));
    return true;
  };
  for (int32_t i = 0; i < size; ++i) nodes[i] = {symbols[i], i - 1, i + 1, kNever, 0};
  for (int32_t i = 0; i < size; ++i) look(i);
  const std::greater<uint64_t> least;
  std::make_heap(heap.begin(), heap.end(), least);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), least);
    const auto i = static_cast<int32_t>(heap.back() & UINT32_MAX);
    const auto rank = static_cast<int32_t>(heap.back() >> 32);
    heap.pop_back();
    MergeMemory::Node& node = nodes[i];
    if (node.rank != rank) continue;  // one of the two has changed since
    const int32_t gone = node.next;
    node.symbol = node.merged;
    node.next = nodes[gone].next;
    nodes[gone].rank = kNever;
    if (node.next < size) nodes[node.next].previous = i;
    if (look(i)) std::push_heap(heap.begin(), heap.end(), least);
    if (node.previous >= 0 && look(node.previous)) std::push_heap(heap.begin(), heap.end(), least);
  }
  size_t kept = 0;
  for (int32_t i = 0; i < size; i = nodes[i].next) symbols[kept++] = nodes[i].symbol;
  return kept;
}

}  // namespace

size_t MergeSymbols(const PairTable& merges, int32_t* symbols, size_t count, MergeMemory* memory) {
  return count <= kFew ? MergeFew(merges, symbols, count) : MergeMany(merges, symbols, count, memory);
}

}  // namespace atl::coordinator
