// A fuzz target's bytes as a file, and a mapping of it of which every byte beyond the file's end is out of bounds,
// which the last page would hide.
//
//   const InputFile input(data, size);
//   Checkpoint::Open(input.path());
//   const auto mapped = input.Map();          // for readers that take a MappedFile
#pragma once

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "models/weights/mapped_file.h"

namespace atl::models {

class InputFile {
 public:
  InputFile(const uint8_t* data, size_t size) : fd_(memfd_create("input", MFD_CLOEXEC)) {
    ATOLL_CHECK(fd_ >= 0 && write(fd_, data, size) == static_cast<ssize_t>(size), "no memory for {} bytes", size);
    path_ = fmt::format("/proc/self/fd/{}", fd_);
  }
  ~InputFile() { close(fd_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }

  std::shared_ptr<const MappedFile> Map() const {
    auto file = MappedFile::Open(path_);
    ATOLL_CHECK(file.ok(), "{}", ToString(file.status().message()));
    const int64_t page = sysconf(_SC_PAGESIZE), tail = (page - (*file)->size() % page) % page;
    const std::byte* end = (*file)->data() + (*file)->size();
    ASAN_POISON_MEMORY_REGION(end, tail);
    std::shared_ptr<const MappedFile> held = *std::move(file);
    return {held.get(), [held, end, tail](const MappedFile*) mutable {
              ASAN_UNPOISON_MEMORY_REGION(end, tail);
              held.reset();
            }};
  }

 private:
  const int fd_;
  std::string path_;
};

// Reads every byte, so that one that is not there is noticed.
inline void Touch(const std::byte* data, int64_t bytes) {
  unsigned sum = 0;
  for (int64_t i = 0; i < bytes; ++i) sum += static_cast<unsigned>(data[i]);
  [[maybe_unused]] static volatile unsigned sink;
  sink = sum;
}

}  // namespace atl::models
