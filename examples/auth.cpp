// Messages over TCP, between those only who know the key.
//
//   auth [--start fork|spawn|forkserver]
//
// What to look at: the children of a program have its key (32 random bytes) without a word; a connection over TCP needs it.
// Who has another one is told so, and nothing that it sends is read. The key itself never travels: both sides prove to each
// other that they know it.

#include "support/arguments.hpp"
#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

#include <chrono>

namespace {

using namespace std::chrono_literals;
using example::say;

struct order {
  std::string what;
  int pieces = 0;
};

void customer(polyproc::endpoint shop, std::string name) {
  try {
    auto counter = polyproc::connect<order, std::string>(shop);
    counter.send({"eggs for " + name, 6});
    say(name, ": ", counter.recv().value_or("nobody answered"));
  } catch (polyproc::authentication_error const&) {
    say(name, ": they do not let me in");
  }
}

void stranger(polyproc::endpoint shop) {
  polyproc::set_authkey("a guess");
  customer(shop, "stranger");
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  example::arguments const given(argc, argv, "auth");
  say("shop: a key of ", polyproc::authkey().bytes().size(), " bytes was made at the start");

  // Port 0: any that is free. A server that is to go on whoever comes leaves .throw_refused as it is.
  polyproc::listener shop(polyproc::tcp("127.0.0.1", 0), {.throw_refused = true});

  auto child = polyproc::launch({.name = "child"}, customer, shop.address(), "child");
  auto counter = shop.accept<std::string, order>();
  auto const wanted = counter.recv().value();
  say("shop: ", wanted.pieces, " ", wanted.what);
  counter.send("here you are");
  child.join();

  auto other = polyproc::launch({.name = "stranger"}, stranger, shop.address());
  try {
    (void)shop.accept<std::string, order>();
    say("shop: this should not be");
  } catch (polyproc::authentication_error const& refused) {
    say("shop: ", refused.what());
  }
  other.join();
  say("shop: turned away: ", shop.refused());
}
