/// A crash case for any lock that excludes, tells of a dead holder, and can be repaired.
#pragma once

#include "crash/crash_points.hpp"

#if !defined(POLYPROC_NO_CRASH_POINTS)

/// Left and right are equal whenever nobody is inside the lock.
template <class Lock>
struct sums {
  Lock lock;
  long left = 0;
  long right = 0;
};
template <class Lock>
using shared_sums = polyproc::shared<sums<Lock>>;

template <class Lock>
void change(shared_sums<Lock>& a) {
  ++a->left;
  ++a->right;
}

/// What anybody who comes later may rely on: the lock is had, or the death is told, at once; nobody finds half a change
/// without being told; after the repair all is as ever. For every lock that excludes and has recover().
template <class Lock>
void come_later(shared_sums<Lock>& a, crash_point& at) {
  try {
    bool const got = a->lock.try_lock_for(crash_limit);
    at.expect(got, "the lock is not to be had");
    if (!got) return;
    at.expect(a->left == a->right, "half a change, and nobody was told");
  } catch (polyproc::owner_died const&) {
    at.note("left the lock to be repaired");
    at.expect(a->lock.owner_is_dead(), "owner_died, but owner_is_dead() is false");
    at.expect(a->lock.recover([&] { a->right = a->left; }), "owner_died, but there was nothing to recover");
    at.expect(a->lock.try_lock(), "the lock is not to be had after the repair");
  }
  change(a);
  a->lock.unlock();
  at.expect(!a->lock.owner_is_dead(), "a death is remembered after the repair");
  at.expect(a->left == a->right, "the sums differ");
  at.expect(a->lock.try_lock(), "the lock is not to be had a second time");
  a->lock.unlock();
}

/// An operation on a lock that nobody has, and come_later.
template <class Lock = polyproc::mutex>
crash_case<shared_sums<Lock>> lock_case(std::string name,
                                        std::type_identity_t<std::function<void(shared_sums<Lock>&)>> operation) {
  return {.name = std::move(name),
          .setup = [] { return shared_sums<Lock>{}; },
          .operation = std::move(operation),
          .survive = come_later<Lock>,
          .whole = true};
}

#endif
