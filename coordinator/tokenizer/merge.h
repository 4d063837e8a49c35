// The heart of byte-pair encoding: joins neighbours, best rank first, the leftmost among equals, until nothing joins.
//
//   PairTable merges;  merges.Put(left, right, {rank, merged});   // ranks below INT32_MAX
//   MergeMemory memory;
//   count = MergeSymbols(merges, symbols, count, &memory);        // in place
//
// A few symbols are searched from end to end for each merge; many go through a heap over a linked list: n log n.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "coordinator/tokenizer/pair_table.h"

namespace atl::coordinator {

struct MergeMemory {
  struct Node {
    int32_t symbol, previous, next;
    int32_t rank, merged;  // of this symbol and the next one; INT32_MAX: they do not join
  };
  std::vector<Node> nodes;
  std::vector<uint64_t> heap;  // rank, then place
};

size_t MergeSymbols(const PairTable& merges, int32_t* symbols, size_t count, MergeMemory* memory);

}  // namespace atl::coordinator
