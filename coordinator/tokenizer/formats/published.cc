#include "coordinator/tokenizer/formats/published.h"

#include "coordinator/tokenizer/known_expressions.h"

namespace atl::coordinator {
namespace {

using Names = std::vector<std::string>;

// Adds names[i] with ids in a row.
void Append(const Names& names, RankedTokens* ranked) {
  for (const std::string& name : names) {
    const int64_t next =
        ranked->special.empty() ? static_cast<int64_t>(ranked->tokens.size()) : ranked->special.back().id + 1;
    ranked->special.push_back({name, next});
  }
}

Names Numbered(const std::string& before, int first, int last) {  // both included
  Names names;
  for (int i = first; i <= last; ++i) names.push_back(fmt::format("<|{}{}|>", before, i));
  return names;
}

void AddLlama3(RankedTokens* ranked) {
  Append({"<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
          "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
          "<|eot_id|>", "<|python_tag|>", "<|image|>"},
         ranked);
  Append(Numbered("reserved_special_token_", 2, 245), ranked);  // 256 in all
  ranked->bos = "<|begin_of_text|>";
}

void AddLlama4(RankedTokens* ranked) {
  Append({"<|begin_of_text|>", "<|end_of_text|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
          "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>"},
         ranked);
  Append(Numbered("text_post_train_reserved_special_token_", 0, 5), ranked);
  Append({"<|python_start|>", "<|python_end|>", "<|finetune_right_pad|>"}, ranked);
  Append(Numbered("text_post_train_reserved_special_token_", 8, 68), ranked);
  Append({"<|image_start|>", "<|image_end|>", "<|vision_reserved_special_token_0|>",
          "<|vision_reserved_special_token_1|>", "<|tile_x_separator|>", "<|tile_y_separator|>"},
         ranked);
  Append(Numbered("vision_reserved_special_token_", 2, 5), ranked);
  Append({"<|image|>", "<|vision_reserved_special_token_6|>", "<|patch|>"}, ranked);
  Append(Numbered("vision_reserved_special_token_", 7, 1047), ranked);
  Append(Numbered("reasoning_reserved_special_token_", 0, 7), ranked);
  Append({"<|reasoning_thinking_start|>", "<|reasoning_thinking_end|>"}, ranked);
  const auto named = static_cast<int>(ranked->special.size());
  Append(Numbered("reserved_special_token_", 0, 2048 - named - 1), ranked);  // 2048 in all
  ranked->bos = "<|begin_of_text|>";
}

void AddKimiK2(RankedTokens* ranked) {
  const std::pair<int64_t, const char*> named[] = {
      {163584, "[BOS]"},
      {163585, "[EOS]"},
      {163586, "<|im_end|>"},
      {163587, "<|im_user|>"},
      {163588, "<|im_assistant|>"},
      {163590, "<|start_header_id|>"},
      {163591, "<|end_header_id|>"},
      {163593, "[EOT]"},
      {163594, "<|im_system|>"},
      {163595, "<|tool_calls_section_begin|>"},
      {163596, "<|tool_calls_section_end|>"},
      {163597, "<|tool_call_begin|>"},
      {163598, "<|tool_call_argument_begin|>"},
      {163599, "<|tool_call_end|>"},
      {163601, "<|im_middle|>"},
      {163838, "[UNK]"},
      {163839, "[PAD]"},
  };
  const auto base = static_cast<int64_t>(ranked->tokens.size());
  for (int64_t id = base; id < base + 258; ++id) {
    ranked->special.push_back({fmt::format("<|reserved_token_{}|>", id), id});
  }
  for (const auto& [id, name] : named) ranked->special[id - base].text = name;
}

}  // namespace

absl::Status CompletePublished(RankedTokens* ranked) {
  switch (ranked->tokens.size()) {
    case 50256:
      ranked->expression = Gpt2Expressions()[0];
      Append({"<|endoftext|>"}, ranked);
      return absl::OkStatus();
    case 100256:
      ranked->expression = Cl100kExpressions()[0];
      ranked->special = {{"<|endoftext|>", 100257},
                         {"<|fim_prefix|>", 100258},
                         {"<|fim_middle|>", 100259},
                         {"<|fim_suffix|>", 100260},
                         {"<|endofprompt|>", 100276}};
      return absl::OkStatus();
    case 128000:
      ranked->expression = Cl100kExpressions()[0];
      AddLlama3(ranked);
      return absl::OkStatus();
    case 163584:
      ranked->expression = KimiK2Expressions()[0];
      AddKimiK2(ranked);
      return absl::OkStatus();
    case 199998:
      ranked->expression = O200kExpressions()[0];
      ranked->special = {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}};
      return absl::OkStatus();
    case 200000:
      ranked->expression = O200kExpressions()[0];
      AddLlama4(ranked);
      return absl::OkStatus();
    default:
      return Unimplemented(
          "{} ranks are no vocabulary that is known (GPT-2 50256, cl100k 100256, Llama 3 128000, Kimi K2 163584, o200k "
          "199998, Llama 4 200000), and the file says nothing else",
          ranked->tokens.size());
  }
}

std::vector<RankedSpecial> TekkenSpecials(int64_t count) {
  const Names named = {"<unk>",
                       "<s>",
                       "</s>",
                       "[INST]",
                       "[/INST]",
                       "[AVAILABLE_TOOLS]",
                       "[/AVAILABLE_TOOLS]",
                       "[TOOL_RESULTS]",
                       "[/TOOL_RESULTS]",
                       "[TOOL_CALLS]",
                       "[IMG]",
                       "<pad>",
                       "[IMG_BREAK]",
                       "[IMG_END]",
                       "[PREFIX]",
                       "[MIDDLE]",
                       "[SUFFIX]",
                       "[SYSTEM_PROMPT]",
                       "[/SYSTEM_PROMPT]",
                       "[TOOL_CONTENT]"};
  std::vector<RankedSpecial> specials;
  for (int64_t id = 0; id < count; ++id) {
    specials.push_back({id < static_cast<int64_t>(named.size()) ? named[id] : fmt::format("<SPECIAL_{}>", id), id});
  }
  return specials;
}

}  // namespace atl::coordinator
