/// The first line of main, and what happens in a child whose work came from elsewhere.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/process/child.hpp>
#include <polyproc/wire/callable.hpp>
#include <polyproc/wire/exception.hpp>

#include <cstdio>

namespace polyproc::inline v0_1 {
namespace detail {

/// Runs a target to its end: the exit code. What it lets out goes to stderr and into the child's record.
template <backend Backend, class Run>
int run_target(child_record<Backend>* record, Run&& run) noexcept {
  try {
    std::forward<Run>(run)();
    return 0;
  } catch (...) {
    try {
      auto said = describe(std::current_exception());
      Backend::write_stderr("polyproc: process " + facts().name + " ended by an uncaught " + said.type + ": " +
                            said.what + "\n");
      if (record != nullptr) record->report(std::move(said));
    } catch (...) {  // no memory to say it with: the code remains
    }
    return 1;
  }
}

template <backend Backend>
void enter_surroundings(surroundings const& there) {
  if (there.priority) Backend::set_priority(*there.priority);
  if (!there.affinity.empty()) Backend::set_affinity(there.affinity);
  if (!there.directory.empty()) Backend::set_directory(there.directory);
}

/// Of this process, if it is a child: its record. Its work begins.
template <backend Backend>
child_record<Backend>* begin_work(std::uint64_t offset) {
  own().record = offset;
  auto* const record = child_record<Backend>::at(offset);
  if constexpr (!Backend::identity_from_outside)
    record->identity.store(Backend::process_self(), std::memory_order_release);
  record->begun.store(1, std::memory_order_release);
  return record;
}

/// Of this child. Whose parent is still what it was needs not be looked for.
template <backend Backend>
bool parent_lives() noexcept {
  if constexpr (requires { Backend::direct_parent_pid(); }) {
    if (Backend::direct_parent_pid() == facts().parent_pid) return true;
  }
  return Backend::alive(facts().parent_identity);
}

/// Writes what stands in the buffers of streams. To flush all of them is to lock all of them, and one from which another
/// thread reads is locked until something comes: so all only where the system tells that there is no other thread, else the
/// two that every program has. Whether it was all.
template <backend Backend>
bool flush_streams() noexcept {
  if constexpr (requires { Backend::is_only_thread(); }) {
    if (Backend::is_only_thread()) {
      std::fflush(nullptr);
      return true;
    }
  }
  std::fflush(stdout);
  std::fflush(stderr);
  return false;
}

/// The orderly end of a child: daemons are ended, other children waited for, what stands in buffers is written, holds on
/// shared things are let go.
template <backend Backend>
void end_work() noexcept {
  child_list<Backend>::at_exit();
  if (own().by_fork && !own().by_fork_flushed) {
    // The other streams may hold copies of what is the parent's to write.
    std::fflush(stdout);
    std::fflush(stderr);
  } else {
    flush_streams<Backend>();  // what is left is written by std::exit, which comes next
  }
  attachment<Backend>::let_all_go();
  // The hold that counts for us is let go by our parent, who knows when we write no more; if it has gone, by us.
  auto const offset = std::exchange(own().record, 0);
  if (offset != 0 && !parent_lives<Backend>()) attachment<Backend>::release_message(offset);
  later_frees<Backend>::last_chance();
}

template <backend Backend>
[[noreturn]] void run_child_image(std::uint64_t work) {
  child_record<Backend>* record = nullptr;
  int const code = run_target<Backend>(nullptr, [&] {
    record = begin_work<Backend>(child_record<Backend>::offset_of(work));
  });
  if (code != 0) Backend::exit_now(code);
  std::atexit([] { end_work<Backend>(); });  // however it ends in order
  int const ended_with = run_target<Backend>(record, [&] {
    reader in(record->read_work());
    in.when_read_through([](void* of) { static_cast<child_record<Backend>*>(of)->work_was_read(); }, record);
    in.take_passed_by([](std::size_t place) { return Backend::stream_number(Backend::take_passed(place)); });
    facts() = decode<own_facts>(in);
    process_key<Backend>() = facts().key;
    enter_surroundings<Backend>(decode<surroundings>(in));
    auto* const call = read_function<Backend, trampoline>(in);
    // What fails before this line has taken over nothing of what the work holds.
    record->call_begun.store(1, std::memory_order_release);
    writer result;
    call(in, result);
  });
  std::exit(ended_with);
}

inline void nothing() {}

/// What a child does until its target begins, with a target that does nothing: in the helper, so that what is looked up the
/// first time (functions of libraries) is known to its copies, and in a copy while it waits, so that the pages are there.
template <backend Backend>
void rehearse() noexcept {
  try {
    arena<Backend>::touch();
    writer out;
    encode(out, own_facts{});
    encode(out, surroundings{});
    write_call<Backend>(out, &nothing, std::tuple<>{});
    reader in(out.view());
    auto const told = decode<own_facts>(in);
    auto const there = decode<surroundings>(in);
    if (there.directory.empty() && there.affinity.empty() && !told.daemon) {
      writer result;
      run_call<Backend>(in, result);
    }
  } catch (...) {  // then it is not known: nothing depends on it
  }
}

}  // namespace detail

/// To be called first thing in main by every program that starts processes by a fresh image or by the fork server (the
/// default), because a child is this program run again: there, init runs the child's function and never returns. In the
/// program itself it does nothing but remember how to run the program again, even when its file is replaced meanwhile.
template <backend Backend = native_backend>
void init(int argc, char** argv) {
  Backend::prepare();
  Backend::prepare_light_fences();  // takes no time as long as there are no other threads
  detail::own().initialised = true;
  std::optional<std::uint64_t> work;
  if constexpr (requires { Backend::rehearsal = nullptr; }) Backend::rehearsal = &detail::rehearse<Backend>;
  try {
    work = Backend::adopt(argc, argv);
  } catch (std::exception const& problem) {
    Backend::write_stderr(std::string(problem.what()) + "\n");
    Backend::exit_now(2);
  }
  if (work) detail::run_child_image<Backend>(*work);
}

inline void set_start_method(start_method method) {
  if ((method == start_method::fork && !native_backend::has_fork) ||
      (method == start_method::forkserver && !native_backend::has_server))
    throw std::invalid_argument("polyproc: this system cannot copy a running process, so there is only start_method::spawn "
                                "(start_method::automatic chooses it here)");
  detail::facts().default_start = method;
}

}  // namespace polyproc::inline v0_1
