#include "coordinator/tokenizer/formats/hf_file.h"

namespace atl::coordinator {
namespace {

using nlohmann::json;

class Reader : public nlohmann::json_sax<json> {
 public:
  static absl::StatusOr<HfFile> Read(const std::string& text) {
    Reader reader;
    if (!json::sax_parse(text, &reader)) return reader.status_;
    return std::move(reader.file_);
  }

  bool null() override { return Scalar(nullptr); }
  bool boolean(bool value) override { return Scalar(value); }
  bool number_integer(number_integer_t value) override { return in_ == kVocab ? Id(value) : Scalar(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (in_ != kVocab) return Scalar(value);
    return value <= INT64_MAX ? Id(static_cast<int64_t>(value)) : WrongId(std::to_string(value));
  }
  bool number_float(number_float_t value, const string_t& digits) override {
    return in_ == kVocab ? WrongId(digits) : Scalar(value);
  }
  bool string(string_t& value) override {
    if (in_ == kMerges) return StringMerge(value);
    if (in_ == kPair) return PairPart(value);
    return Scalar(value);
  }
  bool binary(binary_t&) override { return false; }  // JSON has none
  bool start_object(size_t) override {
    if (in_ != kTree) return WrongPart("an object");
    if (IsPartOfModel("vocab")) in_ = kVocab;
    return Open(json::object());
  }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override {
    if (in_ == kMerges) {
      in_ = kPair;
      pair_.clear();
      return true;
    }
    if (in_ != kTree) return WrongPart("an array");
    if (IsPartOfModel("merges")) in_ = kMerges;
    return Open(json::array());
  }
  bool end_array() override {
    if (in_ != kPair) return Close();
    in_ = kMerges;
    if (pair_.size() != 2) return WrongPart(fmt::format("an array of {}", pair_.size()));
    file_.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
    return true;
  }
  bool key(string_t& value) override {
    key_ = value;
    return true;
  }
  bool parse_error(size_t at, const std::string&, const nlohmann::detail::exception&) override {
    return Fail(InvalidArgument("it is not valid JSON at byte {}", at));
  }

 private:
  bool Fail(absl::Status error) {
    status_ = std::move(error);
    return false;
  }
  bool WrongId(const std::string& what) {
    return Fail(InvalidArgument("the id of \"{}\" is {}, not a whole number of a sensible size", key_, what));
  }
  bool WrongPart(const std::string& what) {
    if (in_ == kVocab) return WrongId(what);
    return Fail(InvalidArgument("merge {} is {}, neither \"a b\" nor [\"a\", \"b\"]", file_.merges.size(), what));
  }
  bool Id(int64_t id) {
    file_.vocab.emplace_back(key_, id);
    return true;
  }
  bool StringMerge(const std::string& value) {
    const size_t space = value.find(' ');
    if (space == std::string::npos || value.find(' ', space + 1) != std::string::npos) {
      return WrongPart("\"" + value + "\"");
    }
    file_.merges.emplace_back(value.substr(0, space), value.substr(space + 1));
    return true;
  }
  bool PairPart(std::string& value) {
    if (pair_.size() == 2) return WrongPart("an array of more than two");
    pair_.push_back(std::move(value));
    return true;
  }

  bool IsPartOfModel(const char* name) const {
    return open_.size() == 2 && open_[0].key.empty() && open_[1].key == "model" && key_ == name &&
           open_[1].node->is_object();
  }
  // Adds a node to the container that is open; the tree's nodes do not move while a deeper one is open.
  json* Add(json value) {
    if (open_.empty()) {
      file_.tree = std::move(value);
      return &file_.tree;
    }
    json& parent = *open_.back().node;
    if (!parent.is_array()) return &(parent[key_] = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }
  bool Scalar(json value) {
    if (in_ != kTree) return WrongPart(value.is_string() ? "a string" : value.dump());
    Add(std::move(value));
    return true;
  }
  bool Open(json container) {
    json* node = Add(std::move(container));
    open_.push_back({node, open_.empty() ? std::string() : key_});
    return true;
  }
  bool Close() {
    open_.pop_back();
    in_ = kTree;
    return true;
  }

  struct Container {
    json* node;
    std::string key;  // it is under
  };
  HfFile file_;
  absl::Status status_;
  enum { kTree, kVocab, kMerges, kPair } in_ = kTree;
  std::vector<Container> open_;
  std::string key_;
  std::vector<std::string> pair_;
};

}  // namespace

absl::StatusOr<HfFile> ReadHfFile(const std::string& text) { return Reader::Read(text); }

}  // namespace atl::coordinator
