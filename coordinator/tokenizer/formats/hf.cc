#include "coordinator/tokenizer/formats/hf.h"

#include <array>

#include "coordinator/tokenizer/byte_level.h"
#include "coordinator/tokenizer/formats/hf_file.h"
#include "coordinator/tokenizer/formats/hf_steps.h"
#include "coordinator/tokenizer/formats/whole_number.h"
#include "coordinator/tokenizer/pipeline.h"

namespace atl::coordinator {
namespace {

using nlohmann::json;

class HfReader {
 public:
  HfReader(HfFile file, const json& config) : file_(std::move(file)), config_(config) {}

  absl::StatusOr<std::unique_ptr<Tokenizer>> Read() {
    const json& tree = file_.tree;
    if (!tree.is_object() || IsNull(tree, "model")) return InvalidArgument("it has no model");
    bool may_delete = false;
    ATOLL_RETURN_IF_ERROR(ReadNormalizer(tree.value("normalizer", json()), &parts_.normalizer, &may_delete));
    ATOLL_ASSIGN_OR_RETURN(PreTokenizerSteps steps, ReadPreTokenizer(tree.value("pre_tokenizer", json()), may_delete));
    parts_.pre_tokenizer = std::move(steps.steps);
    parts_.byte_level = steps.byte_level;
    ATOLL_ASSIGN_OR_RETURN(parts_.decode, ReadDecoder(tree.value("decoder", json())));
    ATOLL_RETURN_IF_ERROR(ReadModel(tree.at("model")));
    ATOLL_RETURN_IF_ERROR(ReadMerges());
    if (!IsNull(tree, "added_tokens")) ATOLL_RETURN_IF_ERROR(ReadAddedTokens(tree.at("added_tokens")));
    ATOLL_RETURN_IF_ERROR(ReadPostProcessor(tree.value("post_processor", json())));
    ATOLL_ASSIGN_OR_RETURN(Bpe bpe, Bpe::Make(std::move(bpe_)));
    return MakePipeline(std::move(parts_), std::move(bpe));
  }

 private:
  // The bytes of a token of the model; nothing when it is spelled outside of the byte-level alphabet.
  std::optional<std::string> Spelled(const std::string& token) const {
    return parts_.byte_level ? ByteLevelDecode(token) : token;
  }
  int32_t Find(const std::string& token) const {
    if (!parts_.byte_level) return bpe_.vocabulary.Find(token);
    if (const auto odd = parts_.odd_tokens.find(token); odd != parts_.odd_tokens.end()) return odd->second;
    const std::optional<std::string> bytes = Spelled(token);
    return bytes ? bpe_.vocabulary.Find(*bytes) : -1;
  }
  absl::Status CheckFree(int64_t id, const std::string& token) {
    if (id < 0 || id > Vocabulary::kMaxId) {
      return InvalidArgument("the id of \"{}\" is {}; ids go from 0 to {}", token, id, Vocabulary::kMaxId);
    }
    if (id >= static_cast<int64_t>(taken_.size())) taken_.resize(id + 1);
    if (taken_[id]) return InvalidArgument("id {} stands for two tokens, \"{}\" is one", id, token);
    taken_[id] = true;
    return absl::OkStatus();
  }
  // What the decoder makes of a token starts from here.
  void SetText(int32_t id, const std::string& token, bool special) {
    parts_.tokens.Set(id, parts_.decode.joined ? ByteLevelDecode(token).value_or(token) : token, special);
    if (!parts_.decode.byte_fallback || token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return;
    const std::string digits = token.substr(3, 2);
    if (digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) return;
    parts_.tokens.SetByte(id, static_cast<uint8_t>(std::stoi(digits, nullptr, 16)));
  }

  absl::Status ReadModel(const json& model) {
    // Files of before there were types have none.
    const std::string type = model.is_object() && !model.contains("type") ? "BPE" : TypeOf(model);
    if (type != "BPE") return Unimplemented("model type \"{}\" is not supported; BPE is", type);
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      // NOLINTNEXTLINE(readability-container-size-empty): a JSON text of no characters is not empty()
      if (!IsNull(model, key) && model.at(key) != "") return Unimplemented("a model with {} is not supported", key);
    }
    if (!IsNull(model, "dropout") && model.at("dropout") != 0) {
      return Unimplemented("a model with dropout is not supported");
    }
    if (!model.contains("vocab") || !model.at("vocab").is_object()) {
      return InvalidArgument("the model has no vocab object");
    }
    if (!model.contains("merges") || !model.at("merges").is_array()) {
      return InvalidArgument("the model has no merges array");
    }
    bpe_.units = parts_.byte_level ? BpeUnits::kBytes : BpeUnits::kCharacters;
    bpe_.ignore_merges = model.value("ignore_merges", false);
    bpe_.fuse_unknown = model.value("fuse_unk", false);
    for (const auto& [token, id] : file_.vocab) {
      ATOLL_RETURN_IF_ERROR(CheckFree(id, token));
      if (const std::optional<std::string> bytes = Spelled(token)) {
        ATOLL_RETURN_IF_ERROR(bpe_.vocabulary.Add(id, *bytes));
      } else {
        parts_.odd_tokens.emplace(token, static_cast<int32_t>(id));
      }
      SetText(static_cast<int32_t>(id), token, /*special=*/false);
    }
    return ReadUnknown(model);
  }

