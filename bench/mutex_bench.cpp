// Lock and unlock, nobody else there.

#include <polyproc/polyproc.hpp>

#include <benchmark/benchmark.h>

#include <mutex>

#include <pthread.h>

namespace {

struct pthread_peer {
  pthread_mutex_t mutex;
  explicit pthread_peer(bool robust) {
    pthread_mutexattr_t how;
    pthread_mutexattr_init(&how);
    pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
    if (robust) pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&mutex, &how);
    pthread_mutexattr_destroy(&how);
  }
  void lock() { pthread_mutex_lock(&mutex); }
  void unlock() { pthread_mutex_unlock(&mutex); }
};

template <class Mutex>
void uncontended(benchmark::State& state, Mutex& mutex) {
  for (auto _ : state) {
    mutex.lock();
    benchmark::ClobberMemory();
    mutex.unlock();
  }
}

void standard(benchmark::State& state) {
  std::mutex m;
  uncontended(state, m);
}
void ours(benchmark::State& state) {
  polyproc::shared<polyproc::mutex> m;
  uncontended(state, *m);
}
void shared_pthread(benchmark::State& state) {
  pthread_peer m(false);
  uncontended(state, m);
}
void robust_pthread(benchmark::State& state) {
  pthread_peer m(true);
  uncontended(state, m);
}

}  // namespace

BENCHMARK(robust_pthread)->Name("mutex_uncontended/pthread_robust");
BENCHMARK(ours)->Name("mutex_uncontended/polyproc");
BENCHMARK(standard)->Name("mutex_uncontended/std_mutex");
BENCHMARK(shared_pthread)->Name("mutex_uncontended/pthread_shared");

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  // libstdc++ leaves the locking away in a program that has never had a second thread.
  std::thread([] {}).join();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
