/// How long something took, in whole milliseconds as they are printed.
#pragma once

#include <chrono>

namespace example {

class stopwatch {
 public:
  [[nodiscard]] std::chrono::milliseconds elapsed() const {
    return std::chrono::round<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin_);
  }
  [[nodiscard]] long ms() const { return static_cast<long>(elapsed().count()); }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace example
