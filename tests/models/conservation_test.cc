// Law 3 in a whole forward pass: what one rank loses or alters in one layer's exchange ends the step on the rank that
// receives it, with an error that names the layer and both ranks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>

#include "tests/models/world.h"
#include "tests/parallel/faulty_communicator.h"

namespace atl::models {
namespace {

using parallel::OpTag;
using parallel::Sent;
using testing::HasSubstr;

// Two ranks; what rank 1 sends in `phase` of `layer` is at fault. The error of the step, or "" if there was none.
std::string ErrorOf(int layer, std::string_view phase, const std::function<void(Sent*)>& fault) {
  int faults = 0;
  World world(
      {.path = std::string(ATOLL_SOURCE_DIR) + "/models/checkpoints/tiny-deepseek-v3",
       .topology = {2, 1},
       .wrap = [&](int rank, std::unique_ptr<parallel::Communicator> inner) -> std::unique_ptr<parallel::Communicator> {
         if (rank != 1) return inner;
         return std::make_unique<parallel::FaultyCommunicator>(std::move(inner), [&](OpTag tag, Sent* sent) {
           if (tag.layer != layer || phase != tag.phase) return;
           ++faults;
           fault(sent);
         });
       }});
  std::string error;
  try {
    // A prompt on each group, so that both ranks send rows to both.
    const Chunk chunk{{5, 77, 300, 12, 9, 41, 500, 8}, 0, 8, {0}};
    world.Step({{chunk}, {chunk}});
  } catch (const std::runtime_error& thrown) {
    error = thrown.what();
  }
  EXPECT_EQ(faults, 1) << phase << " of layer " << layer << " did not happen once";
  return error;
}

TEST(ConservationTest, WithoutAFaultThereIsNoError) {
  EXPECT_EQ(ErrorOf(2, "dispatch", [](Sent*) {}), "");
}

TEST(ConservationTest, ALostRowNamesLayerAndRanks) {
  const std::string error = ErrorOf(2, "dispatch", [](Sent* sent) {
    const int64_t width = 256;
    sent->counts[0] -= width;
    sent->data.erase(sent->data.begin(), sent->data.begin() + width * sent->element_bytes);
  });
  for (const char* part : {"layer 2", "on rank 0", "rank 1 sends", "were expected"}) {
    EXPECT_THAT(error, HasSubstr(part));
  }
}

TEST(ConservationTest, AWrongExpertNamesLayerAndRanks) {
  const std::string error = ErrorOf(3, "dispatch lists", [](Sent* sent) { *sent->Word<int32_t>(1) ^= 1; });
  for (const char* part : {"conservation violated", "layer 3", "rank 0", "from rank 1", "the lists' digest"}) {
    EXPECT_THAT(error, HasSubstr(part));
  }
}

TEST(ConservationTest, AResultOfAnotherExchangeNamesLayerAndRanks) {
  const std::string error = ErrorOf(4, "combine", [](Sent* sent) { *sent->Word<int64_t>(0) -= 1; });
  for (const char* part : {"conservation violated", "layer 4", "rank 0", "from rank 1", "the returned exchange"}) {
    EXPECT_THAT(error, HasSubstr(part));
  }
}

}  // namespace
}  // namespace atl::models
