#include "coordinator/cli/line_input.h"

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <string_view>

namespace atl::coordinator {

LineInput::LineInput(Signals* signals) : signals_(signals) {
  interactive_ = isatty(STDIN_FILENO) != 0 && isatty(STDERR_FILENO) != 0;
  const char* terminal = std::getenv("TERM");
  if (!interactive_ || terminal == nullptr || *terminal == '\0' || std::string_view(terminal) == "dumb") return;
  if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
  edit_ = el_init("atoll", stdin, stderr, stderr);
  if (edit_ == nullptr) return;
  history_ = history_init();
  HistEvent event;
  history(history_, &event, H_SETSIZE, 1000);
  history(history_, &event, H_SETUNIQUE, 1);
  el_set(edit_, EL_CLIENTDATA, this);
  el_set(edit_, EL_EDITOR, "emacs");
  el_set(edit_, EL_HIST, history, history_);
  el_set(edit_, EL_GETCFN, &LineInput::ReadCharacter);
  el_set(
      edit_, EL_PROMPT, +[](EditLine* edit) {
        LineInput* self = nullptr;
        el_get(edit, EL_CLIENTDATA, &self);
        return self->prompt_.data();
      });
}

LineInput::~LineInput() {
  if (edit_ != nullptr) el_end(edit_);
  if (history_ != nullptr) history_end(history_);
}

LineInput::Read LineInput::Next(const std::string& prompt) {
  if (ended_) return {};
  return edit_ != nullptr ? NextEdited(prompt) : NextPlain(prompt);
}

int LineInput::ReadByte(char* byte) {
  while (begin_ == end_) {
    pollfd entries[2] = {{STDIN_FILENO, POLLIN, 0}, {signals_->fd(), POLLIN, 0}};
    if (poll(entries, 2, -1) < 0) continue;
    if (entries[1].revents != 0) {
      signal_ = signals_->Wait(std::chrono::milliseconds(0));
      if (signal_ == SIGWINCH && edit_ != nullptr) el_resize(edit_);
      if (signal_ == SIGCONT && edit_ != nullptr) {  // the shell has had the terminal
        el_set(edit_, EL_PREP_TERM, 1);
        el_set(edit_, EL_REFRESH);
      }
      if (signal_ != 0 && signal_ != SIGWINCH && signal_ != SIGCONT) return -1;
    }
    if (entries[0].revents == 0) continue;
    const ssize_t got = read(STDIN_FILENO, bytes_, sizeof(bytes_));
    if (got <= 0) return 0;
    begin_ = 0;
    end_ = static_cast<size_t>(got);
  }
  *byte = bytes_[begin_++];
  return 1;
}

LineInput::Read LineInput::NextPlain(const std::string& prompt) {
  if (interactive_) std::fputs(prompt.c_str(), stderr);
  std::string line;
  while (true) {
    char byte = 0;
    const int got = ReadByte(&byte);
    if (got < 0 && signal_ == SIGINT) return {Kind::kInterrupt, line};
    if (got < 0 || (got == 0 && line.empty())) {
      ended_ = true;
      return {};
    }
    if (got == 0 || byte == '\n') {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return {Kind::kLine, line};
    }
    line += byte;
  }
}

LineInput::Read LineInput::NextEdited(const std::string& prompt) {
  prompt_ = prompt;
  signal_ = 0;
  el_resize(edit_);  // the window may have changed while an answer was written
  // libedit would do so only after it has shown the prompt: whoever types at once is echoed twice, and loses a Ctrl-D.
  el_set(edit_, EL_PREP_TERM, 1);
  int count = 0;
  const char* text = el_gets(edit_, &count);
  if (signal_ == SIGINT) {
    const LineInfo* info = el_line(edit_);
    Read read{Kind::kInterrupt, std::string(info->buffer, info->lastchar)};
    el_reset(edit_);
    return read;
  }
  if (text == nullptr || count <= 0) {
    ended_ = true;
    return {};
  }
  Read read{Kind::kLine, std::string(text, static_cast<size_t>(count))};
  if (read.line.back() == '\n') read.line.pop_back();
  HistEvent event;
  if (!read.line.empty()) history(history_, &event, H_ENTER, read.line.c_str());
  return read;
}

int LineInput::ReadCharacter(EditLine* edit, wchar_t* character) {
  LineInput* self = nullptr;
  el_get(edit, EL_CLIENTDATA, &self);
  std::mbstate_t state{};
  while (true) {
    char byte = 0;
    const int got = self->ReadByte(&byte);
    if (got <= 0) return got;
    // A Ctrl-D typed before the prompt listened: the terminal, still reading lines then, keeps it as a zero byte.
    if (byte == 0) byte = 'D' - '@';
    const size_t length = std::mbrtowc(character, &byte, 1, &state);
    if (length == static_cast<size_t>(-2)) continue;  // the rest of it comes
    if (length == static_cast<size_t>(-1)) {          // no character: what follows may be one
      *character = L'\uFFFD';
    }
    return 1;
  }
}

}  // namespace atl::coordinator
