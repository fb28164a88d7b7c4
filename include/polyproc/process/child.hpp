/// A started child and the list of all that this process has started: who waits for it, who took its status, and what
/// happens to it when this process ends.
#pragma once

#include <polyproc/process/callback.hpp>
#include <polyproc/process/child_record.hpp>
#include <polyproc/process/facts.hpp>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>

namespace polyproc::inline v0_1::detail {

/// A callback; what it lets out goes to stderr.
template <backend Backend, class Call>
void guarded_run(Call&& call) noexcept {
  try {
    call();
  } catch (...) {
    try {
      auto const said = describe(std::current_exception());
      Backend::write_stderr("polyproc: a callback let out an uncaught " + said.type + ": " + said.what +
                            "; the other callbacks run on\n");
    } catch (...) {  // no memory to say it with
    }
  }
}

/// Owned by the process object, the list below, and whoever is waiting right now. All functions may be called from any
/// number of threads at once. The system's handles stay open until the last waiter has left, and its number is not given
/// to anybody else before its status is taken, which happens under the lock: so nothing is sent to somebody else.
template <backend Backend>
class child_control {
 public:
  using record = child_record<Backend>;
  using callback = detail::callback<exit_status const&>;

  /// Takes over both holds on the record.
  child_control(std::uint64_t record_offset, record* known, bool daemon, bool group)
      : offset_(record_offset), record_(known), daemon_(daemon), group_(group), parent_(Backend::current_pid()) {}
  child_control(child_control const&) = delete;
  child_control& operator=(child_control const&) = delete;
  ~child_control() {
    if (!ours()) return;
    Backend::release(child_);
    // A child that was never started, or that still runs and has its own hold.
    if (pid_ == 0) {
      record_->free_work();
      attachment<Backend>::release_message(offset_);
    }
    attachment<Backend>::release_message(offset_);
  }

  /// Once, before anybody else knows of this object.
  void started(typename Backend::child&& child) noexcept {
    child_ = std::move(child);
    pid_ = Backend::pid(child_);
  }

  /// What its work holds until it has read it. Before anybody else knows of this object.
  void work_holds(writer::hold_list const& holds) { work_holds_.insert(work_holds_.end(), holds.begin(), holds.end()); }

  [[nodiscard]] long pid() const noexcept { return pid_; }
  [[nodiscard]] bool daemon() const noexcept { return daemon_; }
  [[nodiscard]] bool group() const noexcept { return group_; }
  [[nodiscard]] bool detached() const noexcept { return detached_.load(); }
  void detach() noexcept { detached_.store(true); }
  /// A copy of a helper: what was sent before its work begins may have been meant for the helper's group, and is lost.
  void made_by_server() noexcept { served_ = true; }
  /// Made by fork(): wait() tells of it, whoever found out that it had ended.
  [[nodiscard]] bool by_itself() const noexcept { return by_itself_; }
  void made_by_itself() noexcept { by_itself_ = true; }
  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }
  [[nodiscard]] std::string name() const { return record_->read_name(); }
  /// False in a child of a fork, whose copy of this must do nothing.
  [[nodiscard]] bool ours() const noexcept { return parent_ == Backend::current_pid(); }

  /// True once the child has ended and its status is known.
  bool wait(time_point deadline) {
    if (!ours()) return true;  // before the lock: a copy of it may have been taken when this process was forked
    {
      std::scoped_lock hold{lock_};
      if (done_) return true;
      ++waiting_;
    }
    bool ended = false;
    try {
      ended = Backend::await_end(child_, deadline);
      if (ended) seen_to_end_.store(true, std::memory_order_relaxed);
    } catch (...) {
      (void)left(false);
      throw;
    }
    while (!left(ended)) {
      if (!ended || Backend::now() >= deadline) return false;
      // Its status must not be taken while kill_tree needs its number.
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
      std::scoped_lock hold{lock_};
      ++waiting_;
    }
    return true;
  }

