#include "coordinator/engine/stream.h"

#include <gtest/gtest.h>

#include <thread>

namespace atl::coordinator {
namespace {

Delta Text(const std::string& text) {
  Delta delta;
  delta.text = text;
  return delta;
}

Delta End() {
  Delta delta;
  delta.finish = FinishReason::kStop;
  return delta;
}

struct Calls {
  int space = 0, close = 0;
  std::shared_ptr<TokenStream> Stream(size_t bound) {
    return std::make_shared<TokenStream>(
        7, bound, [this](uint64_t) { ++space; }, [this](uint64_t) { ++close; });
  }
};

TEST(TokenStream, SaysWhenItIsFullAndWhenItHasSpaceAgain) {
  Calls calls;
  const auto stream = calls.Stream(4);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(stream->Push(Text("a")));
  EXPECT_FALSE(stream->Push(Text("a")));
  EXPECT_FALSE(stream->Push(Text("late")));  // a step was in flight: kept all the same
  for (int i = 0; i < 2; ++i) stream->TryPop();
  EXPECT_EQ(calls.space, 0);
  stream->TryPop();
  EXPECT_EQ(calls.space, 1);
  stream->TryPop();
  EXPECT_EQ(stream->TryPop()->text, "late");
  EXPECT_EQ(calls.space, 1);
  EXPECT_FALSE(stream->TryPop());
}

TEST(TokenStream, ALateDeltaDoesNotHideThatTheEngineWasTold) {
  Calls calls;
  const auto stream = calls.Stream(6);
  for (int i = 0; i < 6; ++i) stream->Push(Text("a"));
  for (int i = 0; i < 2; ++i) stream->TryPop();
  EXPECT_FALSE(stream->Push(Text("late")));
  while (stream->TryPop()) continue;
  EXPECT_EQ(calls.space, 1);
}

TEST(TokenStream, CloseTellsTheEngineOnceUnlessItHadEnded) {
  Calls calls;
  const auto stream = calls.Stream(4);
  stream->Push(Text("a"));
  stream->Close();
  stream->Close();
  EXPECT_EQ(calls.close, 1);
  EXPECT_TRUE(stream->Push(Text("b"))) << "nobody is to be paused for a reader that left";
  EXPECT_EQ(stream->Pop(Deadline::After(Seconds(1))).status().code(), absl::StatusCode::kCancelled);
  const auto ended = calls.Stream(1);
  EXPECT_TRUE(ended->Push(End()));
  ended->Close();
  EXPECT_EQ(calls.close, 1);
}

TEST(TokenStream, PopWaitsUntilSomethingComesOrTheDeadline) {
  Calls calls;
  const auto stream = calls.Stream(4);
  EXPECT_EQ(stream->Pop(Deadline::After(Seconds(0.01))).status().code(), absl::StatusCode::kDeadlineExceeded);
  std::thread engine([&] {
    stream->Push(Text("x"));
    stream->Push(End());
  });
  EXPECT_EQ(stream->Pop(Deadline::After(Seconds(10)))->text, "x");
  EXPECT_TRUE(stream->Pop(Deadline::After(Seconds(10)))->last());
  engine.join();
  EXPECT_EQ(stream->Pop(Deadline::After(Seconds(10))).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(TokenStream, TheCallbackComesAtOnceForWhatWaitsAndMayReadInside) {
  Calls calls;
  const auto stream = calls.Stream(1);
  stream->Push(Text("a"));
  std::string text;
  stream->OnReadable([&] {
    while (const std::optional<Delta> delta = stream->TryPop()) text += delta->text;
  });
  stream->Push(Text("b"));
  EXPECT_EQ(text, "ab");
  EXPECT_EQ(calls.space, 2);
}

}  // namespace
}  // namespace atl::coordinator
