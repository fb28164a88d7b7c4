// One of two programs that know nothing of each other but the name of a FIFO: this one reads.
//
//   fifo_reader NAME
//
// What to look at: the end of file comes when the last writer has closed, or was killed. See fifo_writer.

#include "support/say.hpp"

#include <polyproc/polyproc.hpp>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: fifo_reader NAME\n", stderr);
    return 2;
  }
  std::string const name = argv[1];
  try {
    polyproc::fifo::create(name);  // if the other one has not made it already
    auto in = polyproc::fifo::open_reader(name);
    while (auto const line = in.read_line()) example::say("reader: ", *line);
    example::say("reader: end of file");
    polyproc::fifo::remove(name);
  } catch (std::exception const& problem) {
    example::say("reader: ", problem.what());
    return 1;
  }
}
