#include "coordinator/api/grpc_inference.h"

#include <mutex>

#include "atoll/v1/inference.grpc.pb.h"

namespace atl::coordinator {
namespace {

// One Generate call. A write is under way or the stream is asked for more, never both; OnDone deletes.
class GenerateCall : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  GenerateCall(std::shared_ptr<TokenStream> stream, std::shared_ptr<std::atomic<int>> calls)
      : calls_(std::move(calls)), stream_(std::move(stream)) {
    ++*calls_;
    gate_->call = this;
    // The engine may be calling while the call ends: what it calls outlives the call.
    stream_->OnReadable([gate = gate_] {
      std::lock_guard lock(gate->mutex);
      if (gate->call != nullptr) gate->call->Pump();
    });
  }
  explicit GenerateCall(const absl::Status& status) { Finish(ToGrpc(status)); }

  void OnWriteDone(bool /*ok*/) override {
    {
      std::lock_guard lock(mutex_);
      writing_ = false;
    }
    Pump();
  }
  void OnCancel() override {
    if (!stream_) return;
    stream_->Close();
    std::unique_lock lock(mutex_);
    if (finished_) return;
    finished_ = true;
    lock.unlock();
    Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the client left"));
  }
  void OnDone() override {
    {
      std::lock_guard lock(gate_->mutex);
      gate_->call = nullptr;
    }
    if (calls_) --*calls_;
    delete this;
  }

 private:
  void Pump() {
    std::unique_lock lock(mutex_);
    if (writing_ || finished_) return;
    std::optional<Delta> delta = stream_->TryPop();
    if (!delta) return;
    if (!delta->status.ok()) {
      finished_ = true;
      lock.unlock();
      return Finish(ToGrpc(delta->status));
    }
    response_.Clear();
    response_.set_text(delta->text);
    response_.mutable_token_ids()->Add(delta->tokens.begin(), delta->tokens.end());
    response_.mutable_logprobs()->Add(delta->logprobs.begin(), delta->logprobs.end());
    for (const v1::TopTokens& top : delta->top) {
      v1::TopLogprobs* added = response_.add_top_logprobs();
      *added->mutable_token_ids() = top.tokens();
      *added->mutable_logprobs() = top.logprobs();
    }
    if (delta->finish) {
      response_.set_finish_reason(Name(*delta->finish));
      response_.mutable_usage()->set_prompt_tokens(static_cast<int32_t>(delta->usage.prompt_tokens));
      response_.mutable_usage()->set_completion_tokens(static_cast<int32_t>(delta->usage.completion_tokens));
      finished_ = true;
      lock.unlock();
      return StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
    }
    writing_ = true;
    lock.unlock();
    StartWrite(&response_);
  }

  struct Gate {
    std::mutex mutex;
    GenerateCall* call;  // null once the call is done
  };
  const std::shared_ptr<std::atomic<int>> calls_;  // null where the call was refused
  const std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  const std::shared_ptr<TokenStream> stream_;
  std::mutex mutex_;
  bool writing_ = false, finished_ = false;
  v1::GenerateResponse response_;
};

class InferenceService : public v1::Inference::CallbackService {
 public:
  InferenceService(const coordinator::Service* service, std::shared_ptr<std::atomic<int>> calls)
      : service_(service), calls_(std::move(calls)) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext*,
                                                           const v1::GenerateRequest* message) override {
    absl::StatusOr<Request> request = service_->ToRequest(*message);
    if (!request.ok()) return new GenerateCall(request.status());
    auto stream = service_->Submit(*std::move(request));
    return stream.ok() ? new GenerateCall(*std::move(stream), calls_) : new GenerateCall(stream.status());
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* message,
                                     v1::TokenizeResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    absl::StatusOr<std::string> text = message->text();
    if (message->has_text() == (message->messages_size() > 0)) {
      text = InvalidArgument("give either text or messages");
    } else if (!message->has_text()) {
      v1::GenerateRequest conversation;
      *conversation.mutable_messages() = message->messages();
      text = service_->Render(conversation, "");
    }
    if (text.ok()) {
      const std::vector<int32_t> ids = service_->tokenizer->Encode(*text, {});
      response->mutable_ids()->Add(ids.begin(), ids.end());
      response->set_text(*text);
    }
    reactor->Finish(ToGrpc(text.status()));
    return reactor;
  }

  grpc::ServerUnaryReactor* ModelInfo(grpc::CallbackServerContext* context, const v1::ModelInfoRequest*,
                                      v1::ModelInfoResponse* response) override {
    *response = service_->ModelInfo();
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  const coordinator::Service* const service_;
  const std::shared_ptr<std::atomic<int>> calls_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeInference(const Service* service, std::shared_ptr<std::atomic<int>> calls) {
  return std::make_unique<InferenceService>(service, std::move(calls));
}

}  // namespace atl::coordinator