  /// Requests that would be lost, or lead to the loss of a later one, if they came before the child's work begins.
  [[nodiscard]] static bool goes_to_its_work(child_request what) noexcept {
    return what != child_request::kill && what != child_request::resume;
  }
  /// Until the child's work begins or it has ended, two seconds at most: somebody else may have stopped it.
  void await_begin() {
    if (!served_) return;
    auto const deadline = Backend::now() + std::chrono::seconds{2};
    while (record_->begun.load(std::memory_order_acquire) == 0 && Backend::now() < deadline && !wait(time_point{}))
      Backend::yield();
  }

  bool ask(child_request what) {
    if (!ours()) return false;
    if (goes_to_its_work(what)) await_begin();
    // Whoever asks again and again must not keep the lock from the one who wants to take the status.
    if (seen_to_end_.load(std::memory_order_relaxed)) return false;
    std::scoped_lock hold{lock_};
    return !done_ && Backend::ask(child_, what);
  }
  /// Also those that it left behind, if its status has not been taken yet and it has a group.
  void kill_tree() {
    if (!ours()) return;
    {
      std::scoped_lock hold{lock_};
      if (done_) return;
      ++waiting_, ++pinned_;
    }
    auto const leave = [this] {
      std::scoped_lock hold{lock_};
      --pinned_;
      if (--waiting_ == 0 && done_) Backend::release(child_);
    };
    try {
      Backend::kill_tree(child_);
    } catch (...) {
      leave();
      throw;
    }
    leave();
  }

  /// Only after wait returned true.
  [[nodiscard]] exit_status status() const { return record_->read_status().value_or(exit_status{}); }
  [[nodiscard]] bool done() const {
    if (!ours()) return true;
    std::scoped_lock hold{lock_};
    return done_;
  }
  /// Valid until unwatch, which is to be called also for an invalid_handle.
  [[nodiscard]] typename Backend::handle watch() {
    if (!ours()) return Backend::invalid_handle;
    std::scoped_lock hold{lock_};
    ++waiting_;
    return done_ ? Backend::invalid_handle : Backend::sentinel(child_);
  }
  void unwatch() noexcept {
    if (!ours()) return;
    std::scoped_lock hold{lock_};
    if (--waiting_ == 0 && done_) Backend::release(child_);
  }
  [[nodiscard]] std::uint64_t identity() {
    auto known = record_->identity.load(std::memory_order_acquire);
    if (known != 0) return known;
    if (!ours()) return known;
    std::scoped_lock hold{lock_};
    if (!done_) known = Backend::identity_of(child_);
    if (known != 0) record_->identity.store(known, std::memory_order_release);
    return known;
  }
  [[nodiscard]] record& shared() const noexcept { return *record_; }

  struct exit_call {
    callback call;
    bool direct;  // of the library, takes no time: to be run by whoever sees the end
  };
  /// Kept until take_callbacks; called at once when its status was taken already.
  void on_exit(callback call, bool direct = false) {
    {
      std::scoped_lock hold{lock_};
      if (!done_) {
        callbacks_.push_back({std::move(call), direct});
        return;
      }
    }
    guarded_run<Backend>([&] { call(status()); });
  }
  /// True for the first one who asks: who is to watch for its end.
  [[nodiscard]] bool must_be_watched() {
    std::scoped_lock hold{lock_};
    return !std::exchange(watched_, true);
  }
  /// After that, when it cannot be.
  void not_watched() {
    std::scoped_lock hold{lock_};
    watched_ = false;
  }
  [[nodiscard]] std::vector<exit_call> take_callbacks() {
    std::scoped_lock hold{lock_};
    if (!done_) return {};
    return std::exchange(callbacks_, {});
  }

  /// In a forked child: closes what was inherited.
  void forget() noexcept { Backend::release(child_); }

  /// Where the list of children has it; not null only while it is in that list.
  [[nodiscard]] void* place() const noexcept { return place_.load(std::memory_order_acquire); }
  void place(void* where) noexcept { place_.store(where, std::memory_order_release); }

