// Where Open MPI keeps its files of one launch: a directory of its own in memory, so that nothing of a killed mpirun
// stays behind.
//
//   ATOLL_ASSIGN_OR_RETURN(LaunchFiles files, LaunchFiles::Make("3f2a91c0-1"));   // files.path(): /dev/shm/atoll-...
//   files.Remove();                                                               // when all its processes are dead
//
// Whoever makes one also removes those whose coordinator was killed: a lock on the directory tells that its owner
// lives.
#pragma once

#include <string>

#include "parallel/base/status.h"

namespace atl::coordinator {

class LaunchFiles {
 public:
  LaunchFiles() = default;  // none
  // In `root`; empty: /dev/shm, or /tmp where there is none.
  static absl::StatusOr<LaunchFiles> Make(const std::string& launch_id, const std::string& root = "");
  LaunchFiles(LaunchFiles&& other) noexcept { *this = std::move(other); }
  LaunchFiles& operator=(LaunchFiles&& other) noexcept;
  ~LaunchFiles() { Remove(); }

  const std::string& path() const { return path_; }  // empty: none
  void Remove();

 private:
  std::string path_;
  int lock_ = -1;  // the directory, locked while its owner lives
};

}  // namespace atl::coordinator
