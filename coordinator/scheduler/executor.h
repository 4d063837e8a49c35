// What the step loop talks to: real ranks (coordinator/cluster), or a simulation under a virtual clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "atoll/v1/step.pb.h"

namespace atl::coordinator {

// What an executor reports. The real one calls from its own threads; a listener that is not thread-safe wraps itself.
class ExecutorListener {
 public:
  virtual ~ExecutorListener() = default;
  virtual void OnReady(uint64_t epoch) = 0;          // ranks are loaded; plans of this epoch may be sent
  virtual void OnResult(v1::StepResult result) = 0;  // one for each group and step, in step order
  virtual void OnLost(uint64_t epoch, const std::string& reason) = 0;  // nothing more of this epoch will come
};

class Executor {
 public:
  virtual ~Executor() = default;
  // plans[g] is group g's part of one step; all have one step number. Returns at once; plans of a lost epoch vanish.
  virtual void Execute(std::vector<v1::StepPlan> plans) = 0;
};

}  // namespace atl::coordinator
