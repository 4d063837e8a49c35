#include "coordinator/cli/chat.h"

#include <cstdio>

#include "coordinator/cli/conversation.h"
#include "coordinator/cli/line_input.h"
#include "coordinator/cli/served_model.h"
#include "coordinator/cli/signals.h"
#include "parallel/base/log.h"

namespace atl::coordinator {
namespace {

constexpr char kHelp[] =
    "A line is a message; a backslash at its end continues it on the next line.\n"
    "  /clear   forget the conversation and begin a new one\n"
    "  /help    this text\n"
    "  /exit    leave (also Ctrl-D, or Ctrl-C twice at an empty prompt)\n"
    "Ctrl-C stops an answer. A message that begins with a slash is sent with two: //like this\n";

// What a terminal may be given: no control characters but those of text, whatever a model says.
std::string Harmless(const std::string& text) {
  std::string harmless;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool c1 = c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F || c1) {
      harmless += "\uFFFD";
      if (c1) ++i;
    } else {
      harmless += text[i];
    }
  }
  return harmless;
}

class Session {
 public:
  Session(ServedModel* model, Signals* signals, ConversationOptions options)
      : signals_(signals), input_(signals), conversation_(&model->service(), std::move(options)) {}

  absl::Status Run(const std::string& banner);

 private:
  // The next message, continued lines joined; false at the end.
  bool NextMessage(std::string* message);
  bool IsCommand(std::string* line);  // also done, if it is one
  void Answer(const std::string& message);
  void Show(const std::string& text);
  bool Interrupted();
  // A line for the person, not part of any answer. Scripts get those that say why an answer is missing or cut.
  static void Note(const std::string& text) { fmt::print(stderr, "[{}]\n", text); }

  Signals* const signals_;
  LineInput input_;
  Conversation conversation_;
  const bool to_terminal_ = isatty(STDOUT_FILENO) != 0;
  bool leaving_ = false;
  bool line_open_ = false;  // the last character shown was no newline
  int failed_ = 0, asked_ = 0;
  absl::Status fatal_;
};

absl::Status Session::Run(const std::string& banner) {
  if (input_.interactive()) fmt::print(stderr, "{}\n", banner);
  for (std::string message; !leaving_ && NextMessage(&message);) {
    if (message.find_first_not_of(" \t") != std::string::npos && !IsCommand(&message)) Answer(message);
  }
  ATOLL_RETURN_IF_ERROR(fatal_);
  if (failed_ == 0 || input_.interactive()) return absl::OkStatus();
  return FailedPrecondition("{} of {} messages got no answer", failed_, asked_);
}

bool Session::NextMessage(std::string* message) {
  message->clear();
  bool leave_next = false;
  while (true) {
    const LineInput::Read read = input_.Next(message->empty() ? "> " : ". ");
    if (read.kind == LineInput::Kind::kEnd) {
      if (input_.interactive()) std::fputs("\n", stderr);
      return false;
    }
    if (read.kind == LineInput::Kind::kInterrupt) {
      if (!input_.interactive()) return false;
      std::fputs("\n", stderr);
      if (leave_next) return false;
      leave_next = read.line.empty() && message->empty();
      if (leave_next) Note("Ctrl-C once more, or Ctrl-D, leaves");
      message->clear();
      continue;
    }
    leave_next = false;
    *message += read.line;
    if (message->empty() || message->back() != '\\') return true;
    message->back() = '\n';
  }
}

bool Session::IsCommand(std::string* line) {
  if (line->front() != '/') return false;
  if (line->starts_with("//")) {
    line->erase(0, 1);
    return false;
  }
  const std::string command = line->substr(0, line->find_last_not_of(" \t") + 1);
  if (command == "/exit" || command == "/quit") {
    leaving_ = true;
  } else if (command == "/clear") {
    conversation_.Clear();
    if (input_.interactive()) Note("a new conversation");
  } else if (command == "/help") {
    std::fputs(kHelp, stderr);
  } else {
    Note(fmt::format("there is no command {}; /help lists those there are", command));
  }
  return true;
}

void Session::Answer(const std::string& message) {
  ++asked_;
  const absl::StatusOr<Turn> turn = conversation_.Say(
      message, [this](const std::string& text) { Show(text); }, [this] { return Interrupted(); });
  if (line_open_) Show("\n");
  if (!turn.ok()) {
    ++failed_;
    if (absl::IsUnavailable(turn.status())) {
      fatal_ = turn.status();
      leaving_ = true;
    } else if (CodeOf(turn.status()) == "context_length_exceeded") {
      Note(fmt::format("not sent: {}. /clear begins a new conversation", ToString(turn.status().message())));
    } else {
      Note(ToString(turn.status().message()));
    }
    return;
  }
  switch (turn->end) {
    case TurnEnd::kDone:
      break;
    case TurnEnd::kMaxTokens:
      Note(fmt::format("cut after {} tokens, as --max-tokens says", turn->usage.completion_tokens));
      break;
    case TurnEnd::kContextFull:
      Note(fmt::format("cut: the conversation fills the context of {} tokens. /clear begins a new one",
                       turn->usage.prompt_tokens + turn->usage.completion_tokens));
      break;
    case TurnEnd::kInterrupted:
      if (!leaving_) Note("stopped");
      break;
  }
}

