// The paged cache of one rank: for each position and layer one row in the profile's cache type (int8 with scales:
// models/spec/rank_memory.h). Latent attention keeps the normed latent and the rotated shared key [c (kv_lora_rank) |
// k_pe (rope_dim)], replicated inside an attention group; other attention keeps this rank's [key heads | value heads,
// head_dim].
//
// Memory: [blocks][KvLayout::block_layers][kKvBlockTokens][row]. Which blocks hold what of a sequence is said by its
// table (models/spec/kv_layout.h).
#pragma once

#include "models/arena.h"
#include "models/kernels/kernels.h"
#include "models/spec/rank_memory.h"

namespace atl::models {

class KvCache {
 public:
  KvCache(const ModelSpec& spec, const JobShape& shape, int rank)
      : type_(shape.numerics.kv),
        layout_(KvLayoutOf(spec)),
        width_(KvRowWidth(spec, shape.topology.TpRankOf(rank), shape.topology.tp)),
        group_(KvScaleGroup(spec)),
        row_bytes_(KvRowBytes(spec, shape.numerics, shape.topology.TpRankOf(rank), shape.topology.tp)),
        blocks_(shape.kv_blocks * layout_.line),
        memory_(blocks_ * layout_.block_layers * kKvBlockTokens * row_bytes_) {}

  // Row of `position` in the layer (or in the one whose keys and values it reads), given the sequence's table.
  std::byte* Row(int64_t layer, std::span<const int32_t> table, int64_t position) const {
    const KvPlace& place = layout_.layers[layer];
    const int64_t index = position / kKvBlockTokens * layout_.line + place.column;
    ATOLL_CHECK(index < static_cast<int64_t>(table.size()) && table[index] >= 0 && table[index] < blocks_,
                "layer {}: position {} has no KV block: entry {} of {} in a table over {} blocks", layer, position,
                index, table.size(), blocks_);
    const int64_t row = (table[index] * layout_.block_layers + place.slot) * kKvBlockTokens;
    return memory_.data() + (row + position % kKvBlockTokens) * row_bytes_;
  }
  // Columns of a row from f32 and to it; in int8 they are whole groups.
  void Store(const float* x, Range columns, std::byte* row) const {
    if (type_ != DType::kI8) {
      kernels::Round(x, columns.size(), type_, row + columns.begin * SizeOf(type_));
      return;
    }
    auto* scales = reinterpret_cast<float*>(row + KvScalesAt(width_)) + columns.begin / group_;
    kernels::RoundInt8(x, columns.size(), group_, reinterpret_cast<int8_t*>(row) + columns.begin, scales);
  }
  void Load(const std::byte* row, Range columns, float* out) const {
    if (type_ != DType::kI8) {
      kernels::Widen(row + columns.begin * SizeOf(type_), columns.size(), type_, out);
      return;
    }
    const auto* scales = reinterpret_cast<const float*>(row + KvScalesAt(width_)) + columns.begin / group_;
    kernels::WidenInt8(reinterpret_cast<const int8_t*>(row) + columns.begin, scales, columns.size(), group_, out);
  }
  DType type() const { return type_; }
  int64_t row_bytes() const { return row_bytes_; }
  int64_t bytes() const { return memory_.bytes(); }
  void Claim(ThreadPool* pool) { memory_.Claim(pool); }

 private:
  DType type_;
  KvLayout layout_;
  int64_t width_, group_;  // of a row: values, and those that share a scale
  int64_t row_bytes_, blocks_;
  AlignedBytes memory_;
};

}  // namespace atl::models
