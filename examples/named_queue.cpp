// A queue that programs find by its name, though none of them has started another.
//
//   named_queue [--start fork|spawn|forkserver]   shows all of it with programs of its own
//
// Two programs, in two terminals:
//   named_queue --serve NAME                      opens or makes the queue, shows what comes until that is "stop", removes it
//   named_queue --put NAME TEXT...                puts each TEXT
// And, one step at a time:
//   named_queue --get NAME                        shows what is there, without waiting
//   named_queue --die NAME                        takes a message on lease, and is killed with it in hand
//   named_queue --remove NAME                     takes the name away
//
// What to look at: nobody hands the queue to anybody; a program knows the name and the type of the messages. The queue outlives
// all its users, also those that were killed, with its messages and what a killed one had on lease. On Windows it goes with
// the last handle.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

namespace {

using namespace std::chrono_literals;
using example::say;
using polyproc::this_process::pid;
using messages = polyproc::named_queue<std::string>;

/// What the one who makes it decides: nobody but this user may open it; at most 100 messages in 256 KiB.
messages open_or_create(std::string const& name) {
  return messages::open_or_create(name, {.capacity = 100, .memory = 256 * 1024, .name = {.permissions = 0600}});
}

// --- what a program does; each is run by hand, or as a process that knows nothing but the name

void serve(std::string const& name) {
  auto const q = open_or_create(name);
  say("server: ready");
  for (std::string const& text : q) {
    if (text == "stop") break;
    say("server: got ", text);
  }
  messages::remove(name);
}

void put(std::string const& name, std::string const& text) { messages::open(name).put(text); }

void get(std::string const& name) {
  auto const q = messages::open(name);
  while (auto const text = q.try_get()) say("got ", *text);
}

void die(std::string const& name) {
  auto const q = messages::open(name);
  auto const held = q.lease();
  say("has ", *held, " in hand, and is killed");
  polyproc::this_process::self().kill();
  std::this_thread::sleep_for(1h);
}

// --- all of it at once

void run(void (*program)(std::string const&), std::string const& name) {
  auto p = polyproc::launch(program, name);
  p.join();
}

void show() {
  auto const name = "polyproc-example-" + std::to_string(pid());
  say("main: there is ", messages::try_open(name) ? "one" : "none");

  auto q = std::optional(open_or_create(name));
  for (char const* text : {"A", "B", "C"}) {
    auto p = polyproc::launch(put, name, text);
    p.join();
  }
  say("main: ", q->size(), " messages of at most ", q->capacity());
#if !defined(_WIN32)
  q.reset();  // from here on nobody has it open
#endif
  run(die, name);
  run(get, name);

  try {
    (void)polyproc::named_queue<int>::open(name);
  } catch (polyproc::handle_error const&) {
    say("main: it is no queue of numbers");
  }
  try {
    (void)messages::create(name);
  } catch (std::system_error const& problem) {
    say("main: create: ", problem.code() == std::errc::file_exists ? "there is one already" : problem.what());
  }
  q.reset();
  messages::remove(name);
  say("main: now there is ", messages::try_open(name) ? "one" : "none");
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  std::string_view const what = argc > 2 ? argv[1] : "";
  std::string const name = argc > 2 ? argv[2] : "";
  try {
    if (what == "--serve" && argc == 3) {
      serve(name);
    } else if (what == "--put" && argc > 3) {
      for (int i = 3; i < argc; ++i) put(name, argv[i]);
    } else if (what == "--get" && argc == 3) {
      get(name);
    } else if (what == "--die" && argc == 3) {
      die(name);
    } else if (what == "--remove" && argc == 3) {
      messages::remove(name);
    } else {
      example::arguments const given(argc, argv, "named_queue");
      show();
    }
  } catch (std::exception const& problem) {
    say(problem.what());
    return 1;
  }
}
