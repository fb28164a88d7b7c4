// Lock and unlock, nobody else there.

#include "peers/boost_mutex.hpp"
#include "peers/pthread_mutex.hpp"
#include "peers/python_lock.hpp"

#include <polyproc/polyproc.hpp>

#include <benchmark/benchmark.h>

#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <thread>

#include <semaphore.h>

namespace {

template <class Lock, class Unlock>
void both(benchmark::State& state, Lock lock, Unlock unlock) {
  for (auto _ : state) {
    lock();
    benchmark::ClobberMemory();
    unlock();
  }
}
template <class Mutex>
void exclusive(benchmark::State& state, Mutex& m) {
  both(state, [&] { m.lock(); }, [&] { m.unlock(); });
}
template <class Mutex>
void reading(benchmark::State& state, Mutex& m) {
  both(state, [&] { m.lock_shared(); }, [&] { m.unlock_shared(); });
}
template <class Semaphore>
void permit(benchmark::State& state, Semaphore& s) {
  both(state, [&] { s.acquire(); }, [&] { s.release(); });
}

/// In this process only.
template <class Mutex>
void here(benchmark::State& state) {
  Mutex m;
  exclusive(state, m);
}
template <class Mutex>
void here_reading(benchmark::State& state) {
  Mutex m;
  reading(state, m);
}
void here_permit(benchmark::State& state) {
  std::counting_semaphore<> s(1);
  permit(state, s);
}

/// In memory that processes share.
template <class Mutex>
void shared(benchmark::State& state) {
  polyproc::shared<Mutex> m;
  exclusive(state, *m);
}
template <class Mutex>
void shared_reading(benchmark::State& state) {
  polyproc::shared<Mutex> m;
  reading(state, *m);
}
template <class Semaphore>
void shared_permit(benchmark::State& state) {
  polyproc::shared<Semaphore> s(std::in_place, 1U);
  permit(state, *s);
}

struct posix_semaphore_peer {
  sem_t semaphore;
  explicit posix_semaphore_peer(unsigned permits) { ::sem_init(&semaphore, 1, permits); }
  void acquire() { ::sem_wait(&semaphore); }
  void release() { ::sem_post(&semaphore); }
  using polyproc_shareable = void;
};

void python(benchmark::State& state) {
  for (auto _ : state) {
    auto const nanoseconds = python_lock_peer::uncontended();
    if (nanoseconds > 0)
      state.SetIterationTime(nanoseconds / 1e9);
    else
      state.SkipWithError("python3 does not measure");
  }
}

}  // namespace

BENCHMARK(shared<polyproc::mutex>)->Name("mutex_uncontended/polyproc");
BENCHMARK(here<std::mutex>)->Name("mutex_uncontended/std_mutex");
BENCHMARK(shared<pthread_mutex_peer<false>>)->Name("mutex_uncontended/pthread_shared");
BENCHMARK(shared<pthread_mutex_peer<true>>)->Name("mutex_uncontended/pthread_robust");
#if defined(BENCH_HAS_BOOST_MUTEX)
BENCHMARK(shared<boost_mutex_peer>)->Name("mutex_uncontended/boost");
#endif
BENCHMARK(shared<polyproc::recursive_mutex>)->Name("mutex_recursive_uncontended/polyproc");
BENCHMARK(here<std::recursive_mutex>)->Name("mutex_recursive_uncontended/std_recursive_mutex");
BENCHMARK(shared<polyproc::shared_mutex>)->Name("mutex_shared_write_uncontended/polyproc");
BENCHMARK(here<std::shared_mutex>)->Name("mutex_shared_write_uncontended/std_shared_mutex");
BENCHMARK(shared_reading<polyproc::shared_mutex>)->Name("mutex_shared_read_uncontended/polyproc");
BENCHMARK(here_reading<std::shared_mutex>)->Name("mutex_shared_read_uncontended/std_shared_mutex");
BENCHMARK(shared_permit<polyproc::semaphore>)->Name("lock_semaphore_uncontended/polyproc");
BENCHMARK(shared_permit<polyproc::bounded_semaphore>)->Name("lock_semaphore_uncontended/polyproc_bounded");
BENCHMARK(shared_permit<posix_semaphore_peer>)->Name("lock_semaphore_uncontended/posix_shared");
BENCHMARK(here_permit)->Name("lock_semaphore_uncontended/std_semaphore");

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  // libstdc++ leaves the locking away in a program that has never had a second thread.
  std::thread([] {}).join();
  if (python_lock_peer::here())
    benchmark::RegisterBenchmark("mutex_uncontended/python_lock", python)->UseManualTime()->Iterations(1);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
