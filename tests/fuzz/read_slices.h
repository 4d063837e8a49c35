// What fuzz targets do with a checkpoint that was not refused.
#pragma once

#include <vector>

#include "models/weights/formats/table.h"
#include "models/weights/slice_reader.h"

namespace atl::models {

// An error is one sentence: something is said, on one line, and not the whole file.
inline void CheckSentence(const absl::Status& status) {
  const std::string message = ToString(status.message());
  ATOLL_CHECK(!message.empty() && message.size() < 20000 && message.find('\n') == std::string::npos, "said: {}",
              message.substr(0, 1000));
}

// Reads the parameter, whole and a slice from its middle, into memory of just the size that it should take.
inline void ReadSlices(const Checkpoint& checkpoint, Parameter p) {
  const auto stored = FindStored(checkpoint, p);
  if (!stored.ok()) return CheckSentence(stored.status());
  p.format = p.shape.size() > 1 ? stored->format : WeightFormat::kF32;
  const int64_t rows = p.shape[0], columns = p.shape.size() > 1 ? p.shape[1] : 1;
  constexpr int64_t kMost = 1 << 20;  // of rows without a column there can be any number
  if (rows > kMost || columns > kMost || rows * columns > kMost) return;
  for (const Slice& slice : {Slice{{0, rows}, {0, columns}}, Slice{{rows / 3, rows}, {0, columns}},
                             Slice{{0, rows}, {columns / 3, columns - columns / 4}}}) {
    if (p.shape.size() == 1 && slice.columns.size() != 1) continue;
    std::vector<std::byte> out(PackingOf(p.format, slice.rows, slice.columns).bytes);
    if (const absl::Status status = ReadSlice(p, *stored, slice, out.data()); !status.ok()) CheckSentence(status);
  }
}

}  // namespace atl::models
