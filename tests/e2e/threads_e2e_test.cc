// From an HTTP client to ranks and back in one process, without gRPC: what TSan can judge to the last lock.
#include <gtest/gtest.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "coordinator/api/http/server.h"
#include "tests/e2e/thread_ranks.h"

namespace atl {
namespace {

using coordinator::Engine;
using nlohmann::json;

constexpr char kCheckpoint[] = ATOLL_SOURCE_DIR "/models/checkpoints/tiny-deepseek-v3";

coordinator::ClusterOptions FourRanks() {
  coordinator::ClusterOptions options;
  options.model_path = kCheckpoint;
  options.spec = models::ReadModelSpec(kCheckpoint).value();
  options.shape = {.topology = {.world = 4, .tp = 2}, .numerics = {}, .kv_blocks = 16, .max_batch_tokens = 64};
  options.placement = parallel::ExpertPlacement::Contiguous(static_cast<int>(options.spec.moe->experts), 4);
  return options;
}

// Everything between a socket and the ranks.
class ThreadsE2e : public testing::Test {
 protected:
  ThreadsE2e()
      : options_(FourRanks()),
        tokenizer_(coordinator::LoadTokenizer(kCheckpoint).value()),
        chat_(coordinator::LoadChatTemplate(kCheckpoint, {.deadline = Seconds(60), .date = ""}).value()) {
    options_.sample_vocab = tokenizer_->size();
    ranks_ = std::make_unique<ThreadRanks>(options_);
    coordinator::EngineOptions engine;
    engine.scheduler = {.groups = 2, .kv_blocks = 16, .max_batch_tokens = 64};
    engine.eos_ids = options_.spec.eos_ids;
    engine.vocab = options_.spec.vocab;
    engine_ = std::make_unique<Engine>(engine, tokenizer_.get(), ranks_.get());
    ranks_->Start(engine_->listener());
    service_.name = "tiny";
    service_.options = options_;
    service_.tokenizer = tokenizer_.get();
    service_.chat_template = chat_.get();
    service_.engine = engine_.get();
    service_.cluster = ranks_.get();
    service_.defaults = coordinator::ReadSamplingDefaults(kCheckpoint);
    const Deadline loaded = Deadline::After(Seconds(120));  // until then requests are refused
    while (!engine_->stats().ready && !loaded.Expired()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    http_ = coordinator::HttpServer::Start(&service_, "127.0.0.1", 0).value();
  }
  ~ThreadsE2e() override {
    http_->Stop();
    engine_->Stop();
    ranks_->Shutdown(Deadline::After(Seconds(10)));
  }

  // The text of one answer; stops reading after `pieces` chunks of a stream if given.
  std::string Ask(json body, int pieces = 0) {
    namespace beast = boost::beast;
    boost::asio::io_context io;
    beast::tcp_stream stream(io);
    stream.connect({boost::asio::ip::make_address("127.0.0.1"), static_cast<uint16_t>(http_->port())});
    body["stream"] = true;
    beast::http::request<beast::http::string_body> request(beast::http::verb::post, "/v1/chat/completions", 11,
                                                           body.dump());
    request.prepare_payload();
    beast::http::write(stream, request);
    std::string text, line;
    char byte;
    boost::system::error_code error;
    while (boost::asio::read(stream.socket(), boost::asio::buffer(&byte, 1), error) == 1) {
      if (byte != '\n') {
        line += byte;
        continue;
      }
      if (line.starts_with("data: [DONE]")) return text;
      if (line.starts_with("data: {")) {
        const json chunk = json::parse(line.substr(6));
        if (chunk.contains("error")) return chunk.dump();
        text += chunk["choices"][0]["delta"].value("content", "");
        if (pieces > 0 && --pieces == 0) return text;
      }
      line.clear();
    }
    return text;
  }

  coordinator::ClusterOptions options_;
  std::unique_ptr<coordinator::Tokenizer> tokenizer_;
  std::unique_ptr<coordinator::ChatTemplate> chat_;
  std::unique_ptr<ThreadRanks> ranks_;
  std::unique_ptr<Engine> engine_;
  coordinator::Service service_;
  std::unique_ptr<coordinator::HttpServer> http_;
};

// Questions with the reference's own answers, those whose every choice was clear.
std::vector<json> Questions(size_t count) {
  std::ifstream file(std::string(kCheckpoint) + "/eval.jsonl");
  std::vector<json> questions;
  for (std::string line; questions.size() < count && std::getline(file, line);) {
    json question = json::parse(line);
    if (question["min_margin"].get<double>() > 2e-3) questions.push_back(std::move(question));
  }
  return questions;
}

TEST_F(ThreadsE2e, AnswersStayTheReferencesWhileClientsLeaveAndRanksAreLost) {
  const std::vector<json> questions = Questions(16);
  ASSERT_EQ(questions.size(), 16u);
  std::vector<std::string> answers(questions.size());
  std::vector<std::thread> clients;
  for (size_t i = 0; i < questions.size(); ++i) {
    clients.emplace_back([&, i] {
      answers[i] =
          Ask({{"messages", questions[i]["messages"]}, {"max_tokens", questions[i]["max_tokens"]}, {"temperature", 0}});
    });
    // One of its neighbours leaves in the middle of a long answer.
    if (i % 4 == 0) {
      clients.emplace_back([&, i] {
        Ask({{"messages", questions[i]["messages"]}, {"max_tokens", 100}, {"ignore_eos", true}}, 2);
      });
    }
  }
  for (int loss = 0; loss < 2; ++loss) {
    const int64_t steps = engine_->stats().steps;
    const Deadline deadline = Deadline::After(Seconds(60));
    while (engine_->stats().steps < steps + 5 && !deadline.Expired()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ASSERT_FALSE(deadline.Expired()) << "no steps";
    ranks_->Lose("on purpose");
  }
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < questions.size(); ++i) {
    EXPECT_EQ(answers[i], questions[i]["reference"].get<std::string>()) << questions[i]["messages"].dump();
  }
  const Deadline deadline = Deadline::After(Seconds(30));
  while (engine_->stats().free_kv_blocks < 32 && !deadline.Expired()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(engine_->stats().free_kv_blocks, 32);
  EXPECT_EQ(engine_->stats().restarts, 2);
}

}  // namespace
}  // namespace atl
