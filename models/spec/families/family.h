// A family of models: how its config.json becomes a ModelSpec, and which tensors its checkpoints hold.
//
// To add one: a file in this folder with its two functions, declared here, and its line in table.cc.
#pragma once

#include "models/spec/config_reader.h"
#include "models/spec/model_spec.h"
#include "models/spec/tensor_list.h"

namespace atl::models {

struct Family {
  const char* model_type;    // config.json's
  const char* title;         // for people
  const char* architecture;  // the file under models/arch/ that runs it
  // Fills everything but model_type, architecture and stop ids; what it cannot run stays as an error in the reader.
  void (*read)(ConfigReader* config, ModelSpec* spec);
  void (*list)(TensorList* list);
};

const Family* FindFamily(const std::string& model_type);  // null: not known
const Family& FamilyOf(const ModelSpec& spec);
std::string KnownFamilies();  // "deepseek_v3 (DeepSeek-V3, R1, Moonlight), ..."

// What the files of this folder define.
void ReadDeepseekV3(ConfigReader* config, ModelSpec* spec);
void ReadDeepseekV2(ConfigReader* config, ModelSpec* spec);
void ListDeepseek(TensorList* list);
void ReadGemma3(ConfigReader* config, ModelSpec* spec);
void ListGemma3(TensorList* list);
void ReadGemma3n(ConfigReader* config, ModelSpec* spec);
void ListGemma3n(TensorList* list);
void ReadGpt2(ConfigReader* config, ModelSpec* spec);
void ListGpt2(TensorList* list);
void ReadLlama(ConfigReader* config, ModelSpec* spec);
void ListLlama(TensorList* list);
void ReadLlama4(ConfigReader* config, ModelSpec* spec);
void ListLlama4(TensorList* list);
void ReadMistral(ConfigReader* config, ModelSpec* spec);
void ReadOlmo2(ConfigReader* config, ModelSpec* spec);
void ListOlmo2(TensorList* list);
void ReadQwen3(ConfigReader* config, ModelSpec* spec);
void ReadQwen3Moe(ConfigReader* config, ModelSpec* spec);
void ListQwen3Moe(TensorList* list);
void ReadSmolLm3(ConfigReader* config, ModelSpec* spec);

}  // namespace atl::models
