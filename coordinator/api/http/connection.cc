#include "coordinator/api/http/connection.h"

#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>

#include "coordinator/api/http/metrics.h"
#include "parallel/base/log.h"

namespace atl::coordinator {
namespace {

namespace http = boost::beast::http;
using ErrorCode = ClientSocket::ErrorCode;

constexpr uint64_t kMaxBody = 16 << 20;
constexpr uint32_t kMaxHeader = 16 << 10;
constexpr Seconds kIdle{120};          // of a connection between two requests
constexpr Seconds kHeaderTime{30};     // from a request's first byte
constexpr Seconds kBodyTime{120};      // likewise
constexpr Seconds kLinger{2};          // after an error that leaves input unread
constexpr Seconds kPollSeconds{0.05};  // between looks at whether a waiting client is still there
constexpr int kPingEvery = 300;        // polls without a token: 15 s

double NowSeconds() { return Seconds(std::chrono::steady_clock::now().time_since_epoch()).count(); }

const char* Paths() { return "/v1/chat/completions, /v1/completions, /v1/models, /health and /metrics"; }

// "%2F" and its like in a path.
std::string Unescaped(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() &&
                        std::isxdigit(static_cast<unsigned char>(text[i + 1])) != 0 &&
                        std::isxdigit(static_cast<unsigned char>(text[i + 2])) != 0;
    plain += escape ? static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16)) : text[i];
    if (escape) i += 2;
  }
  return plain;
}

}  // namespace

Connection::Connection(boost::asio::ip::tcp::socket socket, const Service* service, const std::atomic<bool>* draining)
    : socket_(std::move(socket)), service_(service), draining_(draining), waiting_since_(NowSeconds()) {}

void Connection::Run() {
  bool keep = true;
  while (keep) {
    Parser parser;
    request_id_ = MakeId("req");
    more_headers_.clear();
    head_ = chunked_ = false;
    keep_alive_ = true;
    waiting_since_ = NowSeconds();
    if (!Read(&parser)) break;
    waiting_since_ = 0;
    keep = Handle(parser.release()) && keep_alive_;
  }
  Close();
}

bool Connection::Read(Parser* parser) {
  ErrorCode error;
  parser->body_limit(kMaxBody);
  parser->header_limit(kMaxHeader);
  if (buffer_.size() == 0) {
    socket_.ReadUntil(Deadline::After(kIdle));
    buffer_.commit(socket_.read_some(buffer_.prepare(16384), error));
    if (error) return false;  // it left, or has been silent for long
  }
  socket_.ReadUntil(Deadline::After(kHeaderTime));
  http::read_header(socket_, buffer_, *parser, error);
  if (!error) {
    socket_.ReadUntil(Deadline::After(kBodyTime));
    if (parser->get()[http::field::expect] == "100-continue" && !Write("HTTP/1.1 100 Continue\r\n\r\n")) return false;
    http::read(socket_, buffer_, *parser, error);
  }
  if (!error) return true;
  if (error == http::error::body_limit) {
    ReplyError(413, InvalidArgument("the body is over the limit of {} MiB", kMaxBody >> 20), false);
  } else if (error == http::error::header_limit) {
    ReplyError(431, InvalidArgument("the headers are over the limit of {} KiB", kMaxHeader >> 10), false);
  } else if (error == boost::asio::error::timed_out) {
    ReplyError(408,
               InvalidArgument("the request did not arrive within {:.0f} s",
                               (parser->is_header_done() ? kBodyTime : kHeaderTime).count()),
               false);
  } else if (error.category() == make_error_code(http::error::bad_method).category() &&
             error != http::error::end_of_stream && error != http::error::partial_message) {
    ReplyError(400, InvalidArgument("this is not an HTTP request: {}", error.message()), false);
  } else {
    return false;  // it left in the middle
  }
  socket_.Finish(Deadline::After(kLinger));
  return false;
}

