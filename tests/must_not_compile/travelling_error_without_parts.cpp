// expect: made again from what its parts\(\) gives: it needs a constructor

#include <polyproc/polyproc.hpp>

class disk_full : public polyproc::travelling_error<disk_full> {
 public:
  disk_full(std::string path, long missing) : travelling_error("disk full"), path_(std::move(path)), missing_(missing) {}
#ifndef FIXED
  std::tuple<std::string> parts() const { return {path_}; }
#else
  std::tuple<std::string, long> parts() const { return {path_, missing_}; }
#endif

 private:
  std::string path_;
  long missing_;
};

int main() {
  try {
    throw disk_full("/var", 7);
  } catch (std::runtime_error const&) {
  }
}
