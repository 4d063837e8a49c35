// A file mapped read-only. Pages are read when they are touched, and only those: read-ahead is off, because a rank
// keeps slices from all over the file.
#pragma once

#include <memory>
#include <string>

#include "parallel/base/status.h"

namespace atl::models {

class MappedFile {
 public:
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(std::string path, const std::byte* data, int64_t size)
      : path_(std::move(path)), data_(data), size_(size) {}
  std::string path_;
  const std::byte* data_;
  int64_t size_;
};

}  // namespace atl::models
