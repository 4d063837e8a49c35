// One client's connection: requests read, answered and streamed, one after the other, until the client leaves.
//
//   Connection connection(std::move(socket), &service, &draining);
//   connection.Run();                    // in a thread of its own
//   connection.Close();                  // from any thread: Run returns soon
//
// Every error is OpenAI's {"error": {...}} with the status of coordinator/api/errors.h; what is no HTTP request at all
// gets one too, and ends the connection.
#pragma once

#include <atomic>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <ctime>
#include <optional>
#include <string>

#include "coordinator/api/http/answers.h"
#include "coordinator/api/http/choice.h"
#include "coordinator/api/http/client_socket.h"
#include "coordinator/api/http/openai.h"
#include "coordinator/api/service.h"

namespace atl::coordinator {

class Connection {
 public:
  Connection(boost::asio::ip::tcp::socket socket, const Service* service, const std::atomic<bool>* draining);

  void Run();
  void Close() { socket_.Close(); }
  // Seconds of the steady clock since when it waits for (the rest of) a request; 0 while it answers one.
  double waiting_since() const { return waiting_since_; }

 private:
  using HttpRequest = boost::beast::http::request<boost::beast::http::string_body>;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  bool Read(Parser* parser);  // false: nothing more can be read, the client has been told why
  // All of these: false when the connection must end.
  bool Handle(const HttpRequest& request);
  bool Health();
  bool Models(const std::string& id);
  bool Generate(const std::string& body, bool chat);
  bool Whole(Answers* answers, const AnswerHead& head, std::vector<Choice>& choices);
  bool Stream(Answers* answers, const AnswerHead& head, const OpenAiRequest& asked, std::vector<Choice>& choices);
  std::optional<Answers::Next> Next(Answers* answers, bool ping);

  bool ReplyError(const absl::Status& status) { return ReplyError(HttpStatus(status.code()), status); }
  bool ReplyError(int http_status, const absl::Status& status, bool keep = true);
  bool Reply(int status, const Json& body) { return ReplyText(status, "application/json", Dump(body), true); }
  bool ReplyText(int status, const char* type, const std::string& body, bool keep);
  bool Write(const std::string& text);
  bool WriteChunk(const std::string& text);

  ClientSocket socket_;
  const Service* const service_;
  const std::atomic<bool>* const draining_;
  std::atomic<double> waiting_since_;
  boost::beast::flat_buffer buffer_;

  // Of the request under way.
  std::string request_id_;
  std::string more_headers_;  // "name: value\r\n" lines of its answer
  bool head_ = false;         // HEAD: everything but the body
  bool keep_alive_ = false;
  bool chunked_ = false;  // HTTP/1.1: a stream's end can be told from a lost connection
};

}  // namespace atl::coordinator
