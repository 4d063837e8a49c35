#include "coordinator/cli/score.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "coordinator/cli/model_text.h"
#include "coordinator/cli/running_cluster.h"
#include "models/weights/checkpoint.h"

namespace atl::coordinator {
namespace {

constexpr Seconds kStreamTimeout{600};  // without any progress of a stream

struct Collected {
  std::string logits;
  std::vector<float> target_logprobs;
  std::vector<int32_t> tokens;
};

absl::StatusOr<Collected> Collect(TokenStream* stream) {
  Collected all;
  while (true) {
    ATOLL_ASSIGN_OR_RETURN(const Delta delta, stream->Pop(Deadline::After(kStreamTimeout)));
    ATOLL_RETURN_IF_ERROR(delta.status);
    all.logits += delta.logits;
    all.target_logprobs.insert(all.target_logprobs.end(), delta.target_logprobs.begin(), delta.target_logprobs.end());
    all.tokens.insert(all.tokens.end(), delta.tokens.begin(), delta.tokens.end());
    if (delta.last()) return all;
  }
}

Request ScoringRequest(std::string id, std::vector<int32_t> ids, v1::Output output) {
  Request request;
  request.id = std::move(id);
  request.prompt_ids = std::move(ids);
  request.output = output;
  return request;
}

absl::StatusOr<std::vector<std::vector<int32_t>>> ReadIds(const std::string& path) {
  ATOLL_ASSIGN_OR_RETURN(const models::Checkpoint file, models::Checkpoint::Open(path));
  const models::TensorView* ids = file.Find("input_ids");
  if (ids == nullptr || ids->dtype != DType::kI32 || ids->shape.size() != 2 || ids->bytes == 0) {
    return InvalidArgument("{}: --input needs a tensor input_ids [B, S] of I32", path);
  }
  std::vector<std::vector<int32_t>> rows(ids->shape[0], std::vector<int32_t>(ids->shape[1]));
  for (size_t r = 0; r < rows.size(); ++r) {
    std::memcpy(rows[r].data(), ids->data + r * rows[r].size() * 4, rows[r].size() * 4);
  }
  return rows;
}

absl::StatusOr<std::vector<int32_t>> Generate(Engine* engine, const ScoreFlags& flags, std::vector<int32_t> prompt) {
  if (flags.prompt_length < 1 || flags.prompt_length > static_cast<int64_t>(prompt.size())) {
    return InvalidArgument("--prompt-length {} is not within the {} ids of row 0", flags.prompt_length, prompt.size());
  }
  prompt.resize(flags.prompt_length);
  Request request = ScoringRequest("generate", std::move(prompt), v1::OUTPUT_SAMPLE);
  request.max_tokens = flags.generate;
  request.ignore_eos = true;
  ATOLL_ASSIGN_OR_RETURN(const std::shared_ptr<TokenStream> stream, engine->Submit(std::move(request)));
  ATOLL_ASSIGN_OR_RETURN(Collected collected, Collect(stream.get()));
  return std::move(collected.tokens);
}

absl::Status ScoreIds(const ScoreFlags& flags, const std::vector<std::vector<int32_t>>& rows, int64_t vocab,
                      Engine* engine) {
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (size_t r = 0; r < rows.size(); ++r) {
    ATOLL_ASSIGN_OR_RETURN(streams.emplace_back(),
                           engine->Submit(ScoringRequest(fmt::format("row-{}", r), rows[r], v1::OUTPUT_LOGITS)));
  }
  std::string logits;
  const size_t row_bytes = rows[0].size() * vocab * sizeof(float);
  for (const auto& stream : streams) {
    ATOLL_ASSIGN_OR_RETURN(const Collected collected, Collect(stream.get()));
    if (collected.logits.size() != row_bytes) {
      return Internal("{} bytes of logits came for {} expected", collected.logits.size(), row_bytes);
    }
    logits += collected.logits;
  }
  const auto bytes_of = [](const auto& values) { return reinterpret_cast<const std::byte*>(values.data()); };
  std::vector<models::TensorToWrite> out = {
      {"logits",
       {DType::kF32,
        {static_cast<int64_t>(rows.size()), static_cast<int64_t>(rows[0].size()), vocab},
        bytes_of(logits),
        static_cast<int64_t>(logits.size())}}};
  std::vector<int32_t> generated;
  if (flags.generate > 0) {
    ATOLL_ASSIGN_OR_RETURN(generated, Generate(engine, flags, rows[0]));
    out.push_back({"generated_ids", {DType::kI32, {1, flags.generate}, bytes_of(generated), flags.generate * 4}});
  }
  return models::WriteSafetensors(flags.output, out);
}

absl::Status ScoreText(const ScoreFlags& flags, const Tokenizer& tokenizer, Engine* engine) {
  std::ifstream in(flags.text);
  if (!in) return NotFound("--text {} cannot be opened", flags.text);
  std::ofstream out;
  if (!flags.output.empty()) {
    out.open(flags.output);
    if (!out) return InvalidArgument("--output {} cannot be written", flags.output);
  }
  std::vector<std::pair<std::vector<int32_t>, std::shared_ptr<TokenStream>>> texts;
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.empty()) continue;
    const nlohmann::json parsed = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_object() || !parsed.contains("text") || !parsed["text"].is_string()) {
      return InvalidArgument("{}: line {} is not an object with a string \"text\"", flags.text, number);
    }
    std::vector<int32_t> ids = tokenizer.Encode(parsed["text"].get<std::string>(), {.add_special = true});
    if (ids.size() < 2) continue;  // nothing to predict
    ATOLL_ASSIGN_OR_RETURN(
        auto stream, engine->Submit(ScoringRequest(fmt::format("line-{}", number), ids, v1::OUTPUT_TARGET_LOGPROBS)));
    texts.emplace_back(std::move(ids), std::move(stream));
  }
  double sum = 0;
  int64_t tokens = 0;
  for (const auto& [ids, stream] : texts) {
    ATOLL_ASSIGN_OR_RETURN(const Collected collected, Collect(stream.get()));
    for (const float logprob : collected.target_logprobs) sum += logprob;
    tokens += static_cast<int64_t>(collected.target_logprobs.size());
    if (out) out << nlohmann::json{{"ids", ids}, {"logprobs", collected.target_logprobs}}.dump() << "\n";
  }
  if (tokens == 0) return InvalidArgument("{}: no text of two tokens or more", flags.text);
  fmt::print("perplexity {:.4f}  loss {:.4f}  tokens {}\n", std::exp(-sum / tokens), -sum / tokens, tokens);
  return absl::OkStatus();
}

}  // namespace

