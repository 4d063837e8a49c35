// Every operation of a communicator, against what it must move, bit for bit. Linked into one program for each backend.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>

#include "parallel/base/partition.h"
#include "parallel/reduce.h"
#include "tests/parallel/on_ranks.h"

namespace atl::parallel {
namespace {

using testing::HasSubstr;

const Seconds kPatience{20};

void Finish(absl::StatusOr<Pending> started) {
  ASSERT_TRUE(started.ok()) << started.status();
  const absl::Status status = started->Wait(Deadline::After(kPatience));
  ASSERT_TRUE(status.ok()) << status;
}

std::vector<int> GroupSizes() {
  std::vector<int> sizes;
  for (const int size : {1, 2, 3, 4, 8}) {
    if (size <= MaxRanks()) sizes.push_back(size);
  }
  return sizes;
}

// Element i of what `from` sends `to`.
int32_t Value(int from, int to, int64_t i) { return static_cast<int32_t>(from * 1000003 + to * 10007 + i * 31 + 7); }

// How many elements `from` sends `to`: none, one, uneven, and more than one message of the mpi suite holds.
int64_t CountOf(int from, int to, int64_t scale) { return scale * ((from * 3 + to * 5) % 4); }

TEST(Operations, AllToAllVMovesEverySlice) {
  for (const int size : GroupSizes()) {
    for (const int64_t scale : {0, 1, 37, 5000}) {
      OnRanks(size, [scale](Communicator& comm) {
        std::vector<int64_t> send_counts, recv_counts;
        std::vector<int32_t> send, expected;
        for (int peer = 0; peer < comm.size(); ++peer) {
          send_counts.push_back(CountOf(comm.rank(), peer, scale));
          recv_counts.push_back(CountOf(peer, comm.rank(), scale));
          for (int64_t i = 0; i < send_counts.back(); ++i) send.push_back(Value(comm.rank(), peer, i));
          for (int64_t i = 0; i < recv_counts.back(); ++i) expected.push_back(Value(peer, comm.rank(), i));
        }
        std::vector<int32_t> recv(expected.size(), -1);
        Finish(comm.StartAllToAllV(ConstBuffer::Of(std::span<const int32_t>(send)), send_counts,
                                   Buffer::Of(std::span(recv)), recv_counts, {"test"}));
        EXPECT_EQ(recv, expected) << "rank " << comm.rank() << " of " << comm.size() << ", scale " << scale;
      });
    }
  }
}

TEST(Operations, AllGatherVGivesEveryoneAll) {
  for (const int size : GroupSizes()) {
    for (const int64_t scale : {0, 1, 37, 5000}) {
      OnRanks(size, [scale](Communicator& comm) {
        std::vector<int64_t> counts;
        std::vector<int32_t> expected;
        for (int peer = 0; peer < comm.size(); ++peer) {
          counts.push_back(CountOf(peer, 1, scale));
          for (int64_t i = 0; i < counts.back(); ++i) expected.push_back(Value(peer, 0, i));
        }
        std::vector<int32_t> mine, recv(expected.size(), -1);
        for (int64_t i = 0; i < counts[comm.rank()]; ++i) mine.push_back(Value(comm.rank(), 0, i));
        Finish(comm.StartAllGatherV(ConstBuffer::Of(std::span<const int32_t>(mine)), Buffer::Of(std::span(recv)),
                                    counts, {"test"}));
        EXPECT_EQ(recv, expected);
        // What is sent already at its place.
        std::fill(recv.begin(), recv.end(), -1);
        const int64_t before = std::accumulate(counts.begin(), counts.begin() + comm.rank(), int64_t{0});
        std::copy(mine.begin(), mine.end(), recv.begin() + before);
        Finish(comm.StartAllGatherV(Buffer::Of(std::span(recv).subspan(before, mine.size())),
                                    Buffer::Of(std::span(recv)), counts, {"test"}));
        EXPECT_EQ(recv, expected);
      });
    }
  }
}

TEST(Operations, EvenFormsCutTheBufferInEqualParts) {
  OnRanks(std::min(4, MaxRanks()), [](Communicator& comm) {
    std::vector<int64_t> send(comm.size() * 3), recv(send.size()), expected;
    for (int peer = 0; peer < comm.size(); ++peer) {
      for (int i = 0; i < 3; ++i) {
        send[peer * 3 + i] = Value(comm.rank(), peer, i);
        expected.push_back(Value(peer, comm.rank(), i));
      }
    }
    Finish(comm.StartAllToAll(ConstBuffer::Of(std::span<const int64_t>(send)), Buffer::Of(std::span(recv)), {"test"}));
    EXPECT_EQ(recv, expected);
    const auto mine = static_cast<int8_t>(comm.rank() + 5);
    std::vector<int8_t> all(comm.size());
    Finish(comm.StartAllGather(ConstBuffer(&mine, 1, DType::kI8), Buffer::Of(std::span(all)), {"test"}));
    for (int peer = 0; peer < comm.size(); ++peer) EXPECT_EQ(all[peer], peer + 5);
    if (comm.size() > 1) {
      const auto uneven = comm.StartAllToAll(ConstBuffer(send.data(), 1, DType::kI64), Buffer{}, {"test"});
      EXPECT_EQ(uneven.status().code(), absl::StatusCode::kInvalidArgument);
    }
  });
}

TEST(Operations, BroadcastFromEveryRoot) {
  for (const int size : GroupSizes()) {
    for (const int64_t count : {0, 1, 999}) {
      OnRanks(size, [count](Communicator& comm) {
        for (int root = 0; root < comm.size(); ++root) {
          std::vector<int32_t> data(count, -1), expected(count);
          for (int64_t i = 0; i < count; ++i) expected[i] = Value(root, 0, i);
          if (comm.rank() == root) data = expected;
          Finish(comm.StartBroadcast(Buffer::Of(std::span(data)), root, {"test"}));
          EXPECT_EQ(data, expected);
        }
      });
    }
  }
}

TEST(Operations, SeveralMayBeUnderWayAndEndInAnyOrder) {
  OnRanks(std::min(4, MaxRanks()), [](Communicator& comm) {
    std::vector<int32_t> one(comm.size(), comm.rank() * 10 + 1), two(comm.size(), comm.rank() * 10 + 2);
    std::vector<int32_t> got_one(comm.size()), got_two(comm.size());
    auto first = comm.StartAllToAll(ConstBuffer::Of(std::span<const int32_t>(one)), Buffer::Of(std::span(got_one)), {});
    auto second =
        comm.StartAllToAll(ConstBuffer::Of(std::span<const int32_t>(two)), Buffer::Of(std::span(got_two)), {});
    // Even ranks wait for the second one first: on threads nobody may need the other's order.
    if (comm.rank() % 2 == 0) {
      bool done = false;
      for (const Deadline deadline = Deadline::After(kPatience); !done && !deadline.Expired();) {
        const auto two_done = second->Test();
        const auto one_done = first->Test();
        ASSERT_TRUE(two_done.ok() && one_done.ok());
        done = *two_done && *one_done;
      }
      ASSERT_TRUE(done);
    } else {
      Finish(std::move(first));
      Finish(std::move(second));
    }
    for (int peer = 0; peer < comm.size(); ++peer) {
      EXPECT_EQ(got_one[peer], peer * 10 + 1);
      EXPECT_EQ(got_two[peer], peer * 10 + 2);
    }
    EXPECT_EQ(comm.operations(), 2u);
  });
}

TEST(Operations, BarrierWaitsForTheLast) {
  if (MaxRanks() < 2) GTEST_SKIP();
  OnRanks(2, [](Communicator& comm) {
    auto other = comm.Subgroup({0, 1}, Deadline::After(kPatience));
    ASSERT_TRUE(other.ok());
    // Rank 0 enters only after rank 1 has told it, on another communicator, that its barrier is still shut.
    int32_t still_shut = 0;
    absl::StatusOr<Pending> barrier = Pending();
    if (comm.rank() == 1) {
      barrier = comm.StartBarrier({"test"});
      ASSERT_TRUE(barrier.ok());
      for (int i = 0; i < 100; ++i) {
        const auto done = barrier->Test();
        ASSERT_TRUE(done.ok());
        still_shut = *done ? 0 : 1;
      }
    }
    Finish((*other)->StartBroadcast(Buffer{&still_shut, 1, DType::kI32}, 1, {"test"}));
    EXPECT_EQ(still_shut, 1);
    if (comm.rank() == 0) barrier = comm.StartBarrier({"test"});
    Finish(std::move(barrier));
  });
}

TEST(Operations, WrongCountsAreRefused) {
  OnRanks(1, [](Communicator& comm) {
    std::vector<int32_t> data(4);
    const ConstBuffer send = ConstBuffer::Of(std::span<const int32_t>(data));
    const Buffer recv = Buffer::Of(std::span(data));
    const auto refused = [&](const std::vector<int64_t>& send_counts, const std::vector<int64_t>& recv_counts) {
      return comm.StartAllToAllV(send, send_counts, recv, recv_counts, {"test"}).status();
    };
    for (const absl::Status& status :
         {refused({5}, {5}), refused({4}, {5}), refused({-1}, {0}), refused({1, 1}, {2}), refused({}, {})}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    }
    EXPECT_EQ(comm.StartBroadcast(recv, 1, {"test"}).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(comm.StartAllGatherV(send, recv, std::vector<int64_t>{9}, {"test"}).status().code(),
              absl::StatusCode::kInvalidArgument);
  });
}

TEST(Operations, SubgroupsDoNotMixTheirMessages) {
  if (MaxRanks() < 4) GTEST_SKIP();
  OnRanks(4, [](Communicator& comm) {
    const int half = comm.rank() / 2;
    auto pair = comm.Subgroup({half * 2, half * 2 + 1}, Deadline::After(kPatience));
    ASSERT_TRUE(pair.ok()) << pair.status();
    EXPECT_EQ((*pair)->size(), 2);
    EXPECT_EQ((*pair)->rank(), comm.rank() % 2);
    EXPECT_EQ((*pair)->epoch(), comm.epoch());
    const int32_t mine = comm.rank();
    std::vector<int32_t> of_pair(2), of_all(4);
    auto all = comm.StartAllGather(ConstBuffer(&mine, 1, DType::kI32), Buffer::Of(std::span(of_all)),
                                   {"test"});  // both at once
    Finish((*pair)->StartAllGather(ConstBuffer(&mine, 1, DType::kI32), Buffer::Of(std::span(of_pair)), {"test"}));
    Finish(std::move(all));
    EXPECT_EQ(of_pair, (std::vector<int32_t>{half * 2, half * 2 + 1}));
    EXPECT_EQ(of_all, (std::vector<int32_t>{0, 1, 2, 3}));
    EXPECT_EQ(comm.Subgroup({0, 9}, Deadline::After(kPatience)).status().code(), absl::StatusCode::kInvalidArgument);
  });
}

// The 8 canonical partials of a [rows, width] product; a rank owns 8 / size of them, summed as the tree's lower levels.
std::vector<float> Partial(int64_t count, int rank, int size) {
  std::vector<std::vector<float>> blocks;
  std::vector<float*> terms;
  for (int block = rank * 8 / size; block < (rank + 1) * 8 / size; ++block) {
    std::vector<float> values(count);
    uint32_t state = 12345u + 977u * block;
    for (float& v : values) {
      state = state * 1664525u + 1013904223u;
      v = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f * static_cast<float>(1 << (block * 2));
    }
    blocks.push_back(std::move(values));
  }
  for (auto& block : blocks) terms.push_back(block.data());
  std::vector<float> sum(count);
  SumTree(terms, count, sum.data());
  return sum;
}

TEST(Reductions, SameBitsForAnyNumberOfRanks) {
  const int64_t width = 5;
  for (const int64_t rows : {0, 1, 3, 8, 13}) {
    const std::vector<float> expected = Partial(rows * width, 0, 1);
    for (const int size : {1, 2, 4, 8}) {
      if (size > MaxRanks()) continue;
      OnRanks(size, [&](Communicator& comm) {
        const std::vector<float> partial = Partial(rows * width, comm.rank(), size);
        const Range home = EvenPart(rows, comm.rank(), size);
        std::vector<float> scratch(ReduceScatterScratch(rows, width, comm.rank(), size) + home.size() * width);
        std::vector<float> mine(home.size() * width), sums(rows * width);
        EXPECT_TRUE(
            ReduceScatter(comm, partial, rows, width, scratch, mine, {"test"}, Deadline::After(kPatience)).ok());
        EXPECT_EQ(mine, std::vector<float>(expected.begin() + home.begin * width, expected.begin() + home.end * width));
        EXPECT_TRUE(AllReduce(comm, partial, rows, width, scratch, sums, {"test"}, Deadline::After(kPatience)).ok());
        EXPECT_EQ(sums, expected);
      });
    }
  }
}

TEST(Reductions, TheOrderIsTheTree) {
  // 1 + 2^24 loses the 1 in f32, so the order shows: (1 + 1) + (-2^24 + 2^24) keeps both ones, left to right does not.
  float values[4] = {1, 1, -16777216, 16777216}, sum = 0;
  float* terms[4] = {&values[0], &values[1], &values[2], &values[3]};
  SumTree(terms, 1, &sum);
  EXPECT_EQ(sum, 2.0f);
  float others[4] = {16777216, 1, 1, -16777216};
  for (int i = 0; i < 4; ++i) terms[i] = &others[i];
  SumTree(terms, 1, &sum);
  EXPECT_EQ(sum, 1.0f);  // (2^24 + 1 = 2^24) + (1 - 2^24)
}

TEST(Deadlines, TheErrorNamesRankOperationPhaseLayerAndWhoIsMissing) {
  if (MaxRanks() < 2) GTEST_SKIP();
  OnRanks(std::min(4, MaxRanks()), [](Communicator& comm) {
    if (comm.rank() != 1) return;  // nobody else comes
    static std::vector<int32_t> send(comm.size(), 1), recv(comm.size());
    auto started = comm.StartAllToAll(ConstBuffer::Of(std::span<const int32_t>(send)), Buffer::Of(std::span(recv)),
                                      {"dispatch", 3});
    ASSERT_TRUE(started.ok());
    const absl::Status status = started->Wait(Deadline::After(Seconds(0.05)));
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    const std::string text = ToString(status.message());
    EXPECT_THAT(text, HasSubstr("AllToAllV #0"));
    EXPECT_THAT(text, HasSubstr("rank 1 of"));
    EXPECT_THAT(text, HasSubstr("dispatch, layer 3"));
    EXPECT_THAT(text, HasSubstr("rank 0 has not arrived"));
    EXPECT_THAT(text, testing::Not(HasSubstr("rank 1 has not")));
    EXPECT_THAT(text, HasSubstr("after 0.05 s"));
  });
}

// A peer that counts differently is an error on the rank that was told wrongly, never a wait for ever.
TEST(Deadlines, DisagreeingCountsAreAnError) {
  if (MaxRanks() < 2) GTEST_SKIP();
  for (const int64_t told : {1, 3}) {  // less and more than arrives
    OnRanks(2, [told](Communicator& comm) {
      static std::vector<int32_t> send(4), recv(8);
      const bool wrong = comm.rank() == 1;
      const std::vector<int64_t> send_counts{2, 2}, recv_counts{wrong ? told : 2, 2};
      auto started = comm.StartAllToAllV(ConstBuffer::Of(std::span<const int32_t>(send)), send_counts,
                                         Buffer{recv.data(), 8, DType::kI32}, recv_counts, {"dispatch", 4});
      ASSERT_TRUE(started.ok());
      const absl::Status status = started->Wait(Deadline::After(kPatience));
      if (!wrong) return;
      EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
      EXPECT_THAT(ToString(status.message()), HasSubstr("dispatch, layer 4"));
      EXPECT_THAT(ToString(status.message()), HasSubstr("rank 1 of 2"));
    });
  }
}

// These end the epoch, which on mpi is the process's only one: a run of their own.
TEST(EndOfEpoch, RevokeWakesEveryWaiterAndRefusesWhatFollows) {
  if (MaxRanks() < 2) GTEST_SKIP();
  const int ranks = std::min(4, MaxRanks());
  OnRanks(ranks, [ranks](Communicator& comm) {
    auto group = comm.Subgroup(
        [&] {
          std::vector<int> all(ranks);
          std::iota(all.begin(), all.end(), 0);
          return all;
        }(),
        Deadline::After(kPatience));
    ASSERT_TRUE(group.ok());
    // Rank 0 never comes. Each rank hears the verdict by itself, from another thread, while it waits in a subgroup.
    std::jthread verdict([&comm] {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      comm.Revoke("rank 0 is dead");
    });
    if (comm.rank() != 0) {
      auto started = (*group)->StartBarrier({"test"});
      if (started.ok()) {
        const absl::Status status = started->Wait(Deadline::After(kPatience));
        EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
        EXPECT_THAT(ToString(status.message()), HasSubstr("rank 0 is dead"));
      } else {
        EXPECT_EQ(started.status().code(), absl::StatusCode::kAborted);  // a thread that came after the verdict
      }
    }
    verdict.join();
    comm.Revoke("a second reason does not replace the first");
    const absl::Status later = comm.StartBarrier({"test"}).status();
    EXPECT_EQ(later.code(), absl::StatusCode::kAborted);
    EXPECT_THAT(ToString(later.message()), HasSubstr("rank 0 is dead"));
  });
}

TEST(EndOfEpoch, RebuildGoesOnWithTheSurvivors) {
  OnRanks(std::min(4, MaxRanks()), [](Communicator& comm) {
    std::vector<int> survivors;
    for (int rank = 0; rank < comm.size(); ++rank) {
      if (rank != 1) survivors.push_back(rank);
    }
    if (!CanRebuild()) {
      EXPECT_EQ(comm.Rebuild(survivors, 2, Deadline::After(kPatience)).status().code(),
                absl::StatusCode::kUnimplemented);
      return;
    }
    if (comm.rank() == 1) return;
    EXPECT_FALSE(comm.Rebuild(survivors, 1, Deadline::After(kPatience)).ok()) << "epochs must grow";
    comm.Revoke("rank 1 is dead");
    auto next = comm.Rebuild(survivors, 2, Deadline::After(kPatience));
    ASSERT_TRUE(next.ok()) << next.status();
    EXPECT_EQ((*next)->epoch(), 2u);
    EXPECT_EQ((*next)->size(), comm.size() - 1);
    std::vector<int32_t> all((*next)->size());
    const int32_t mine = comm.rank();
    Finish((*next)->StartAllGather(ConstBuffer(&mine, 1, DType::kI32), Buffer::Of(std::span(all)), {"test"}));
    for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], survivors[i]);
  });
}

}  // namespace
}  // namespace atl::parallel
