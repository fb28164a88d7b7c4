// A server with a process per connection, for clients of any kind: what each sends comes back in upper case.
//
//   upper_server [CLIENTS] [--start fork|spawn|forkserver]       then, elsewhere: nc 127.0.0.1 PORT
//
// What to look at: an accepted connection is an argument of a process, like any other value, and belongs to it alone from
// then on. Clients come and go as they like, several at a time; one that is killed in the middle costs its own process and
// nobody else. With CLIENTS the server ends after that many.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <array>

namespace {

using example::say;

void serve(polyproc::stream client, int number) {
  std::size_t total = 0;
  try {
    std::array<std::byte, 4096> part;
    while (auto const got = client.read_some(part)) {
      auto const here = std::span(part).first(got);
      for (auto& each : here) {
        auto const c = static_cast<char>(each);
        if (c >= 'a' && c <= 'z') each = static_cast<std::byte>(c - 'a' + 'A');
      }
      client.write(here);
      total += got;
    }
    say("server: client ", number, " left after ", total, " bytes");
  } catch (std::system_error const&) {  // it did not wait for its answer
    say("server: client ", number, " is gone");
  }
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  bool const counted = argc > 1 && argv[1][0] >= '0' && argv[1][0] <= '9';
  int const clients = counted ? std::atoi(argv[1]) : 0;
  example::arguments const given(argc - (counted ? 1 : 0), argv + (counted ? 1 : 0), "upper_server [CLIENTS]");

  polyproc::listener door(polyproc::tcp("127.0.0.1", 0));
  say("server: at port ", door.address().port);
  for (int number = 1; clients == 0 || number <= clients; ++number) {
    auto client = door.accept_stream();
    say("server: client ", number, " came");
    auto server = polyproc::launch(serve, std::move(client), number);
    server.detach();  // whoever has ended is reaped at the next start
  }
  for (auto& one : polyproc::active_children()) one.join();
  say("server: that was the last one");
}
