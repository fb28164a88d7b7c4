// The C library's mutex between processes, plain and robust (the only other one that notices the death of its holder).
#pragma once

#include <cerrno>

#include <pthread.h>

template <bool Robust>
struct pthread_mutex_peer {
  pthread_mutex_t mutex;
  pthread_mutex_peer() {
    pthread_mutexattr_t how;
    pthread_mutexattr_init(&how);
    pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
    if (Robust) pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&mutex, &how);
    pthread_mutexattr_destroy(&how);
  }
  void lock() { pthread_mutex_lock(&mutex); }
  void unlock() { pthread_mutex_unlock(&mutex); }
  /// Locks; whether the holder had died.
  bool lock_after_death() { return pthread_mutex_lock(&mutex) == EOWNERDEAD; }
  using polyproc_shareable = void;
};
