#include "coordinator/api/http/client_socket.h"

#include <algorithm>
#include <array>

namespace atl::coordinator {

bool ClientSocket::WaitFor(short events, Deadline deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline.at - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd entry{socket_.native_handle(), events, 0};
    if (poll(&entry, 1, static_cast<int>(std::min<int64_t>(left.count(), 60'000))) > 0) return true;
  }
}

void ClientSocket::Finish(Deadline deadline) {
  ErrorCode error;
  socket_.shutdown(boost::asio::ip::tcp::socket::shutdown_send, error);
  ReadUntil(deadline);
  std::array<char, 16384> ignored;
  while (!error) read_some(boost::asio::buffer(ignored), error);
}

}  // namespace atl::coordinator
