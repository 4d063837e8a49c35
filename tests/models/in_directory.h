// A test with an empty directory of its own, which goes with it.
//
//   class GgufFiles : public InDirectory {};
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

namespace atl::models {

class InDirectory : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    directory_ =
        std::filesystem::path(testing::TempDir()) / (std::string(info->test_suite_name()) + "_" + info->name());
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path directory_;
};

}  // namespace atl::models