void Session::Show(const std::string& text) {
  const std::string shown = to_terminal_ ? Harmless(text) : text;
  line_open_ = shown.back() != '\n';
  if (std::fwrite(shown.data(), 1, shown.size(), stdout) == shown.size() && std::fflush(stdout) == 0) return;
  fatal_ = Unavailable("stdout takes no more text");
  leaving_ = true;
}

bool Session::Interrupted() {
  while (const int signal = signals_->Wait(std::chrono::milliseconds(0))) {
    if (signal == SIGCONT || signal == SIGWINCH) continue;
    if (signal != SIGINT || !input_.interactive()) leaving_ = true;  // a script's Ctrl-C is for the whole script
    return true;
  }
  return leaving_;
}

// Shows how far the ranks are, once that takes long enough to be wondered about.
class LoadLine {
 public:
  explicit LoadLine(Signals* signals) : signals_(signals) {}
  ~LoadLine() {
    if (shown_ >= 0) std::fputs("\r\033[K", stderr);
  }
  bool Update(const ClusterStatus& status) {
    while (const int signal = signals_->Wait(std::chrono::milliseconds(0))) {
      if (signal != SIGCONT && signal != SIGWINCH) return false;
    }
    if (!terminal_ || !patience_.Expired() || status.load_bytes_total == 0) return true;
    const int64_t percent = 100 * status.load_bytes_done / status.load_bytes_total;
    if (percent != shown_) {
      fmt::print(stderr, "\rloading weights: {} % of {} MiB", shown_ = percent, status.load_bytes_total >> 20);
      std::fflush(stderr);
    }
    return true;
  }

 private:
  Signals* const signals_;
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  const Deadline patience_ = Deadline::After(Seconds(1));
  int64_t shown_ = -1;
};

ConversationOptions ToConversationOptions(const ChatFlags& flags) {
  ConversationOptions options;
  options.system = flags.system;
  options.max_tokens = flags.max_tokens;
  if (flags.temperature) options.settings.set_temperature(*flags.temperature);
  if (flags.top_p) options.settings.set_top_p(*flags.top_p);
  if (flags.top_k) options.settings.set_top_k(*flags.top_k);
  if (flags.seed) options.settings.set_seed(*flags.seed);
  return options;
}

std::string Banner(const Service& service) {
  const parallel::Topology& topology = service.options.shape.topology;
  return fmt::format("{}: {} rank{} in {} attention group{}, context {} tokens. /help lists commands, Ctrl-D leaves.",
                     service.name, topology.world, topology.world == 1 ? "" : "s", topology.groups(),
                     topology.groups() == 1 ? "" : "s", service.context());
}

}  // namespace

absl::Status RunChat(const ChatFlags& flags) {
  if (flags.max_tokens < 0) return InvalidArgument("--max-tokens is {}; give 1 or more", flags.max_tokens);
  signal(SIGPIPE, SIG_IGN);
  Signals signals({SIGINT, SIGTERM, SIGHUP, SIGCONT, SIGWINCH});
  ClusterFlags cluster = flags.cluster;
  cluster.quiet = !flags.verbose;
  ATOLL_ASSIGN_OR_RETURN(const auto model, ServedModel::Load(cluster, {.chat_template = flags.chat_template}));
  if (model->service().chat_template == nullptr) {
    return FailedPrecondition("{} has no chat template; give one with --chat-template FILE", flags.cluster.model);
  }
  const ConversationOptions options = ToConversationOptions(flags);
  ATOLL_RETURN_IF_ERROR(Conversation(&model->service(), options).Check());
  if (!flags.verbose) Log()->set_level(spdlog::level::err);
  model->running().Launch();
  if (cluster.external_ranks) {
    fmt::print(stderr, "waiting for ranks: mpirun -n {} atoll-worker --coordinator HOST:{}\n", cluster.ranks,
               model->running().cluster().control_port());
  }
  {
    LoadLine line(&signals);
    const absl::Status ready =
        model->running().WaitReady([&line](const ClusterStatus& status) { return line.Update(status); });
    if (absl::IsCancelled(ready)) return absl::OkStatus();
    ATOLL_RETURN_IF_ERROR(ready);
  }
  return Session(model.get(), &signals, options).Run(Banner(model->service()));
}

}  // namespace atl::coordinator
