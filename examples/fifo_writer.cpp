// One of two programs that know nothing of each other but the name of a FIFO: this one writes.
//
//   fifo_writer NAME LINE...
//
// What to look at: it waits for a reader, whoever came first. Start fifo_reader in another terminal; or, on Unix, give both a
// path as the name, and read with cat.

#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fputs("usage: fifo_writer NAME LINE...\n", stderr);
    return 2;
  }
  std::string const name = argv[1];
  try {
    polyproc::fifo::create(name);  // if the other one has not made it already
    auto out = polyproc::fifo::open_writer(name);
    for (int i = 2; i < argc; ++i) out.write(std::string(argv[i]) + "\n");
    example::say("writer: ", argc - 2, " lines written");
  } catch (std::exception const& problem) {
    example::say("writer: ", problem.what());
    return 1;
  }
}
