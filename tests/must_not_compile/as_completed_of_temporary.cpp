// expect: as_completed gives references to the futures, which must live as long as it does

#include <polyproc/polyproc.hpp>

#include <deque>

std::deque<polyproc::future<int>> futures();
std::deque<polyproc::future<int>> futures() { return {}; }

int main() {
#ifndef FIXED
  for (auto& f : polyproc::as_completed(futures())) (void)f.get();
#else
  auto all = futures();
  for (auto& f : polyproc::as_completed(all)) (void)f.get();
#endif
}
