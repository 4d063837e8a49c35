#include "coordinator/cluster/membership.h"

#include <gtest/gtest.h>

namespace atl::coordinator {
namespace {

const SteadyTime kStart{};
SteadyTime At(double seconds) { return kStart + std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)); }

v1::Register Rank(int rank, const std::string& launch_id = "a-1") {
  v1::Register r;
  r.set_launch_id(launch_id);
  r.set_rank(rank);
  r.set_world(2);
  r.set_host("node" + std::to_string(rank));
  r.set_transport("mpi");
  r.set_kernel_target("AVX2");
  r.set_version("0.1.0");
  return r;
}

Membership Two(const std::string& launch_id = "a-1") {
  return Membership(1,
                    {.world = 2,
                     .launch_id = launch_id,
                     .silence_timeout = Seconds(5),
                     .register_timeout = Seconds(30),
                     .start_timeout = Seconds(60)},
                    kStart);
}

TEST(Membership, RegistersLoadsAndIsReady) {
  Membership members = Two();
  ASSERT_TRUE(members.Register(Rank(1), At(1)).ok());
  EXPECT_FALSE(members.AllRegistered());
  ASSERT_TRUE(members.Register(Rank(0), At(2)).ok());
  EXPECT_TRUE(members.AllRegistered());
  members.Ready(0, {});
  members.Ready(0, {});  // said twice, counted once
  EXPECT_FALSE(members.AllReady());
  members.Ready(1, {});
  EXPECT_TRUE(members.AllReady());
}

TEST(Membership, RefusesWhoDoesNotBelong) {
  Membership members = Two();
  ASSERT_TRUE(members.Register(Rank(0), At(1)).ok());
  const auto refused = [&](auto change) {
    v1::Register r = Rank(1);
    change(r);
    return members.Register(r, At(1)).code();
  };
  EXPECT_EQ(refused([](auto& r) { r.set_launch_id("a-0"); }), absl::StatusCode::kAborted);
  EXPECT_EQ(refused([](auto& r) { r.set_launch_id(""); }), absl::StatusCode::kAborted);
  EXPECT_EQ(refused([](auto& r) { r.set_world(4); }), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(refused([](auto& r) { r.set_rank(0); }), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(refused([](auto& r) { r.set_rank(2); }), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused([](auto& r) { r.set_rank(-1); }), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused([](auto& r) { r.set_kernel_target("AVX3"); }), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(refused([](auto& r) { r.set_version("0.2.0"); }), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(members.registered(), 1);
  EXPECT_EQ(refused([](auto&) {}), absl::StatusCode::kOk);
}

TEST(Membership, SilenceNamesTheRankAndWhatItDid) {
  Membership members = Two();
  ASSERT_TRUE(members.Register(Rank(0), At(1)).ok());
  ASSERT_TRUE(members.Register(Rank(1), At(1)).ok());
  v1::Heartbeat heartbeat;
  heartbeat.set_step(17);
  heartbeat.set_phase("forward");
  members.Heartbeat(1, heartbeat);
  members.Heard(0, At(5));
  EXPECT_TRUE(members.Check(At(5.9)).ok());
  const std::string message = ToString(members.Check(At(6.5)).message());
  EXPECT_NE(message.find("rank 1 on node1"), std::string::npos) << message;
  EXPECT_NE(message.find("step 17, forward"), std::string::npos) << message;
  members.Heard(1, At(6.4));
  EXPECT_TRUE(members.Check(At(6.5)).ok());
}

TEST(Membership, RegistrationAndStartAreAwaitedForSoLong) {
  Membership members = Two();
  EXPECT_TRUE(members.Check(At(29)).ok());
  EXPECT_NE(ToString(members.Check(At(31)).message()).find("0 of 2 ranks registered within 30"), std::string::npos);
  for (const int rank : {0, 1}) ASSERT_TRUE(members.Register(Rank(rank), At(29)).ok());
  EXPECT_TRUE(members.Check(At(31)).ok());
  for (const int rank : {0, 1}) members.Heard(rank, At(61));
  EXPECT_TRUE(members.Check(At(59)).ok());
  EXPECT_NE(ToString(members.Check(At(61)).message()).find("2 of 2 ranks registered and 0 loaded"), std::string::npos);
}

TEST(Membership, RanksOfOthersAreAwaitedFromTheFirstOn) {
  Membership members = Two("");
  EXPECT_TRUE(members.Check(At(10000)).ok());
  ASSERT_TRUE(members.Register(Rank(0, ""), At(10000)).ok());
  members.Heard(0, At(10059));
  EXPECT_TRUE(members.Check(At(10059)).ok());
  members.Heard(0, At(10061));
  EXPECT_FALSE(members.Check(At(10061)).ok());
}

}  // namespace
}  // namespace atl::coordinator