bool Connection::Handle(const HttpRequest& request) {
  if (const auto id = request["x-request-id"]; !id.empty() && id.size() <= 128) request_id_ = std::string(id);
  keep_alive_ = request.keep_alive();
  chunked_ = request.version() >= 11;
  head_ = request.method() == http::verb::head;
  const bool get = head_ || request.method() == http::verb::get, post = request.method() == http::verb::post;
  const std::string target(request.target().substr(0, request.target().find('?')));
  const bool chat = target == "/v1/chat/completions";
  const std::string models = "/v1/models";
  const auto wrong_method = [&](const char* right) {
    more_headers_ += fmt::format("Allow: {}\r\n", right);
    return ReplyError(405, InvalidArgument("{} takes {}, not {}", target, right, std::string(request.method_string())));
  };
  if (chat || target == "/v1/completions") return post ? Generate(request.body(), chat) : wrong_method("POST");
  if (target == "/health") return get ? Health() : wrong_method("GET");
  if (target == models || target.starts_with(models + "/")) {
    return get ? Models(target == models ? "" : Unescaped(target.substr(models.size() + 1))) : wrong_method("GET");
  }
  if (target == "/metrics") {
    return get ? ReplyText(200, "text/plain; version=0.0.4", MetricsText(*service_), true) : wrong_method("GET");
  }
  return ReplyError(NotFound("{} does not exist; {} do", target.substr(0, 200), Paths()));
}

bool Connection::Health() {
  if (*draining_) return ReplyError(WithCode(Unavailable("draining: running requests finish"), "draining", ""));
  const EngineStats stats = service_->engine->stats();
  if (stats.ready) return Reply(200, {{"status", "ok"}});
  const ClusterStatus cluster = service_->cluster->status();
  if (stats.epoch == 0) {
    return ReplyError(WithCode(
        Unavailable("loading: {} of {} MiB of weights", cluster.load_bytes_done >> 20, cluster.load_bytes_total >> 20),
        "loading", ""));
  }
  return ReplyError(
      WithCode(Unavailable("the ranks are being started again: {}", cluster.last_loss), "restarting", ""));
}

bool Connection::Models(const std::string& id) {
  if (!id.empty() && id != service_->name) {
    return ReplyError(WithCode(NotFound("model \"{}\" is not served here; \"{}\" is", id, service_->name),
                               "model_not_found", "model"));
  }
  const v1::ModelInfoResponse info = service_->ModelInfo();
  const v1::ClusterShape& shape = info.cluster();
  const Json model = {{"id", info.name()},
                      {"object", "model"},
                      {"created", service_->started},
                      {"owned_by", "atoll"},
                      {"root", info.name()},
                      {"parent", nullptr},
                      {"max_model_len", info.max_positions()},
                      {"permission", Json::array()},
                      {"cluster",
                       {{"ranks", shape.ranks()},
                        {"tensor_parallel", shape.tensor_parallel()},
                        {"attention_groups", shape.attention_groups()},
                        {"experts", shape.experts()},
                        {"profile", shape.profile()},
                        {"epoch", shape.epoch()}}}};
  return Reply(200, id.empty() ? Json{{"object", "list"}, {"data", Json::array({model})}} : model);
}

bool Connection::Generate(const std::string& body, bool chat) {
  if (*draining_) {
    keep_alive_ = false;
    return ReplyError(WithCode(Unavailable("draining: no new requests are taken"), "draining", ""));
  }
  absl::StatusOr<OpenAiRequest> parsed = ParseOpenAiRequest(body, chat);
  if (!parsed.ok()) return ReplyError(parsed.status());
  parsed->generate.set_request_id(request_id_);
  absl::StatusOr<Request> request = service_->ToRequest(parsed->generate, parsed->template_arguments);
  if (!request.ok()) return ReplyError(request.status());
  if (!parsed->tools.empty()) request->shown_specials = ToolMarks(*service_);
  const auto answers = Answers::Submit(*service_, *request, parsed->choices);
  if (!answers.ok()) return ReplyError(answers.status());
  const models::JobShape& shape = service_->options.shape;
  const AnswerHead head{MakeId(chat ? "chatcmpl" : "cmpl"), service_->name,
                        fmt::format("atoll-{}-{}", shape.numerics.name, service_->cluster->status().kernel_target),
                        std::time(nullptr), chat};
  if (!parsed->ignored.empty()) {
    const std::string names = fmt::format("{}", fmt::join(parsed->ignored, ","));
    Log()->debug("request={} has fields that are not known here: {}", request_id_, names);
    more_headers_ += fmt::format("x-atoll-ignored: {}\r\n", names);
  }
  std::vector<Choice> choices;
  choices.reserve(parsed->choices);
  for (int i = 0; i < parsed->choices; ++i) choices.emplace_back(i, *parsed, *service_);
  return parsed->stream ? Stream(answers->get(), head, *parsed, choices) : Whole(answers->get(), head, choices);
}

