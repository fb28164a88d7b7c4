#include "peers/boost_process.hpp"

#include <boost/process.hpp>

#include <stdexcept>

void boost_process_peer::spawn_wait(char const* path, char const* argument) {
  boost::process::child child(path, argument);
  child.wait();
  if (child.exit_code() != 0) throw std::runtime_error("Boost's child ended badly");
}
