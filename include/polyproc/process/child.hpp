/// A started child and the list of all that this process has started: who waits for it, who took its status, and what
/// happens to it when this process ends.
#pragma once

#include <polyproc/process/exit_status.hpp>
#include <polyproc/wire/codec.hpp>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>

namespace polyproc::inline v0_1::detail {

/// What a process knows of itself.
struct own_facts {
  std::string name = "main";
  bool daemon = false;
  bool worker = false;       // of a pool: a daemon that may have children all the same
  bool initialised = false;  // polyproc::init was called
};
inline own_facts& facts() noexcept {
  static own_facts mine;
  return mine;
}

/// Owned by the process object, the list below, and whoever is waiting right now. All functions may be called from any
/// number of threads at once. The system's handles stay open until the last waiter has left, so that nobody waits on a
/// number that means something else by then.
template <backend Backend>
class child_control {
 public:
  explicit child_control(bool is_daemon) : daemon_(is_daemon), parent_(Backend::current_pid()) {}
  child_control(child_control const&) = delete;
  child_control& operator=(child_control const&) = delete;
  ~child_control() {
    if (ours()) Backend::release(child_);
  }

  /// Once, before anybody else knows of this object.
  void started(typename Backend::child&& child) noexcept {
    child_ = std::move(child);
    pid_ = Backend::pid(child_);
  }

  [[nodiscard]] long pid() const noexcept { return pid_; }
  [[nodiscard]] bool daemon() const noexcept { return daemon_; }
  /// False in a child of a fork, whose copy of this must do nothing.
  [[nodiscard]] bool ours() const noexcept { return parent_ == Backend::current_pid(); }

  /// True once the child has ended and its status is known.
  bool wait(time_point deadline) {
    {
      std::scoped_lock hold{lock_};
      if (done_ || !ours()) return true;
      ++waiting_;
    }
    bool ended = false;
    try {
      ended = Backend::await_end(child_, deadline);
    } catch (...) {
      left(false);
      throw;
    }
    return left(ended);
  }

  bool ask(child_request what) {
    std::scoped_lock hold{lock_};
    if (done_ || !ours()) return false;
    return Backend::ask(child_, what);
  }

  /// Only after wait returned true.
  [[nodiscard]] exit_status status() const {
    std::scoped_lock hold{lock_};
    return status_;
  }
  [[nodiscard]] bool done() const {
    std::scoped_lock hold{lock_};
    return done_;
  }

  /// In a forked child: closes what was inherited.
  void forget() noexcept {
    Backend::release(child_);
  }

 private:
  bool left(bool ended) {
    std::scoped_lock hold{lock_};
    --waiting_;
    if (ended && !done_) {
      auto const raw = Backend::reap(child_);
      take(raw, Backend::read_report(child_));
      done_ = true;
    }
    if (done_ && waiting_ == 0) Backend::release(child_);
    return done_;
  }

  void take(end_status const& raw, std::vector<std::byte> const& report) {
    status_.raw = raw.raw;
    status_.core_dumped = raw.core;
    switch (raw.kind) {
      case end_kind::code:
        status_.how = exit_status::kind::normal;
        status_.code = raw.value;
        break;
      case end_kind::signal:
        status_.how = exit_status::kind::signal;
        status_.signal = raw.value;
        break;
      case end_kind::unknown: status_.how = exit_status::kind::unknown; break;
    }
    if (report.empty() || status_.how != exit_status::kind::normal || status_.code != 1) return;
    try {
      reader in(report);
      status_.exception_type = decode<std::string>(in);
      status_.exception_what = decode<std::string>(in);
      status_.how = exit_status::kind::exception;
    } catch (std::exception const&) {
      status_.exception_type.clear();  // cut short by a death: the code alone is known
    }
  }

  mutable std::mutex lock_;
  typename Backend::child child_{};
  long pid_ = 0;
  bool daemon_;
  bool done_ = false;
  int waiting_ = 0;
  long parent_;
  exit_status status_;
};

/// All children of this process that are not yet reaped. Never destroyed, because exit handlers use it.
template <backend Backend>
class child_list {
 public:
  using control = child_control<Backend>;

  static child_list& get() {
    static child_list* const all = [] {
      auto* const made = new child_list;
      std::atexit(&child_list::at_exit);
      Backend::at_fork_child(&child_list::forked);
      return made;
    }();
    return *all;
  }

  void add(std::shared_ptr<control> child) {
    std::scoped_lock hold{lock_};
    children_.push_back(std::move(child));
  }

  /// Those that still run; those that have ended are reaped and leave the list.
  std::vector<std::shared_ptr<control>> sweep() {
    std::vector<std::shared_ptr<control>> all;
    {
      std::scoped_lock hold{lock_};
      all = children_;
    }
    std::erase_if(all, [](auto const& child) { return child->wait(time_point{}); });
    std::scoped_lock hold{lock_};
    std::erase_if(children_, [](auto const& child) { return child->done(); });
    return all;
  }

  /// A child that is nobody's business any more: it will go on when this process ends.
  void remove(std::shared_ptr<control> const& child) {
    std::scoped_lock hold{lock_};
    std::erase(children_, child);
  }

  /// The end of this process: daemons are ended, then the others are waited for.
  static void at_exit() noexcept {
    try {
      auto const running = get().sweep();
      for (auto const& child : running)
        if (child->daemon()) child->ask(child_request::kill);
      for (auto const& child : running)
        if (child->daemon()) child->wait(never);
      for (auto const& child : running) child->wait(never);
    } catch (...) {  // nothing sensible is left to do about a child at exit
    }
  }

 private:
  child_list() = default;

  static void forked() noexcept {
    auto& self = get();
    // The copy of the parent's lock may be held by a thread that does not exist here.
    std::construct_at(&self.lock_);
    for (auto const& child : self.children_) child->forget();
    // The controls themselves are left alone: process objects copied by the fork still refer to them.
    std::construct_at(&self.children_);
  }

  std::mutex lock_;
  std::vector<std::shared_ptr<control>> children_;
};

}  // namespace polyproc::inline v0_1::detail
