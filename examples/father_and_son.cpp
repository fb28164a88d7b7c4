// Pipes: between a father and his son in both directions, and in one.
//
//   father_and_son [--start fork|spawn|forkserver]
//
// What to look at: an end of a pipe has one owner; as an argument of a process it goes there, and here nothing is left of it.
// So recv() finds the end of file as soon as the other side has closed its end, has ended, or was killed: nobody else can have
// kept it open.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace {

using namespace std::chrono_literals;
using example::say;

// --- in both directions

void son(polyproc::pipe_end<std::string> father) {
  father.send("hello father");
  while (auto const words = father.recv()) {
    say("son: got \"", *words, "\"");
    father.send("you said: " + *words);
  }
  say("son: end of file, and I have nothing to say");
}

void talk() {
  auto [here, there] = polyproc::pipe<std::string>();
  say("father: something to receive: ", here.poll() ? "yes" : "no");
  auto child = polyproc::launch(son, std::move(there));
  say("father: something to receive within a minute: ", here.poll_for(1min) ? "yes" : "no");
  say("father: got \"", *here.recv(), "\"");
  for (char const* words : {"hello son", "eat your soup"}) {
    here.send(words);
    say("father: got \"", *here.recv(), "\"");
  }
  say("father: within 20 ms ", here.recv_for(20ms) ? "something" : "nothing");
  here.close_send();
  say("father: ", here.recv() ? "got something" : "end of file");
  child.join();
}

// --- in one direction

void count_to(polyproc::pipe_writer<int> out, int last) {
  for (int n = 1; n <= last; ++n) out.send(n);
}

void one_way() {
  auto [reader, writer] = polyproc::pipe<int>(polyproc::one_way);
  auto child = polyproc::launch(count_to, std::move(writer), 10000);
  long sum = 0;
  while (auto const n = reader.recv()) sum += *n;
  child.join();
  say("father: my son has counted, the sum is ", sum);
}

// --- the other side is gone

void listen_for_ever(polyproc::pipe_end<std::string> father) {
  father.send("I am listening");
  while (father.recv()) {
  }
}
void listen_once(polyproc::pipe_reader<std::string> father) { say("son: got \"", *father.recv(), "\", and leave"); }

void without_a_son() {
  auto [here, there] = polyproc::pipe<std::string>();
  auto killed = polyproc::launch(listen_for_ever, std::move(there));
  say("father: got \"", *here.recv(), "\"");
  killed.kill();
  say("father: he was killed: ", here.recv() ? "got something" : "end of file");
  killed.join();

  auto [reader, writer] = polyproc::pipe<std::string>(polyproc::one_way);
  auto gone = polyproc::launch(listen_once, std::move(reader));
  writer.send("stay here");
  gone.join();
  try {
    writer.send("come back");
  } catch (std::system_error const& problem) {
    say("father: come back: ", problem.code() == std::errc::broken_pipe ? "the pipe is broken" : problem.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "father_and_son");

  talk();
  one_way();
  without_a_son();
}