  absl::Status ReadUnknown(const json& model) {
    bool every_byte = true;  // is a token itself: nothing is unknown then
    for (int byte = 0; byte < 256; ++byte) {
      every_byte = every_byte && bpe_.vocabulary.Find(std::string(1, static_cast<char>(byte))) >= 0;
    }
    if (parts_.byte_level && every_byte) return absl::OkStatus();
    if (model.value("byte_fallback", false)) {
      if (parts_.byte_level) {
        return Unimplemented("byte_fallback is not supported with ByteLevel and a vocabulary without every byte");
      }
      for (int byte = 0; byte < 256; ++byte) {
        bpe_.byte_tokens[byte] = bpe_.vocabulary.Find(fmt::format("<0x{:02X}>", byte));
      }
    }
    if (IsNull(model, "unk_token")) return absl::OkStatus();
    const auto unknown = model.at("unk_token").get<std::string>();
    bpe_.unknown = Find(unknown);
    if (bpe_.unknown < 0) return InvalidArgument("the unk_token \"{}\" is not in the vocabulary", unknown);
    bpe_.vocabulary.ExtendTo(bpe_.unknown + 1);  // it may be spelled outside of the byte-level alphabet
    return absl::OkStatus();
  }

  absl::Status ReadMerges() {
    int32_t rank = 0;
    for (const auto& [left, right] : file_.merges) {
      const int32_t a = Find(left), b = Find(right), merged = Find(left + right);
      if (a < 0 || b < 0 || merged < 0) {
        return InvalidArgument(
            "merge {} joins \"{}\" and \"{}\", of which one, or their union, is not in the vocabulary", rank, left,
            right);
      }
      // A token outside of the byte-level alphabet is never met. The last one of a pair counts, as in Hugging Face's.
      if (bpe_.vocabulary.Has(a) && bpe_.vocabulary.Has(b)) bpe_.merges.Put(a, b, {rank, merged});
      ++rank;
    }
    file_.merges.clear();
    return absl::OkStatus();
  }

  absl::Status ReadAddedTokens(const json& tokens) {
    if (!tokens.is_array()) return InvalidArgument("added_tokens is not an array");
    for (const json& token : tokens) {
      const auto content = token.at("content").get<std::string>();
      if (content.empty()) return InvalidArgument("an added token has no content");
      ATOLL_ASSIGN_OR_RETURN(const int64_t wanted,
                             WholeNumber(token.at("id"), fmt::format("the id of \"{}\"", content)));
      // Vocabularies may list their added tokens too, under the same id.
      const int32_t known = Find(content);
      if (known < 0) ATOLL_RETURN_IF_ERROR(CheckFree(wanted, content));
      if (known >= 0 && known != wanted) {
        return InvalidArgument("\"{}\" has two ids, {} in the vocabulary and {} as an added token", content, known,
                               wanted);
      }
      AddedToken added;
      added.text = content;
      added.id = static_cast<int32_t>(wanted);
      added.lstrip = token.value("lstrip", false);
      added.rstrip = token.value("rstrip", false);
      added.single_word = token.value("single_word", false);
      const bool special = token.value("special", false), normalized = token.value("normalized", !special);
      std::string buffer;
      if (normalized) added.text = std::string(parts_.normalizer.Apply(content, &buffer));
      SetText(added.id, added.text, special);
      ATOLL_RETURN_IF_ERROR((normalized ? parts_.added_normalized : parts_.added).Add(added));
    }
    return absl::OkStatus();
  }

