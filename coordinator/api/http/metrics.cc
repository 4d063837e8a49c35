#include "coordinator/api/http/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

namespace atl::coordinator {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

class Page {
 public:
  explicit Page(std::string model) : model_(std::move(model)) {}
  void Gauge(const char* name, const char* help, double value) {
    ClientMetric metric = Labelled();
    metric.gauge.value = value;
    Add(name, help, MetricType::Gauge, metric);
  }
  void Counter(const char* name, const char* help, double value, std::vector<ClientMetric::Label> labels = {}) {
    ClientMetric metric = Labelled();
    metric.label.insert(metric.label.end(), labels.begin(), labels.end());
    metric.counter.value = value;
    Add(name, help, MetricType::Counter, metric);
  }
  std::string Text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  ClientMetric Labelled() const {
    ClientMetric metric;
    metric.label = {{"model_name", model_}};
    return metric;
  }
  void Add(const char* name, const char* help, MetricType type, const ClientMetric& metric) {
    if (families_.empty() || families_.back().name != name) families_.push_back({name, help, type, {}});
    families_.back().metric.push_back(metric);
  }
  std::string model_;
  std::vector<MetricFamily> families_;
};

}  // namespace

std::string MetricsText(const Service& service) {
  const EngineStats s = service.engine->stats();
  const double used =
      s.kv_blocks > 0 ? 1 - static_cast<double>(s.free_kv_blocks) / static_cast<double>(s.kv_blocks) : 0;
  Page page(service.name);
  page.Gauge("vllm:num_requests_running", "Requests whose tokens are being computed", s.running);
  page.Gauge("vllm:num_requests_waiting", "Requests in the queue", s.waiting);
  page.Gauge("vllm:kv_cache_usage_perc", "Share of the KV blocks in use, 0 to 1", used);
  page.Counter("vllm:prompt_tokens_total", "Prompt tokens of accepted requests", s.prompt_tokens);
  page.Counter("vllm:generation_tokens_total", "Tokens emitted", s.generated_tokens);
  page.Counter("vllm:num_preemptions_total", "Sequences that gave their KV blocks up", s.preemptions);
  page.Counter("vllm:request_success_total", "Finished requests", s.finished_stop, {{"finished_reason", "stop"}});
  page.Counter("vllm:request_success_total", "Finished requests", s.finished_length, {{"finished_reason", "length"}});
  page.Gauge("atoll_kv_blocks_free", "Free KV blocks of all attention groups", s.free_kv_blocks);
  page.Gauge("atoll_kv_blocks", "KV blocks of all attention groups", s.kv_blocks);
  page.Counter("atoll_preemptions_total", "Sequences that gave their KV blocks up", s.preemptions);
  page.Counter("atoll_requests_failed_total", "Requests that ended with an error", s.failed);
  page.Counter("atoll_requests_cancelled_total", "Requests whose client left", s.cancelled);
  page.Counter("atoll_restarts_total", "Epochs of ranks that were lost", s.restarts);
  page.Counter("atoll_replayed_total", "Sequences run again after a lost epoch", s.replayed);
  page.Gauge("atoll_epoch", "The ranks' epoch", static_cast<double>(s.epoch));
  page.Gauge("atoll_ready", "1 when the ranks are up", s.ready ? 1 : 0);
  page.Gauge("atoll_recovery_seconds", "From the last loss to the first result after it", s.last_recovery_seconds);
  page.Counter("atoll_steps_total", "Steps", s.steps);
  page.Counter("atoll_step_seconds_total", "Seconds in steps, on the leaders", s.step_seconds);
  return page.Text();
}

}  // namespace atl::coordinator
