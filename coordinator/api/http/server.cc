#include "coordinator/api/http/server.h"

#include <poll.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <list>
#include <mutex>
#include <thread>

#include "coordinator/api/http/connection.h"

namespace atl::coordinator {
namespace {

using tcp = boost::asio::ip::tcp;

constexpr size_t kMaxConnections = 1024;
constexpr std::chrono::milliseconds kBreath{10};  // between looks, where nothing tells us that something has changed

class Server : public HttpServer {
 public:
  Server(const Service* service, boost::asio::io_context* io) : service_(service), acceptor_(*io) {}
  ~Server() override { Stop(); }

  absl::Status Listen(const std::string& host, int port) {
    boost::system::error_code error;
    const auto address = boost::asio::ip::make_address(host, error);
    if (error) return InvalidArgument("--host {} is not an address; 127.0.0.1 or 0.0.0.0 are", host);
    if (port < 0 || port > UINT16_MAX) return InvalidArgument("--port {} is not a port; 0 to {} are", port, UINT16_MAX);
    const tcp::endpoint endpoint(address, static_cast<uint16_t>(port));
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(boost::asio::socket_base::max_listen_connections, error);
    if (error) {
      return Unavailable("HTTP cannot listen on {}:{}: {}; --port chooses another", host, port, error.message());
    }
    acceptor_.non_blocking(true, error);
    thread_ = std::thread([this] { Accept(); });
    return absl::OkStatus();
  }

  int port() const override {
    boost::system::error_code error;
    return acceptor_.local_endpoint(error).port();
  }
  void StartDraining() override { draining_ = true; }
  bool AwaitAnswered(Deadline deadline) override {
    while (Answering()) {
      if (deadline.Expired()) return false;
      std::this_thread::sleep_for(kBreath);
    }
    return true;
  }
  void Stop() override {
    draining_ = stop_ = true;
    if (thread_.joinable()) thread_.join();
    std::list<Open> left;
    {
      std::lock_guard lock(mutex_);
      left.swap(open_);
    }
    for (Open& open : left) open.connection.Close();
    for (Open& open : left) open.thread.join();
  }

 private:
  struct Open {
    Open(tcp::socket socket, const Service* service, const std::atomic<bool>* draining)
        : connection(std::move(socket), service, draining) {}
    Connection connection;
    std::thread thread;
    std::atomic<bool> done{false};
  };

  void Accept() {
    while (!stop_) {
      Reap();
      if (open_.size() >= kMaxConnections) CloseOneThatWaits();
      pollfd entry{acceptor_.native_handle(), POLLIN, 0};
      if (open_.size() >= kMaxConnections || poll(&entry, 1, 100) <= 0) {
        if (open_.size() >= kMaxConnections) std::this_thread::sleep_for(kBreath);
        continue;
      }
      boost::system::error_code error;
      tcp::socket socket = acceptor_.accept(error);
      if (error) {  // most likely this process may open no more files
        CloseOneThatWaits();
        std::this_thread::sleep_for(kBreath);
        continue;
      }
      std::lock_guard lock(mutex_);
      Open& open = open_.emplace_back(std::move(socket), service_, &draining_);
      open.thread = std::thread([&open] {
        open.connection.Run();
        open.done = true;
      });
    }
  }
  void Reap() {
    std::lock_guard lock(mutex_);
    for (auto it = open_.begin(); it != open_.end();) {
      if (!it->done) {
        ++it;
        continue;
      }
      it->thread.join();
      it = open_.erase(it);
    }
  }
  // The connection that has been waiting longest for its client to ask something gives its place up.
  void CloseOneThatWaits() {
    Open* longest = nullptr;
    for (Open& open : open_) {
      const double since = open.connection.waiting_since();
      if (open.done || since == 0) continue;
      if (longest == nullptr || since < longest->connection.waiting_since()) longest = &open;
    }
    if (longest != nullptr) longest->connection.Close();
  }
  bool Answering() {
    std::lock_guard lock(mutex_);
    return std::ranges::any_of(open_,
                               [](const Open& open) { return !open.done && open.connection.waiting_since() == 0; });
  }

  const Service* const service_;
  tcp::acceptor acceptor_;
  std::thread thread_;
  std::mutex mutex_;      // guards the list's shape against other threads than thread_
  std::list<Open> open_;  // changed by thread_ only, until it has ended
  std::atomic<bool> draining_{false}, stop_{false};
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const Service* service, const std::string& host,
                                                              int port) {
  static boost::asio::io_context io;  // sockets need one; all calls here are synchronous
  auto server = std::make_unique<Server>(service, &io);
  ATOLL_RETURN_IF_ERROR(server->Listen(host, port));
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace atl::coordinator
