/// A line on standard output, at once: kept in a buffer, the lines of several processes would come out of order.
#pragma once

#include <cstdio>
#include <sstream>

namespace example {

template <class... Parts>
void say(Parts const&... parts) {
  std::ostringstream line;
  (line << ... << parts) << '\n';
  std::fputs(line.str().c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace example
