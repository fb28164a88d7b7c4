/// What a lock does for those who come after a holder that died: the policies.
#pragma once

#include <polyproc/sync/owner_lock.hpp>
#include <polyproc/wire/error.hpp>

#include <string>
#include <system_error>
#include <type_traits>

namespace polyproc::inline v0_1 {

/// A holder that ends, or is killed, while it holds a lock may leave half changed what the lock guards.
namespace on_owner_death {

/// Every way of locking throws owner_died, without keeping the lock, until recover() has run. The default.
struct throws {};

/// The lock is taken, and owner_is_dead() (of the lock), owner_died() (of our guards) say so, to every holder until one
/// of them calls repaired().
struct reports {};

/// Whoever takes the lock runs Repair{}(the lock), or Repair{}(), before it goes on. When that throws, the lock is let go
/// and the next one repairs; so it is when the repairer is killed.
template <class Repair>
struct repairs {};

/// Nothing is said. Only for data that is whole at every instruction.
struct ignores {};

}  // namespace on_owner_death

namespace detail {

template <class Policy>
inline constexpr bool repairing_policy = false;
template <class Repair>
inline constexpr bool repairing_policy<on_owner_death::repairs<Repair>> = true;

template <class Policy>
inline constexpr bool throwing_policy = std::is_same_v<Policy, on_owner_death::throws>;

[[noreturn]] inline void throw_owner_died(char const* kind) {
  throw owner_died(std::string("polyproc: a process or thread ended while it held this ") + kind +
                   ", so what it guards may be half changed; call recover() with a function that puts it right");
}
[[noreturn]] inline void throw_relocked(char const* what, char const* kind) {
  throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                          std::string("polyproc: ") + what + " of a " + kind +
                              " that this thread already holds would wait for itself for ever; unlock it first");
}
[[noreturn]] inline void throw_not_holder(char const* what, char const* kind) {
  throw std::system_error(std::make_error_code(std::errc::operation_not_permitted),
                          std::string("polyproc: ") + what + " of a " + kind +
                              " that this thread does not hold; only the thread that locked it may do that");
}

template <class Repair, class Subject>
void run_repair(on_owner_death::repairs<Repair>*, Subject& subject) {
  if constexpr (std::is_invocable_v<Repair, Subject&>) {
    Repair{}(subject);
  } else {
    static_assert(std::is_invocable_v<Repair>,
                  "polyproc: on_owner_death::repairs<F>: F must be a type whose objects can be made without arguments and "
                  "called with a reference to the lock (in guarded<T>: to the T) or with nothing");
    Repair{}();
  }
}

/// For one who holds a lock whose earlier holder died, as the policy wants it: returns with the lock held, or throws
/// with it let go. `subject` is what a repair gets; clean() says that all is well again.
template <class Policy, class Subject, class Clean, class Release>
void meet_owner_death(char const* kind, Subject& subject, Clean&& clean, Release&& release) {
  if constexpr (std::is_same_v<Policy, on_owner_death::ignores>) {
    clean();
  } else if constexpr (repairing_policy<Policy>) {
    try {
      run_repair(static_cast<Policy*>(nullptr), subject);
    } catch (...) {
      release();
      throw;
    }
    clean();
  } else if constexpr (throwing_policy<Policy>) {
    release();
    throw_owner_died(kind);
  } else {
    static_assert(std::is_same_v<Policy, on_owner_death::reports>,
                  "polyproc: the policy for the death of a lock's owner is one of on_owner_death::throws, reports, "
                  "repairs<F> and ignores");
  }
}

/// Runs repair() for one who holds the lock; lets go of it in any case, and calls clean() only if nothing was thrown.
template <class Repair, class Clean, class Release>
void repair_and_release(Repair&& repair, Clean&& clean, Release& release) {
  struct at_the_end {
    Release& release;
    ~at_the_end() { release(); }
  } const end{release};
  std::forward<Repair>(repair)();
  clean();
}

}  // namespace detail
}  // namespace polyproc::inline v0_1