  // What belongs around a text: a TemplateProcessing's special tokens. Classes that make that template themselves from
  // add_bos_token and add_eos_token overrule the file.
  absl::Status ReadPostProcessor(const json& processor) {
    const std::string tokenizer_class = config_.value("tokenizer_class", "");
    const bool overrules = tokenizer_class.starts_with("Llama") || tokenizer_class.starts_with("CodeLlama") ||
                           tokenizer_class.starts_with("Gemma");
    bool has_template = false;
    ATOLL_RETURN_IF_ERROR(ReadProcessor(processor, &has_template));
    if (has_template && !overrules) return absl::OkStatus();
    parts_.before.clear();
    parts_.after.clear();
    ATOLL_RETURN_IF_ERROR(AddFromConfig("add_bos_token", "bos_token", overrules, &parts_.before));
    return AddFromConfig("add_eos_token", "eos_token", false, &parts_.after);
  }

  absl::Status AddFromConfig(const char* flag, const char* key, bool otherwise, std::vector<int32_t>* side) {
    const bool add = IsNull(config_, flag) ? otherwise : config_.at(flag).get<bool>();
    if (!add || IsNull(config_, key)) return absl::OkStatus();
    const json& token = config_.at(key);
    const auto text = token.is_string() ? token.get<std::string>() : token.at("content").get<std::string>();
    for (const AddedTokens* added : {&parts_.added, &parts_.added_normalized}) {
      if (const int32_t id = added->Find(text); id >= 0) side->push_back(id);
    }
    if (side->empty()) return InvalidArgument("\"{}\", the {}, is no added token", text, key);
    return absl::OkStatus();
  }

  absl::Status ReadProcessor(const json& processor, bool* has_template) {
    const std::string type = TypeOf(processor);
    if (type == "null" || type == "ByteLevel") return absl::OkStatus();  // the latter moves offsets, not ids
    if (type == "Sequence") {
      for (const json& step : processor.at("processors")) ATOLL_RETURN_IF_ERROR(ReadProcessor(step, has_template));
      return absl::OkStatus();
    }
    if (type != "TemplateProcessing") {
      return Unimplemented("post-processor \"{}\" is not supported; TemplateProcessing, ByteLevel and Sequence are",
                           type);
    }
    std::vector<int32_t> before, after;
    bool seen = false;  // the text itself
    for (const json& item : processor.at("single")) {
      if (item.contains("Sequence")) {
        if (seen) return Unimplemented("a template with its text twice is not supported");
        seen = true;
        continue;
      }
      const auto name = item.at("SpecialToken").at("id").get<std::string>();
      for (const json& id : processor.at("special_tokens").at(name).at("ids")) {
        ATOLL_ASSIGN_OR_RETURN(const int64_t value, WholeNumber(id, fmt::format("the id of \"{}\"", name)));
        if (value >= static_cast<int64_t>(taken_.size()) || !taken_[value]) {
          return InvalidArgument("\"{}\", which belongs around a text, has id {}, which is no token", name, value);
        }
        (seen ? after : before).push_back(static_cast<int32_t>(value));
      }
    }
    if (!seen) return InvalidArgument("a template without its text");
    // A second template is put around the first.
    parts_.before.insert(parts_.before.begin(), before.begin(), before.end());
    parts_.after.insert(parts_.after.end(), after.begin(), after.end());
    *has_template = true;
    return absl::OkStatus();
  }

  HfFile file_;
  const json& config_;
  PipelineParts parts_;
  BpeParts bpe_;
  std::vector<bool> taken_;  // ids
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseHfTokenizer(const std::string& text, const json& config) {
  ATOLL_ASSIGN_OR_RETURN(HfFile file, ReadHfFile(text));
  return HfReader(std::move(file), config).Read();
}

}  // namespace atl::coordinator