absl::Status RunScore(const ScoreFlags& flags) {
  if (flags.chunk < 0) return InvalidArgument("--chunk is {}; give 1 or more, or 0 for no limit", flags.chunk);
  if (flags.generate < 0) return InvalidArgument("--generate is {}; give 0 or more", flags.generate);
  if (flags.input.empty() == flags.text.empty()) return InvalidArgument("give one of --input and --text");
  if (!flags.input.empty() && flags.output.empty()) return InvalidArgument("--input needs --output");
  ATOLL_ASSIGN_OR_RETURN(ClusterOptions options, ToClusterOptions(flags.cluster));
  std::vector<std::vector<int32_t>> rows;
  std::unique_ptr<Tokenizer> tokenizer;
  if (!flags.input.empty()) {
    ATOLL_ASSIGN_OR_RETURN(rows, ReadIds(flags.input));
  } else {
    ATOLL_ASSIGN_OR_RETURN(tokenizer, LoadModelTokenizer(flags.cluster.model));
  }
  EngineOptions engine;
  engine.scheduler = ToSchedulerOptions(options);
  engine.scheduler.max_prompt_chunk = flags.chunk;
  engine.max_queued_requests = INT64_MAX;
  ATOLL_ASSIGN_OR_RETURN(const auto running, RunningCluster::Create(options, std::move(engine), tokenizer.get()));
  running->Launch();
  ATOLL_RETURN_IF_ERROR(running->WaitReady());
  return rows.empty() ? ScoreText(flags, *tokenizer, &running->engine())
                      : ScoreIds(flags, rows, options.spec.vocab, &running->engine());
}

}  // namespace atl::coordinator
