#include "coordinator/cluster/launch_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <utility>

#include "parallel/base/log.h"

namespace atl::coordinator {
namespace {

namespace fs = std::filesystem;
constexpr const char* kPrefix = "atoll-";

// The directory, locked; -1 with errno if it is another's or no directory of ours. A lock ends with the process that
// took it, however it ends.
int Lock(const fs::path& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

// Between another's mkdir and its lock a directory looks deserted: only what is older than this is.
constexpr std::chrono::seconds kYoung{10};

void RemoveDeserted(const fs::path& root) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(root, error)) {
    if (!entry.path().filename().string().starts_with(kPrefix)) continue;
    if (fs::file_time_type::clock::now() - entry.last_write_time(error) < kYoung) continue;
    const int lock = Lock(entry.path());
    if (lock < 0) continue;
    fs::remove_all(entry.path(), error);
    close(lock);
    Log()->info("removed {}, left by a coordinator that was killed", entry.path().string());
  }
}

}  // namespace

absl::StatusOr<LaunchFiles> LaunchFiles::Make(const std::string& launch_id, const std::string& root) {
  std::error_code error;
  const fs::path in = !root.empty() ? root : fs::is_directory("/dev/shm", error) ? "/dev/shm" : "/tmp";
  RemoveDeserted(in);
  LaunchFiles files;
  const fs::path path = in / (kPrefix + launch_id);
  fs::create_directories(path, error);
  if (error) return Unavailable("cannot create {}: {}", path.string(), error.message());
  files.path_ = path;
  files.lock_ = Lock(path);
  if (files.lock_ < 0) return Unavailable("cannot lock {}: {}", path.string(), strerror(errno));
  return files;
}

LaunchFiles& LaunchFiles::operator=(LaunchFiles&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(lock_, other.lock_);
  return *this;
}

void LaunchFiles::Remove() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
  if (lock_ >= 0) close(lock_);
  path_.clear();
  lock_ = -1;
}

}  // namespace atl::coordinator
