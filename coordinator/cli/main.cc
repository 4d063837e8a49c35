// The `atoll` program: one subcommand a use.
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <iostream>

#include "coordinator/cli/bench_engine.h"
#include "coordinator/cli/bench_machine.h"
#include "coordinator/cli/chat.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/inspect.h"
#include "coordinator/cli/score.h"
#include "coordinator/cli/serve.h"
#include "coordinator/cli/tokenize.h"

namespace atl::coordinator {
namespace {

void AddServe(CLI::App* app, absl::Status* result) {
  CLI::App* command = app->add_subcommand("serve", "coordinator and ranks behind the OpenAI API and gRPC");
  auto flags = std::make_shared<ServeFlags>();
  AddClusterFlags(command, &flags->cluster);
  command->add_option("--host", flags->host, "address of both front ends")->capture_default_str();
  command->add_option("--port", flags->port, "HTTP port")->capture_default_str();
  command->add_option("--grpc-port", flags->grpc_port, "gRPC port")->capture_default_str();
  command->add_option("--served-model-name", flags->name,
                      "name shown to clients; default: the directory's or the file's");
  command->add_option("--chat-template", flags->chat_template, "a Jinja file instead of the model's template");
  command
      ->add_option("--max-num-queued-reqs", flags->max_queued_requests,
                   "requests that may wait; more are told to retry")
      ->capture_default_str();
  command->add_option("--shutdown-timeout", flags->shutdown_timeout, "seconds that running requests have after SIGTERM")
      ->capture_default_str();
  command->callback([flags, result] { *result = RunServe(*flags); });
}

void AddChat(CLI::App* app, absl::Status* result) {
  CLI::App* command = app->add_subcommand("chat", "a prompt line on a cluster of ranks");
  auto flags = std::make_shared<ChatFlags>();
  AddClusterFlags(command, &flags->cluster);
  command->add_option("--chat-template", flags->chat_template, "a Jinja file instead of the model's template");
  command->add_option("--system", flags->system, "system prompt");
  command->add_option("--temperature", flags->temperature, "0: the likeliest token always; default: the model's own");
  command->add_option("--top-p", flags->top_p, "sample among the likeliest tokens that together have this probability");
  command->add_option("--top-k", flags->top_k, "sample among this many tokens; 0: all");
  command->add_option("--seed", flags->seed, "the same seed gives the same answers; default: random");
  command->add_option("--max-tokens", flags->max_tokens, "tokens of an answer; 0: what the context leaves")
      ->capture_default_str();
  command->add_flag("--verbose", flags->verbose, "log lines of the coordinator and the ranks");
  command->callback([flags, result] { *result = RunChat(*flags); });
}

void AddScore(CLI::App* app, absl::Status* result) {
  CLI::App* command = app->add_subcommand("score", "logits, greedy ids or perplexity of given input");
  auto flags = std::make_shared<ScoreFlags>();
  AddClusterFlags(command, &flags->cluster);
  command->add_option("--input", flags->input, "safetensors with input_ids [B, S] i32");
  command->add_option("--output", flags->output, "safetensors for logits [B, S, V] f32 and generated_ids");
  command->add_option("--text", flags->text, "JSON lines {\"text\": ...}: perplexity instead of logits");
  command->add_option("--chunk", flags->chunk, "prompt rows of one sequence in one step at most; 0: no limit");
  command->add_option("--generate", flags->generate, "greedy ids to add, continuing row 0");
  command->add_option("--prompt-length", flags->prompt_length, "ids of row 0 that --generate continues")
      ->capture_default_str();
  command->callback([flags, result] { *result = RunScore(*flags); });
}

void AddInspect(CLI::App* app, absl::Status* result) {
  CLI::App* command =
      app->add_subcommand("inspect", "architecture, parameters, bytes per rank, from config.json or headers alone");
  auto flags = std::make_shared<InspectOptions>();
  AddModelFlag(command, &flags->path);
  command->add_option("--ranks", flags->ranks, "ranks")->capture_default_str();
  command->add_option("--tp,--tensor-parallel-size", flags->tp, "tensor-parallel degree")->capture_default_str();
  AddExpertSlicesFlag(command, &flags->expert_slices);
  command->add_option("--profile", flags->profile, "numerics: f32, bf16, f32-kv8 or bf16-kv8")->capture_default_str();
  command->add_option("--kv-tokens", flags->kv_tokens, "tokens of KV cache of one attention group")
      ->capture_default_str();
  command->add_option("--max-batch-tokens", flags->max_batch_tokens, "rows of one step")->capture_default_str();
  AddWeightFlags(command, &flags->weights, &flags->head_weights);
  command->add_option("--memory", flags->memory, "what fits in so much memory for each rank: 64GB, 60GiB");
  command->add_option("--matformer", flags->matformer, "a slice of Gemma 3n: \"skip=20-24 mlp=8192\"");
  command->add_flag("--json", flags->json, "one JSON object");
  command->callback([flags, result] { *result = RunInspect(*flags); });
}

void AddBenchEngine(CLI::App* bench, absl::Status* result) {
  CLI::App* command = bench->add_subcommand("engine", "tokens a second of the ranks and the step loop, by phase");
  auto flags = std::make_shared<BenchEngineFlags>();
  AddClusterFlags(command, &flags->cluster);
  command->get_option("--model")->required(false);
  command->add_option("--config", flags->config, "config.json alone: weights are made from it");
  command->add_option("--prompt", flags->prompts, "lengths of prompts; decoding begins with the first")->delimiter(',');
  command->add_option("--batch", flags->batches, "streams that decode together")->delimiter(',');
  command->add_option("--decode", flags->decode, "steps of decoding")->capture_default_str();
  command->add_option("--repeats", flags->repeats, "of each prompt; the best counts")->capture_default_str();
  command->add_option("--limit-memory", flags->memory_gib, "GiB read for the machine's limit; 0: no limits")
      ->capture_default_str();
  command->add_flag("--json", flags->json, "one JSON object");
  command->callback([flags, result] { *result = RunBenchEngine(*flags); });
}

void AddBench(CLI::App* app, absl::Status* result) {
  CLI::App* command = app->add_subcommand("bench", "measure");
  command->require_subcommand(1);
  CLI::App* machine = command->add_subcommand("machine", "the limits: memory, multiply-adds, exchanges between ranks");
  auto flags = std::make_shared<BenchMachineOptions>();
  machine->add_option("--ranks", flags->ranks, "ranks of the exchanges")->capture_default_str();
  machine->add_option("--threads", flags->threads, "threads of memory and multiply-adds; 0: all cores")
      ->capture_default_str();
  machine->add_option("--transport", flags->transport, "mpi or inproc")->capture_default_str();
  machine->add_option("--memory", flags->memory_gib, "GiB to read")->capture_default_str();
  machine->add_flag("--json", flags->json, "one JSON object");
  machine->callback([flags, result] { *result = RunBenchMachine(*flags); });
  AddBenchEngine(command, result);
}

void AddTokenize(CLI::App* app, absl::Status* result) {
  CLI::App* command = app->add_subcommand("tokenize", "JSON lines of text or messages to ids");
  auto options = std::make_shared<TokenizeOptions>();
  command->add_option("--model,-m,model", options->model,
                      "model directory or GGUF file: its tokenizer and its chat template");
  command->add_option("--tokenizer", options->tokenizer,
                      "a file instead: tokenizer.json, tiktoken or tekken ranks (perhaps gzipped), GGUF");
  command->add_option("--template", options->chat_template, "a Jinja file instead of the model's template");
  command->add_option("--bos", options->bos, "bos_token of --template");
  command->add_option("--eos", options->eos, "eos_token of --template");
  command->add_option("--date", options->date, "the template's today, YYYY-MM-DD");
  command->callback([options, result] { *result = RunTokenize(*options, std::cin, std::cout); });
}

// What CLI11 would call a missing subcommand.
std::string UnknownCommand(const CLI::App& app, int argc, char** argv) {
  std::string names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (argc < 2 || argv[1][0] == '-' || command->check_name(argv[1])) return "";
    names += (names.empty() ? "" : ", ") + command->get_name();
  }
  return fmt::format("there is no command {}; these exist: {}", argv[1], names);
}

int Main(int argc, char** argv) {
  CLI::App app("Atoll serves mixture-of-experts models from a cluster of ranks.", "atoll");
  app.set_version_flag("--version", "atoll " ATOLL_VERSION);
  app.require_subcommand(1);
  absl::Status result;
  AddServe(&app, &result);
  AddChat(&app, &result);
  AddScore(&app, &result);
  AddTokenize(&app, &result);
  AddInspect(&app, &result);
  AddBench(&app, &result);
  if (const std::string unknown = UnknownCommand(app, argc, argv); !unknown.empty()) {
    std::fprintf(stderr, "atoll: %s\n", unknown.c_str());
    return 2;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (result.ok()) return 0;
  std::fprintf(stderr, "atoll: %s\n", ToString(result.message()).c_str());
  return 2;
}

}  // namespace
}  // namespace atl::coordinator

int main(int argc, char** argv) {
  // Threads come and go; with an arena for each, memory goes on growing under a load that does not.
  mallopt(M_ARENA_MAX, 2);
  try {
    return atl::coordinator::Main(argc, argv);
  } catch (const std::exception& error) {  // a library's: our own errors are statuses
    std::fprintf(stderr, "atoll: %s\n", error.what());
    return 1;
  }
}