 private:
  bool left(bool ended) {
    std::scoped_lock hold{lock_};
    --waiting_;
    if (ended && !done_ && pinned_ == 0) {
      // Its number is still its own.
      if (group_ && !detached()) Backend::kill_group(child_);
      auto const taken = Backend::reap(child_);
      // What was sent with its work and never read has nobody any more. (One that was killed half-way through had taken over
      // some of it, which its death does not let go of: so all the same. One that ended by a code half-way through has let
      // go of that part itself.)
      bool const all_there = taken.kind != end_kind::code || record_->call_begun.load(std::memory_order_acquire) == 0;
      bool const unread = all_there && record_->work_read.load(std::memory_order_acquire) == 0;
      for (auto const& h : work_holds_)
        if (unread) h.give_back(h.what);
      work_holds_.clear();
      record_->free_work();
      record_->write_status(taken);
      attachment<Backend>::release_message(offset_);  // the child's hold
      done_ = true;
      if (facts().log >= log_level::info)
        log<Backend>(log_level::info, "process " + name() + " (" + std::to_string(pid_) + ") " + to_string(status()));
    }
    if (done_ && waiting_ == 0) Backend::release(child_);
    return done_;
  }

  mutable std::mutex lock_;
  typename Backend::child child_{};
  std::uint64_t offset_;
  record* record_;
  long pid_ = 0;
  bool daemon_;
  bool group_;
  bool by_itself_ = false;
  bool served_ = false;
  std::atomic<bool> detached_{false};
  std::atomic<bool> seen_to_end_{false};
  bool done_ = false;
  bool watched_ = false;  // by the dispatcher
  int waiting_ = 0;
  int pinned_ = 0;  // its number is needed
  long parent_;
  std::vector<exit_call> callbacks_;
  std::atomic<void*> place_{nullptr};
  writer::hold_list work_holds_;
};

/// All children of this process that are not yet reaped, in the order of their starts. Never destroyed, because exit handlers
/// use it.
///
/// A fork in another thread may come between any two steps of a change, and the copy must find a list that can be walked:
/// forward it is whole at each moment (one store links an entry in, one takes it out); `before` is for changes alone.
template <backend Backend>
class child_list {
 public:
  using control = child_control<Backend>;

  static child_list& get() {
    static bool const once = [] {
      there().store(new child_list, std::memory_order_release);
      std::atexit(&child_list::at_exit);
      Backend::at_fork_child(&child_list::forked);
      look_after_children.store([]() noexcept {
        try {
          get().sweep_if_any();
        } catch (...) {  // no memory: another time
        }
      });
      return true;
    }();
    (void)once;
    return *there().load(std::memory_order_acquire);
  }

  void add(std::shared_ptr<control> child) {
    auto* const made = new entry;
    made->child = std::move(child);
    std::scoped_lock hold{lock_};
    made->before = last_;
    last_ = made;
    (last_->before != nullptr ? last_->before->next : first_).store(last_, std::memory_order_release);
    last_->child->place(last_);
  }

  /// Those that still run; those that have ended are reaped and leave the list.
  std::vector<std::shared_ptr<control>> sweep() {
    (void)Backend::maybe_ended();
    auto all = this->all();
    std::erase_if(all, [](auto const& child) { return child->wait(time_point{}); });
    std::scoped_lock hold{lock_};
    for (entry* one = first(); one != nullptr;) {
      auto* const next = one->next.load(std::memory_order_relaxed);
      if (one->child->done()) {
        if (one->child->by_itself() && !one->child->detached()) untold_.push_back(one->child);
        take_out(one);
      }
      one = next;
    }
    return all;
  }
  /// The same if there is anything to reap, which costs less to find out.
  void sweep_if_any() {
    if (Backend::maybe_ended()) sweep();
  }

  /// Those that have not been reaped.
  [[nodiscard]] std::vector<std::shared_ptr<control>> all() {
    std::vector<std::shared_ptr<control>> found;
    std::scoped_lock hold{lock_};
    for (auto* one = first(); one != nullptr; one = one->next.load(std::memory_order_relaxed)) found.push_back(one->child);
    return found;
  }
  [[nodiscard]] std::shared_ptr<control> find(std::uint64_t record_offset) {
    std::scoped_lock hold{lock_};
    for (auto* one = first(); one != nullptr; one = one->next.load(std::memory_order_relaxed))
      if (one->child->offset() == record_offset) return one->child;
    return nullptr;
  }

