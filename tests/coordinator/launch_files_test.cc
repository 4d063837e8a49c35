#include "coordinator/cluster/launch_files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace atl::coordinator {
namespace {

namespace fs = std::filesystem;

class LaunchFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("launch_files_test." + std::to_string(getpid()));
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }
  // A directory with a file in it, last touched a minute ago.
  fs::path Old(const std::string& name) {
    fs::create_directories(root_ / name / "session");
    std::ofstream(root_ / name / "session" / "segment") << "left";
    fs::last_write_time(root_ / name, fs::file_time_type::clock::now() - std::chrono::minutes(1));
    return root_ / name;
  }
  fs::path root_;
};

TEST_F(LaunchFilesTest, GoWithTheirLaunch) {
  fs::path path;
  {
    auto files = LaunchFiles::Make("mine-1", root_);
    ASSERT_TRUE(files.ok()) << files.status();
    path = files->path();
    EXPECT_EQ(path, root_ / "atoll-mine-1");
    std::ofstream(path / "segment") << "shared";
    const LaunchFiles moved = *std::move(files);
    EXPECT_TRUE(fs::exists(path / "segment"));
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(LaunchFilesTest, OfAKilledCoordinatorGoWithTheNextLaunch) {
  auto alive = LaunchFiles::Make("alive-1", root_);
  ASSERT_TRUE(alive.ok());
  fs::last_write_time(alive->path(), fs::file_time_type::clock::now() - std::chrono::minutes(1));
  const fs::path deserted = Old("atoll-deserted-1"), anothers = Old("something-else");
  const fs::path young = root_ / "atoll-young-1";  // may be on its way to a lock
  fs::create_directories(young);
  auto next = LaunchFiles::Make("next-1", root_);
  ASSERT_TRUE(next.ok());
  EXPECT_FALSE(fs::exists(deserted));
  for (const fs::path& kept : {fs::path(alive->path()), anothers, young, fs::path(next->path())}) {
    EXPECT_TRUE(fs::exists(kept)) << kept;
  }
}

TEST_F(LaunchFilesTest, WhatCannotBeMadeIsSaid) {
  std::ofstream(root_ / "file") << "no directory";
  const auto files = LaunchFiles::Make("mine-1", root_ / "file");
  EXPECT_NE(files.status().ToString().find("cannot create"), std::string::npos) << files.status();
}

}  // namespace
}  // namespace atl::coordinator
