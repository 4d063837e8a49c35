#include "coordinator/cli/flags.h"

#include <filesystem>

#include "models/spec/matformer.h"
#include "models/weights/read_model.h"

namespace atl::coordinator {

void AddModelFlag(CLI::App* command, std::string* model) {
  auto* flag =
      command->add_option("--model,-m,model", *model,
                          "model directory (config.json, safetensors, tokenizer.json; or GGUF), or a GGUF file");
  flag->required();
}

void AddWeightFlags(CLI::App* command, std::string* weights, std::string* head_weights) {
  command->add_option("--weights", *weights,
                      "what the layers' products are kept in: stored (default), bf16, fp8, int8, int4, q4_0, q8_0, "
                      "q4_k or q6_k (converted "
                      "while loading), or native (GGUF's q4_0, q8_0, q4_k and q6_k multiplied as integers)");
  command->add_option("--head-weights", *head_weights, "the same for the head, which stays as stored otherwise");
}

void AddExpertSlicesFlag(CLI::App* command, int* slices) {
  command
      ->add_option("--expert-slices", *slices,
                   "ranks that share each expert: 1, 2 or 4. More spread few streams evenly, and exchange more results")
      ->capture_default_str();
}

void AddClusterFlags(CLI::App* command, ClusterFlags* flags) {
  AddModelFlag(command, &flags->model);
  command->add_option("--ranks", flags->ranks, "ranks: attention groups x tensor-parallel degree")
      ->capture_default_str();
  command->add_option("--tp,--tensor-parallel-size", flags->tp, "tensor-parallel degree: 1, 2, 4 or 8")
      ->capture_default_str();
  AddExpertSlicesFlag(command, &flags->expert_slices);
  command
      ->add_option("--profile", flags->profile,
                   "numerics: f32 or bf16 (KV cache and wire); f32-kv8 or bf16-kv8: the cache in int8")
      ->capture_default_str();
  command->add_option("--transport", flags->transport, "mpi: a process a rank; inproc: ranks as threads of one process")
      ->capture_default_str();
  command->add_option("--hosts", flags->hosts, "hostfile for mpirun");
  command->add_flag("--external-ranks", flags->external_ranks,
                    "wait for ranks that someone else starts: atoll-worker --coordinator HOST:PORT");
  command->add_option("--control-address", flags->control_address, "where ranks connect; port 0: any")
      ->capture_default_str();
  command->add_option("--kv-tokens", flags->kv_tokens, "tokens of KV cache of one attention group")
      ->capture_default_str();
  command->add_option("--max-batch-tokens", flags->max_batch_tokens, "rows of one attention group's step")
      ->capture_default_str();
  command->add_option("--threads", flags->threads, "threads of one rank's kernels")->capture_default_str();
  command
      ->add_option("--silence-timeout", flags->silence_timeout,
                   "seconds without a heartbeat until a rank counts as dead")
      ->capture_default_str();
  command->add_flag("--dummy-weights", flags->dummy_weights, "weights made from config.json alone, for benchmarks");
  AddWeightFlags(command, &flags->weights, &flags->head_weights);
  command->add_flag("--weight-errors", flags->weight_errors,
                    "each rank writes how far the values of every matrix moved that --weights converts");
  command->add_option("--matformer", flags->matformer,
                      "a smaller Gemma 3n inside the checkpoint's: layers to skip, widths of the MLPs that stay; "
                      "\"skip=20-24 mlp=8192\" makes E2B of E4B");
}

absl::StatusOr<ClusterOptions> ToClusterOptions(const ClusterFlags& flags) {
  ClusterOptions options;
  if (flags.transport == "inproc") {
    options.transport = Transport::kInproc;
  } else if (flags.transport != "mpi") {
    return InvalidArgument("--transport {} is unknown; mpi and inproc exist", flags.transport);
  }
  if (!flags.hosts.empty() && !std::filesystem::exists(flags.hosts)) {
    return NotFound("--hosts {}: there is no such file", flags.hosts);
  }
  if (flags.threads < 1) return InvalidArgument("--threads is {}; at least 1 is needed", flags.threads);
  if (flags.silence_timeout <= 0) {
    return InvalidArgument("--silence-timeout is {}; it must be above 0 seconds", flags.silence_timeout);
  }
  // Absolute: ranks may start in another directory.
  options.model_path = std::filesystem::absolute(flags.model).string();
  ATOLL_ASSIGN_OR_RETURN(options.spec,
                         flags.dummy_weights ? models::ReadModelSpec(flags.model) : models::ReadModel(flags.model));
  options.matformer = flags.matformer;
  if (!flags.matformer.empty()) ATOLL_RETURN_IF_ERROR(models::SliceMatFormer(flags.matformer, &options.spec));
  ATOLL_ASSIGN_OR_RETURN(options.spec.kept, models::KeptFormats::Named(flags.weights, flags.head_weights));
  options.weights = flags.weights;
  options.head_weights = flags.head_weights;
  options.report_weight_errors = flags.weight_errors;
  ATOLL_ASSIGN_OR_RETURN(options.shape.numerics, models::NumericsNamed(flags.profile));
  options.shape.topology = {.world = flags.ranks, .tp = flags.tp};
  options.shape.kv_blocks = flags.kv_tokens / models::kKvBlockTokens;
  options.shape.max_batch_tokens = flags.max_batch_tokens;
  ATOLL_RETURN_IF_ERROR(models::CheckShape(options.spec, options.shape));
  options.dummy_weights = flags.dummy_weights;
  ATOLL_RETURN_IF_ERROR(models::CheckExpertSlices(options.spec, flags.ranks, flags.expert_slices));
  if (options.spec.moe) {
    options.placement = parallel::ExpertPlacement::Contiguous(static_cast<int>(options.spec.moe->experts), flags.ranks,
                                                              flags.expert_slices);
  }
  options.external_ranks = flags.external_ranks;
  options.hosts_file = flags.hosts;
  options.control_address = flags.control_address;
  options.threads_per_rank = flags.threads;
  options.silence_timeout = Seconds(flags.silence_timeout);
  options.show_output = !flags.quiet;
  return options;
}

SchedulerOptions ToSchedulerOptions(const ClusterOptions& options) {
  models::KvLayout layout = models::KvLayoutOf(options.spec);
  return {.groups = options.shape.topology.groups(),
          .kv_blocks = options.shape.kv_blocks * layout.line,
          .kv_block_tokens = models::kKvBlockTokens,
          .kv_groups = std::move(layout.groups),
          .max_batch_tokens = options.shape.max_batch_tokens};
}

}  // namespace atl::coordinator