// The next delta; nothing when the client has left.
std::optional<Answers::Next> Connection::Next(Answers* answers, bool ping) {
  for (int polls = 1;; ++polls) {
    if (socket_.PeerLeft()) return std::nullopt;
    if (auto next = answers->Pop(Deadline::After(kPollSeconds))) return next;
    if (ping && polls % kPingEvery == 0 && !WriteChunk(": ping\n\n")) return std::nullopt;
  }
}

bool Connection::Whole(Answers* answers, const AnswerHead& head, std::vector<Choice>& choices) {
  while (!answers->done()) {
    const std::optional<Answers::Next> next = Next(answers, false);
    if (!next) return false;
    if (!next->delta.status.ok()) return ReplyError(next->delta.status);
    choices[next->choice].Take(next->delta);
  }
  Json all = Json::array();
  for (const Choice& choice : choices) all.push_back(choice.Whole());
  return Reply(200, Completion(head, std::move(all), answers->usage()));
}

bool Connection::Stream(Answers* answers, const AnswerHead& head, const OpenAiRequest& asked,
                        std::vector<Choice>& choices) {
  keep_alive_ = keep_alive_ && chunked_;
  if (!Write(fmt::format("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                         "x-request-id: {}\r\nConnection: {}\r\n{}{}\r\n",
                         request_id_, keep_alive_ ? "keep-alive" : "close",
                         chunked_ ? "Transfer-Encoding: chunked\r\n" : "", more_headers_))) {
    return false;
  }
  const auto event = [](const Json& json) { return "data: " + Dump(json) + "\n\n"; };
  for (bool last = false; !last;) {
    const std::optional<Answers::Next> next = Next(answers, true);
    if (!next) return false;
    const Delta& delta = next->delta;
    std::string events;
    last = answers->done() || !delta.status.ok();
    if (delta.status.ok()) {
      std::optional<Json> in_chunk;
      if (asked.include_usage) in_chunk = asked.continuous_usage ? UsageJson(answers->usage()) : Json();
      for (Json& part : choices[next->choice].Take(delta)) {
        events += event(Chunk(head, Json::array({std::move(part)}), in_chunk));
      }
      if (last && asked.include_usage) events += event(Chunk(head, Json::array(), UsageJson(answers->usage())));
    } else {
      events = event(ErrorBody(HttpStatus(delta.status.code()), delta.status));
    }
    if (last) events += "data: [DONE]\n\n";
    if (!events.empty() && !WriteChunk(events)) return false;
  }
  return !chunked_ || Write("0\r\n\r\n");
}

bool Connection::Write(const std::string& text) {
  ErrorCode error;
  boost::asio::write(socket_, boost::asio::buffer(text), error);
  return !error;
}

bool Connection::WriteChunk(const std::string& text) {
  return Write(chunked_ ? fmt::format("{:x}\r\n{}\r\n", text.size(), text) : text);
}

bool Connection::ReplyError(int http_status, const absl::Status& status, bool keep) {
  return ReplyText(http_status, "application/json", Dump(ErrorBody(http_status, status)), keep);
}

bool Connection::ReplyText(int status, const char* type, const std::string& body, bool keep) {
  keep_alive_ = keep_alive_ && keep;
  if (status == 429 || status == 503) more_headers_ += "Retry-After: 1\r\n";
  return Write(
      fmt::format("HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nx-request-id: {}\r\n"
                  "Connection: {}\r\n{}\r\n{}",
                  status, std::string(http::obsolete_reason(static_cast<http::status>(status))), type, body.size(),
                  request_id_, keep_alive_ ? "keep-alive" : "close", more_headers_, head_ ? "" : body));
}

}  // namespace atl::coordinator
