// Lines that a person types, with editing and a history, or that a script pipes in.
//
//   LineInput input(&signals);                        // stdin; a terminal if stdin and stderr are one
//   LineInput::Read read = input.Next("> ");          // the prompt is only shown in a terminal
//   read.kind: kLine (without its newline), kInterrupt (Ctrl-C; read.line is what had been typed), kEnd (Ctrl-D, the
//   end of a file, or a signal that ends the program)
//
// Prompts and echoes go to stderr: stdout belongs to the answers. In a terminal libedit does the work, unless the
// terminal is too dumb for it.
#pragma once

#include <histedit.h>

#include <memory>
#include <string>

#include "coordinator/cli/signals.h"

namespace atl::coordinator {

class LineInput {
 public:
  enum class Kind { kLine, kInterrupt, kEnd };
  struct Read {
    Kind kind = Kind::kEnd;
    std::string line;
  };

  explicit LineInput(Signals* signals);
  ~LineInput();
  LineInput(const LineInput&) = delete;
  LineInput& operator=(const LineInput&) = delete;

  bool interactive() const { return interactive_; }
  Read Next(const std::string& prompt);

 private:
  Read NextPlain(const std::string& prompt);
  Read NextEdited(const std::string& prompt);
  // The next byte of stdin: 1 as read() does, 0 at the end, -1 when a signal came first.
  int ReadByte(char* byte);
  static int ReadCharacter(EditLine* edit, wchar_t* character);  // libedit's way in

  Signals* const signals_;
  bool interactive_ = false;
  int signal_ = 0;      // that ended the last ReadByte with -1
  bool ended_ = false;  // by a signal that is not Ctrl-C, for good
  std::string prompt_;
  EditLine* edit_ = nullptr;  // null: plain
  ::History* history_ = nullptr;
  char bytes_[4096];
  size_t begin_ = 0, end_ = 0;  // of what is read and not taken
};

}  // namespace atl::coordinator
