/// The command line of an example: --start METHOD, and flags of its own.
#pragma once

#include <polyproc/polyproc.hpp>

#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace example {

class arguments {
 public:
  /// After polyproc::init. `flags`: what the example knows besides --start, such as "--kill". What it does not know, and a
  /// start method that this system does not have, end the program with code 2.
  arguments(int argc, char** argv, std::string const& program, std::initializer_list<std::string_view> flags = {}) {
    for (int i = 1; i < argc; ++i) {
      std::string_view const word = argv[i];
      bool const last = i + 1 == argc;
      bool known = false;
      for (auto const flag : flags) known |= word == flag;
      if (known) {
        given_.push_back(word);
      } else if (word != "--start" || last || !set_start(argv[++i])) {
        std::string usage = "usage: " + program + " [--start fork|spawn|forkserver]";
        for (auto const flag : flags) usage += " [" + std::string(flag) + "]";
        end(usage);
      }
    }
  }

  [[nodiscard]] bool has(std::string_view flag) const {
    for (auto const each : given_)
      if (each == flag) return true;
    return false;
  }

 private:
  static bool set_start(std::string_view name) {
    using polyproc::start_method;
    auto method = start_method::automatic;
    if (name == "fork") method = start_method::fork;
    if (name == "spawn") method = start_method::spawn;
    if (name == "forkserver") method = start_method::forkserver;
    if (method == start_method::automatic) return false;
    try {
      polyproc::set_start_method(method);
    } catch (std::invalid_argument const& refused) {
      end(refused.what());
    }
    return true;
  }
  [[noreturn]] static void end(std::string const& why) {
    std::fprintf(stderr, "%s\n", why.c_str());
    std::exit(2);
  }

  std::vector<std::string_view> given_;
};

}  // namespace example