  /// One that was joined, or whose object is gone.
  void remove(std::shared_ptr<control> const& child) noexcept {
    std::scoped_lock hold{lock_};
    (void)forget(child);
  }

  /// Those of whom wait() may tell.
  [[nodiscard]] std::vector<std::shared_ptr<control>> waited_for() {
    std::scoped_lock hold{lock_};
    auto all = untold_;
    for (auto* one = first(); one != nullptr; one = one->next.load(std::memory_order_relaxed))
      if (!one->child->detached() && (one->child->by_itself() || !one->child->done())) all.push_back(one->child);
    return all;
  }
  /// False when somebody else has been told of it.
  bool tell_of(std::shared_ptr<control> const& child) {
    std::scoped_lock hold{lock_};
    return forget(child);
  }

  /// The end of this process: daemons are ended, then the others are waited for, but not those that were detached.
  static void at_exit() noexcept {
    try {
      std::vector<std::shared_ptr<control>> running;
      if (there().load(std::memory_order_acquire) != nullptr) running = get().sweep();
      std::erase_if(running, [](auto const& child) { return child->detached() && !child->daemon(); });
      // One that may not be ended, or waited for, does not keep the others from being so.
      auto const each = [&](bool daemons, auto&& what) {
        for (auto const& child : running) {
          try {
            if (child->daemon() == daemons) what(*child);
          } catch (...) {
          }
        }
      };
      each(true, [](control& child) { child.ask(child_request::kill); });
      each(true, [](control& child) { child.wait(never); });
      each(false, [](control& child) { child.wait(never); });
      for (bool const daemons : {true, false})
        each(daemons, [](control& child) {
          for (auto& one : child.take_callbacks()) guarded_run<Backend>([&] { one.call(child.status()); });
        });
    } catch (...) {  // no memory: nothing sensible is left to do about a child at exit
    }
    if (own().by_fork) attachment<Backend>::let_all_go();
  }

 private:
  child_list() = default;

  struct entry {
    std::shared_ptr<control> child;
    std::atomic<entry*> next{nullptr};
    entry* before = nullptr;
  };

  static std::atomic<child_list*>& there() noexcept {
    static constinit std::atomic<child_list*> one{nullptr};
    return one;
  }

  // With lock_ held:
  [[nodiscard]] entry* first() const noexcept { return first_.load(std::memory_order_relaxed); }
  void take_out(entry* one) noexcept {
    auto* const next = one->next.load(std::memory_order_relaxed);
    one->child->place(nullptr);
    (one->before != nullptr ? one->before->next : first_).store(next, std::memory_order_release);
    (next != nullptr ? next->before : last_) = one->before;
    delete one;
  }
  bool forget(std::shared_ptr<control> const& child) noexcept {
    bool found = std::erase(untold_, child) > 0;
    if (auto* const one = static_cast<entry*>(child->place())) {
      take_out(one);
      found = true;
    }
    return found;
  }

  /// The copy of the parent's lock may be held by a thread that does not exist here, and what it guards be in any state. It
  /// is left alone, as are the controls: process objects copied by the fork still refer to them.
  static void forked() noexcept {
    auto* const copy = there().load(std::memory_order_acquire);
    for (auto* one = copy->first_.load(std::memory_order_acquire); one != nullptr; one = one->next.load(std::memory_order_acquire)) {
      one->child->place(nullptr);
      one->child->forget();
    }
    auto* const made = new child_list;
    made->left_alone_ = copy;
    there().store(made, std::memory_order_release);
  }

  std::mutex lock_;
  std::atomic<entry*> first_{nullptr};
  entry* last_ = nullptr;
  std::vector<std::shared_ptr<control>> untold_;  // ended, made by fork(), and wait() has not told of them
  child_list const* left_alone_ = nullptr;        // keeps in sight of a leak checker what a fork has copied
};

}  // namespace polyproc::inline v0_1::detail
