/// How a process ended, in terms of this library.
#pragma once

#include <polyproc/backend/concept.hpp>

#include <limits>

namespace polyproc::inline v0_1 {

/// What exit_code() says when the system could not tell how a process ended, because somebody else took the status (or
/// the program ignores SIGCHLD). Never mistaken for success.
inline constexpr int unknown_exit_code = std::numeric_limits<int>::min();

struct exit_status {
  enum class kind : std::uint8_t {
    normal,     ///< The target returned, or exit was called; `code` says with what.
    signal,     ///< Ended by signal number `signal` (also where Windows has a fault or a termination instead).
    exception,  ///< The target let an exception out; `exception_type` and `exception_what` say which; code 1.
    unknown,    ///< Nobody can tell any more.
  };

  kind how = kind::unknown;
  int code = 0;
  int signal = 0;
  bool core_dumped = false;
  std::uint32_t raw = 0;  ///< The system's own number: a wait status, or Windows's exit code.
  std::string exception_type;
  std::string exception_what;

  [[nodiscard]] bool success() const noexcept { return how == kind::normal && code == 0; }

  /// 0 or the code given; -N after signal N; unknown_exit_code.
  [[nodiscard]] int as_code() const noexcept {
    switch (how) {
      case kind::normal:
      case kind::exception: return code;
      case kind::signal: return -signal;
      case kind::unknown: break;
    }
    return unknown_exit_code;
  }
};

/// In words, as part of a sentence: "exited with code 3", "was ended by signal 9 (killed)".
[[nodiscard]] inline std::string to_string(exit_status const& status) {
  switch (status.how) {
    case exit_status::kind::normal: return "exited with code " + std::to_string(status.code);
    case exit_status::kind::exception:
      return "was ended by an uncaught " + status.exception_type + ": " + status.exception_what;
    case exit_status::kind::signal: {
      char const* meaning = "";
      switch (status.signal) {  // the numbers that are the same everywhere
        case 2: meaning = " (interrupted)"; break;
        case 4: meaning = " (illegal instruction)"; break;
        case 6: meaning = " (aborted)"; break;
        case 8: meaning = " (arithmetic fault)"; break;
        case 9: meaning = " (killed)"; break;
        case 11: meaning = " (memory fault)"; break;
        case 15: meaning = " (terminated)"; break;
        default: break;
      }
      return "was ended by signal " + std::to_string(status.signal) + meaning +
             (status.core_dumped ? ", core dumped" : "");
    }
    case exit_status::kind::unknown: break;
  }
  return "ended in a way that nobody can tell any more";
}

}  // namespace polyproc::inline v0_1
