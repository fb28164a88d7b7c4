// expect: this container keeps plain pointers in its nodes

#include <polyproc/polyproc.hpp>

#include <list>
#include <vector>

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  polyproc::shared_heap heap(4096);
#ifndef FIXED
  std::list<int, polyproc::heap_allocator<int>> all(heap.allocator<int>());
#else
  std::vector<int, polyproc::heap_allocator<int>> all(heap.allocator<int>());
#endif
  all.push_back(1);
}
