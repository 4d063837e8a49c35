// Conservation violated on purpose: the rank that receives what another lost or altered must say so, naming layer and
// rank. The whole forward pass is tests/models/conservation_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "parallel/backends.h"
#include "parallel/dispatch.h"
#include "tests/parallel/faulty_communicator.h"

namespace atl::parallel {
namespace {

using testing::HasSubstr;

constexpr int kLayer = 3;
constexpr int64_t kWidth = 4;

// Two ranks, four experts, three rows on each, two experts a row: one on each rank. Rank 1's sending is at fault.
std::vector<absl::Status> Exchange(const std::string& phase, const std::function<void(Sent*)>& fault) {
  auto world = InprocWorld(2, 1);
  FaultyCommunicator faulty(std::move(world[1]), [&](OpTag tag, Sent* sent) {
    if (phase == tag.phase) fault(sent);
  });
  Communicator* ranks[] = {world[0].get(), &faulty};
  const ExpertPlacement placement = ExpertPlacement::Contiguous(4, 2);
  std::vector<absl::Status> ends(2);
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] {
        const ParallelContext context{{2, 1}, rank, ranks[rank], nullptr, Seconds(0.3)};
        const std::vector<int32_t> experts{0, 2, 1, 3, 0, 3};
        const std::vector<float> weights(6, 0.5f), x(3 * kWidth, 1.0f);
        const Routing routing{3, 2, experts, weights};
        std::vector<std::byte> send(4096), recv(4096), lists(4096);
        std::vector<float> out(3 * kWidth);
        ends[rank] = [&]() -> absl::Status {
          ATOLL_ASSIGN_OR_RETURN(const Dispatched in,
                                 Dispatch(context, placement, kLayer, ConstBuffer::Of(std::span(x)), kWidth, routing,
                                          {send, recv, lists}));
          const std::vector<float> results(in.num_pairs * kWidth, 1.0f);
          return Combine(context, in, ConstBuffer::Of(std::span(results)), kWidth, routing, out, {send, recv, lists});
        }();
      });
    }
  }
  return ends;
}

// What rank 0, which receives it, must say.
void ExpectCaught(const std::string& phase, const std::function<void(Sent*)>& fault, const std::string& what) {
  const std::vector<absl::Status> ends = Exchange(phase, fault);
  const std::string text = ToString(ends[0].message());
  EXPECT_EQ(ends[0].code(), absl::StatusCode::kInternal) << ends[0];
  EXPECT_THAT(text, HasSubstr("layer 3"));
  EXPECT_THAT(text, HasSubstr("rank 0"));  // who found it
  EXPECT_THAT(text, HasSubstr("rank 1"));  // who sent it
  EXPECT_THAT(text, HasSubstr(what));
}

int64_t* Word(Sent* sent, int64_t index) { return sent->Word<int64_t>(index); }
int32_t* Entry(Sent* sent, int64_t index) { return sent->Word<int32_t>(index); }

TEST(Faults, NoneIsNoError) {
  for (const absl::Status& end : Exchange("dispatch", [](Sent*) {})) EXPECT_TRUE(end.ok()) << end;
}

TEST(Faults, ADroppedRowIsCaught) {
  ExpectCaught(
      "dispatch",
      [](Sent* sent) {
        sent->counts[0] -= kWidth;
        sent->data.erase(sent->data.begin(), sent->data.begin() + kWidth * sent->element_bytes);
      },
      "48 were expected");
}

TEST(Faults, AlteredCountsAreCaught) {
  // Rank 0's announcement from rank 1: epoch, layer, sequence, rows, pairs, digest.
  ExpectCaught(
      "dispatch counts", [](Sent* s) { *Word(s, 0) += 1; }, "the epoch is 2, expected 1");
  ExpectCaught(
      "dispatch counts", [](Sent* s) { *Word(s, 1) += 1; }, "the layer is 4, expected 3");
  ExpectCaught(
      "dispatch counts", [](Sent* s) { *Word(s, 2) += 1; }, "the exchange is 1, expected 0");
  ExpectCaught(
      "dispatch counts", [](Sent* s) { *Word(s, 3) = -1; }, "the number of rows is -1");
  ExpectCaught(
      "dispatch counts", [](Sent* s) { *Word(s, 4) = 1; }, "the number of pairs is 1");
  ExpectCaught(
      "dispatch counts", [](Sent* s) { *Word(s, 5) ^= 1; }, "the lists' digest");
  ExpectCaught(
      "dispatch counts",
      [](Sent* s) {
        *Word(s, 3) = int64_t{1} << 40;
        *Word(s, 4) = int64_t{1} << 40;
      },
      "the number of rows is 1099511627776");
}

TEST(Faults, AlteredListsAreCaught) {
  // A list entry: how many experts, then which.
  ExpectCaught(
      "dispatch lists", [](Sent* s) { *Entry(s, 0) = 2; }, "the lists' digest");
  ExpectCaught(
      "dispatch lists", [](Sent* s) { *Entry(s, 1) = 1; }, "the lists' digest");
}

TEST(Faults, LostOrForeignResultsAreCaught) {
  ExpectCaught(
      "combine", [](Sent* s) { *Word(s, 0) -= 1; }, "the returned exchange");
  ExpectCaught(
      "combine", [](Sent* s) { *Word(s, 1) -= 1; }, "pairs returned is 2, expected 3");
  ExpectCaught(
      "combine",
      [](Sent* s) {
        s->counts[0] -= 16;
        s->data.erase(s->data.begin() + 16, s->data.begin() + 32);
      },
      "64 were expected");
}

// Fewer rows announced than sent: rank 0 expects less than arrives.
TEST(Faults, AnUnannouncedRowIsCaught) {
  ExpectCaught(
      "dispatch counts",
      [](Sent* s) {
        *Word(s, 3) -= 1;
        *Word(s, 4) -= 1;
      },
      "were expected");
}

}  // namespace
}  // namespace atl::parallel
