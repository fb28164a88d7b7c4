// expect: a local_queue is for the threads of one process and cannot travel

#include <polyproc/polyproc.hpp>

#ifndef FIXED
void work(polyproc::local_queue<int> q);
void work(polyproc::local_queue<int> q) { q.put(1); }
#else
void work(polyproc::queue<int> q);
void work(polyproc::queue<int> q) { q.put(1); }
#endif

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
#ifndef FIXED
  polyproc::local_queue<int> q(1);
#else
  polyproc::queue<int> q(1);
#endif
  polyproc::process p{work, q};
}
