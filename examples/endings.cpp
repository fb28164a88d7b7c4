// The ways in which a process can end, told apart by its parent.
//
//   endings [--start fork|spawn|forkserver]
//
// What to look at: exit_code() is 0, the code given, 1 after an exception, or -N after signal N. status() tells more: which
// kind of end it was, and the type and message of an exception that nobody caught (the child also writes them to stderr). On
// Windows, which has no signals, a fault and a termination read as -11, -15 and -9 too; status().raw is the system's own number.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using example::say;

using flag = polyproc::shared<polyproc::event>;

void return_normally() {}
void exit_with(int code) { polyproc::this_process::exit(code); }  // std::exit does as well
void run_out_of(std::string const& what) { throw std::runtime_error("no more " + what); }
void fault() {
  int volatile* volatile nowhere = nullptr;
  *nowhere = 1;
}
void sleep_long(flag begun) {
  begun->set();
  std::this_thread::sleep_for(1h);
}

std::string in_words(polyproc::exit_status const& status) {
  using kind = polyproc::exit_status::kind;
  switch (status.how) {
    case kind::normal: return status.success() ? "success" : "an error of its own: code " + std::to_string(status.code);
    case kind::exception: return "an exception: " + status.exception_type + ", \"" + status.exception_what + "\"";
    case kind::signal:
      // 9 and 15 come from somebody else, the others are most often the process's own fault.
      return (status.signal == 9 || status.signal == 15 ? "ended by another: signal " : "a fault: signal ") +
             std::to_string(status.signal);
    case kind::unknown: break;
  }
  return "nobody knows";
}

void report(polyproc::process& p) {
  p.join();
  say(p.name(), ": exit code ", *p.exit_code(), ", ", in_words(*p.status()));
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "endings");

  polyproc::process normal{{.name = "normal"}, return_normally};
  normal.start();
  report(normal);

  polyproc::process code{{.name = "code"}, exit_with, 3};
  code.start();
  report(code);

  polyproc::process exception{{.name = "exception"}, run_out_of, "eggs"};
  exception.start();
  report(exception);

  polyproc::process faulty{{.name = "fault"}, fault};
  faulty.start();
  report(faulty);

  flag begun;
  polyproc::process terminated{{.name = "terminated"}, sleep_long, begun};
  terminated.start();
  begun->wait();
  terminated.terminate();
  report(terminated);

  begun->clear();
  polyproc::process killed{{.name = "killed"}, sleep_long, begun};
  killed.start();
  begun->wait();
  killed.kill();
  report(killed);
}
