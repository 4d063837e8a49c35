// Logging through spdlog. Lines carry the rank, the request and the step as key=value where they are known.
//   atl::Log()->info("loaded rank={} bytes={}", rank, bytes);
#pragma once

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace atl {

// One logger a process, on stderr: stdout belongs to the program's answer.
inline spdlog::logger* Log() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = spdlog::stderr_color_mt("atoll");
    made->set_pattern("%H:%M:%S.%e %^%L%$ %v");
    return made;
  }();
  return logger.get();
}

}  // namespace atl
