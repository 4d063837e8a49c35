// A client's socket whose reads and writes end at a deadline; Boost's synchronous calls alone would wait for ever.
//
//   ClientSocket socket(std::move(accepted));
//   socket.ReadUntil(Deadline::After(Seconds(30)));               // holds for all reads from here on
//   boost::beast::http::read(socket, buffer, parser, error);      // error: timed_out when it has passed
//   boost::asio::write(socket, boost::asio::buffer(text), error); // timed_out: the client takes nothing any more
//   socket.Close();                                               // from any thread: ends what waits
//
// Whoever is not Close is one thread. Errors come as Boost's error codes; the calls without one throw, as Boost's
// streams do, and are only there because its algorithms ask for them.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "parallel/base/deadline.h"

namespace atl::coordinator {

class ClientSocket {
 public:
  using ErrorCode = boost::system::error_code;

  explicit ClientSocket(boost::asio::ip::tcp::socket socket) : socket_(std::move(socket)) {
    ErrorCode error;
    socket_.non_blocking(true, error);
    socket_.set_option(boost::asio::ip::tcp::no_delay(true), error);
    socket_.set_option(boost::asio::socket_base::send_buffer_size(kSendBuffer), error);
  }

  void ReadUntil(Deadline deadline) { read_deadline_ = deadline; }

  template <typename Buffers>
  size_t read_some(const Buffers& buffers, ErrorCode& error) {
    do {
      const size_t got = socket_.read_some(buffers, error);
      if (error != boost::asio::error::would_block) return got;
    } while (WaitFor(POLLIN, read_deadline_));
    error = boost::asio::error::timed_out;
    return 0;
  }
  template <typename Buffers>
  size_t write_some(const Buffers& buffers, ErrorCode& error) {
    const Deadline deadline = Deadline::After(kStall);
    do {
      const size_t sent = socket_.write_some(buffers, error);
      if (error != boost::asio::error::would_block) return sent;
    } while (WaitFor(POLLOUT, deadline));
    error = boost::asio::error::timed_out;
    return 0;
  }
  template <typename Buffers>
  size_t read_some(const Buffers& buffers) {
    ErrorCode error;
    const size_t got = read_some(buffers, error);
    return error ? throw boost::system::system_error(error) : got;
  }
  template <typename Buffers>
  size_t write_some(const Buffers& buffers) {
    ErrorCode error;
    const size_t sent = write_some(buffers, error);
    return error ? throw boost::system::system_error(error) : sent;
  }

  // Whether the client has closed its side, or all of the connection.
  bool PeerLeft() {
    pollfd entry{socket_.native_handle(), POLLRDHUP, 0};
    return poll(&entry, 1, 0) > 0;
  }
  // Says that nothing more will be sent, and reads what the client still sends: closing over unread bytes would take
  // the last answer back before the client has read it.
  void Finish(Deadline deadline);
  void Close() { ::shutdown(socket_.native_handle(), SHUT_RDWR); }

 private:
  // The kernel would let a client that does not read fall megabytes behind; its request can just as well wait.
  static constexpr int kSendBuffer = 64 << 10;
  static constexpr Seconds kStall{120};  // a client that reads nothing for so long is gone

  bool WaitFor(short events, Deadline deadline);

  boost::asio::ip::tcp::socket socket_;
  Deadline read_deadline_ = Deadline::After(Seconds(0));
};

}  // namespace atl::coordinator
