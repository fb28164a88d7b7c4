/// A reference to a process: copyable, and it travels to other processes, which can wait for it and end it there.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/memory/handle.hpp>
#include <polyproc/process/child.hpp>
#include <polyproc/sync/waiting.hpp>

#include <thread>

namespace polyproc::inline v0_1 {

/// Refers to that process alone, also when the system has given its number to another one since. Of one of this process's
/// own children it does what the process object does. Elsewhere the status is known once the parent has taken it (by a join,
/// its next start, or its end).
template <backend Backend = native_backend>
class basic_process_ref {
 public:
  basic_process_ref() = default;

  /// The system's number; 0 for a reference to nothing.
  [[nodiscard]] long pid() const noexcept { return pid_; }
  [[nodiscard]] std::string const& name() const noexcept { return name_; }
  [[nodiscard]] bool is_alive() const { return !wait(time_point{}); }

  /// Waits until it has ended.
  void join() const { (void)wait(never); }
  /// False when it still runs at the deadline.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(std::chrono::duration<Rep, Period> time) const {
    return wait(detail::deadline_after<Backend>(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool join_until(std::chrono::time_point<Clock, Duration> when) const {
    return wait(detail::deadline_at<Backend>(when));
  }

  /// As the functions of process with these names. Nothing once it has ended. Throw std::system_error when it may not be
  /// done.
  void interrupt() const { (void)ask(child_request::interrupt); }
  void terminate() const { (void)ask(child_request::terminate); }
  void kill() const { (void)ask(child_request::kill); }
  void kill_tree() const {
    if (auto const mine = own_child()) return mine->kill_tree();
    if (auto there = open()) {
      closer const last{*there};
      Backend::kill_tree(*there);
    }
  }
  template <class Rep, class Period>
  void stop(std::chrono::duration<Rep, Period> grace) const {
    terminate();
    if (!join_for(grace)) kill();
    join();
  }
  /// False once it has ended.
  bool ask(child_request what) const {
    if (auto const mine = own_child()) return mine->ask(what);
    auto there = open();
    if (!there) return false;
    closer const last{*there};
    if (control::goes_to_its_work(what)) await_begin(*there);
    return Backend::ask(*there, what);
  }

  [[nodiscard]] process_state state() const {
    if (!is_alive()) return process_state::ended;
    auto const row = Backend::process_alone(pid_);
    return row ? row->state : process_state::unknown;
  }

  /// Nothing while it runs. Of kind unknown where nobody has told (yet).
  [[nodiscard]] std::optional<exit_status> status() const {
    if (is_alive()) return std::nullopt;
    return record_ ? record().read_status().value_or(exit_status{}) : exit_status{};
  }
  [[nodiscard]] std::optional<int> exit_code() const {
    auto const known = status();
    return known ? std::optional(known->as_code()) : std::nullopt;
  }

  friend bool operator==(basic_process_ref const& a, basic_process_ref const& b) noexcept {
    if (a.record_ || b.record_) return a.record_ == b.record_;
    return a.pid_ == b.pid_ && a.identity_ == b.identity_;
  }

  // --- for other parts of the library

  /// A child; `offset`: its record. The hold on it is the caller's.
  basic_process_ref(long pid, std::string name, std::uint64_t identity, std::uint64_t offset)
      : pid_(pid), identity_(identity), name_(std::move(name)) {
    using record_type = detail::child_record<Backend>;
    if (offset == 0) return;
    detail::attachment<Backend>::hold_for_message(offset);
    try {
      record_ = detail::attachment_ref<Backend>(detail::attachment<Backend>::adopt(
          offset, record_type::fingerprint, record_type::layout, record_type::handle_name));
    } catch (...) {
      detail::attachment<Backend>::release_message(offset);
      throw;
    }
  }
  explicit basic_process_ref(detail::child_control<Backend>& child)
      : basic_process_ref(child.pid(), child.name(), child.identity(), child.offset()) {}

 private:
  template <class>
  friend struct codec;
  using control = detail::child_control<Backend>;

  struct closer {
    typename Backend::child& of;
    ~closer() { Backend::release(of); }
  };

  [[nodiscard]] detail::child_record<Backend>& record() const noexcept {
    return *reinterpret_cast<detail::child_record<Backend>*>(record_->contents());
  }
  /// The control of one of this process's own children whose status was not taken.
  [[nodiscard]] std::shared_ptr<control> own_child() const {
    return record_ ? detail::child_list<Backend>::get().find(record_->offset()) : nullptr;
  }
  [[nodiscard]] bool known_ended() const noexcept {
    // Without a record and an identity there is nothing to find it by.
    if (pid_ == 0 || !record_) return pid_ == 0 || identity_ == 0;
    return record().ended.load(std::memory_order_acquire) != 0;
  }
  [[nodiscard]] std::uint64_t identity() const noexcept {
    return identity_ != 0 || !record_ ? identity_ : record().identity.load(std::memory_order_acquire);
  }

  /// What child_control::await_begin does, in a process that is not the parent.
  void await_begin(typename Backend::child const& there) const {
    if constexpr (Backend::has_server) {
      if (!record_) return;
      auto const deadline = Backend::now() + std::chrono::seconds{2};
      while (record().begun.load(std::memory_order_acquire) == 0 && Backend::now() < deadline &&
             !Backend::await_end(there, time_point{}))
        std::this_thread::sleep_for(std::chrono::microseconds{200});
    }
  }

  /// 0 when it has ended. Where only the child can tell its identity it is waited for, two seconds at most.
  [[nodiscard]] std::uint64_t await_identity() const {
    auto const deadline = Backend::now() + std::chrono::seconds{2};
    while (!known_ended()) {
      if (auto const known = identity(); known != 0) return known;
      if (Backend::now() >= deadline || !Backend::alive(record().creator)) break;
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    return 0;
  }
  /// Nothing when it has ended.
  [[nodiscard]] std::optional<typename Backend::child> open() const {
    auto const known = await_identity();
    if (known == 0) return std::nullopt;
    return Backend::open_process(pid_, known);
  }

  bool wait(time_point deadline) const {
    if (known_ended()) return true;
    if (auto const mine = own_child()) return mine->wait(deadline);
    // Not begun, as far as anybody knows: its parent will find out if it never does.
    while (identity() == 0) {
      if (known_ended() || !Backend::alive(record().creator)) return true;
      if (Backend::now() >= deadline) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    auto there = Backend::open_process(pid_, identity());
    if (!there) return true;
    closer const last{*there};
    return Backend::await_end(*there, deadline);
  }

  long pid_ = 0;
  std::uint64_t identity_ = 0;
  std::string name_;
  detail::attachment_ref<Backend> record_;
};

using process_ref = basic_process_ref<>;

template <class Backend>
struct codec<basic_process_ref<Backend>> {
  static constexpr std::uint64_t fingerprint = detail::child_record<Backend>::fingerprint ^ 0x68616e646c65ULL;

  static void write(writer& out, basic_process_ref<Backend> const& ref) {
    encode(out, static_cast<std::int64_t>(ref.pid_));
    // A stranger, to whom the record means nothing, has only number and identity to find it by.
    encode(out, out.is_for_strangers() ? ref.await_identity() : ref.identity());
    encode(out, ref.name_);
    auto const offset = ref.record_ && !out.is_for_strangers() ? ref.record_->offset() : 0;
    out.raw(std::uint64_t{offset});
    if (offset == 0) return;
    ref.record_->hold_for_message();
    out.on_discard(&detail::attachment<Backend>::release_message, offset);
  }
  static basic_process_ref<Backend> read(reader& in) {
    basic_process_ref<Backend> made;
    // Other numbers mean many processes to some systems.
    auto const pid = decode<std::int64_t>(in);
    if (pid < 0 || pid > std::numeric_limits<std::int32_t>::max()) in.fail("a process has no such number");
    made.pid_ = static_cast<long>(pid);
    made.identity_ = decode<std::uint64_t>(in);
    made.name_ = decode<std::string>(in);
    using record_type = detail::child_record<Backend>;
    if (auto const offset = in.template raw<std::uint64_t>(); offset != 0) {
      in.must_come_from_family(record_type::handle_name);
      made.record_ = detail::attachment_ref<Backend>(detail::attachment<Backend>::adopt(
          offset, record_type::fingerprint, record_type::layout, record_type::handle_name));
    }
    return made;
  }
};

/// The children of this process that still run. Those that have ended are reaped.
template <backend Backend = native_backend>
[[nodiscard]] std::vector<basic_process_ref<Backend>> active_children() {
  std::vector<basic_process_ref<Backend>> all;
  for (auto const& child : detail::child_list<Backend>::get().sweep()) all.emplace_back(*child);
  return all;
}

}  // namespace polyproc::inline v0_1
