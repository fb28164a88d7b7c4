/// The first line of main, and what happens in a child that runs a fresh image.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/memory/attachment.hpp>
#include <polyproc/process/child.hpp>
#include <polyproc/wire/callable.hpp>
#include <polyproc/wire/exception.hpp>

#include <cstdio>

namespace polyproc::inline v0_1 {
namespace detail {

/// Runs a target to its end: the exit code. What it lets out goes to stderr and to the parent.
template <backend Backend, class Run>
int run_target(Run&& run) noexcept {
  try {
    std::forward<Run>(run)();
    return 0;
  } catch (...) {
    try {
      auto said = describe(std::current_exception());
      Backend::write_stderr("polyproc: process " + facts().name + " ended by an uncaught " + said.type + ": " +
                            said.what + "\n");
      // Two strings with their lengths must fit into a report.
      said.type.resize(std::min<std::size_t>(said.type.size(), 512));
      said.what.resize(std::min<std::size_t>(said.what.size(), Backend::report_limit - 1024));
      writer out;
      encode(out, said.type);
      encode(out, said.what);
      Backend::report(out.view());
    } catch (...) {  // no memory to say it with: the code remains
    }
    return 1;
  }
}

/// What every child's payload starts with.
inline void write_facts(writer& out, own_facts const& child) {
  encode(out, child.name);
  encode(out, child.daemon);
  encode(out, child.worker);
}
inline void read_facts(reader& in) {
  auto& mine = facts();
  mine.name = decode<std::string>(in);
  mine.daemon = decode<bool>(in);
  mine.worker = decode<bool>(in);
}

template <backend Backend>
[[noreturn]] void run_child_image(std::vector<std::byte> const& payload) {
  int const code = run_target<Backend>([&] {
    reader in(payload);
    read_facts(in);
    writer result;
    run_call<Backend>(in, result);
  });
  std::fflush(nullptr);
  attachment<Backend>::let_all_go();
  std::exit(code);
}

}  // namespace detail

/// To be called first thing in main by every program that starts processes by a fresh image (the default), because a
/// child is this program run again: there, init runs the child's function and never returns. In the program itself it
/// does nothing but remember how to run the program again, even when its file is replaced meanwhile.
template <backend Backend = native_backend>
void init(int argc, char** argv) {
  Backend::prepare();
  detail::facts().initialised = true;
  std::optional<std::vector<std::byte>> payload;
  try {
    payload = Backend::adopt(argc, argv);
  } catch (std::exception const& problem) {
    Backend::write_stderr(std::string(problem.what()) + "\n");
    Backend::exit_now(2);
  }
  if (payload) detail::run_child_image<Backend>(*payload);
}

namespace this_process {
/// The name given to this process when it was started; "main" in the program itself.
[[nodiscard]] inline std::string const& name() noexcept { return detail::facts().name; }
/// Whether it was started as a daemon (see process_options).
[[nodiscard]] inline bool daemon() noexcept { return detail::facts().daemon; }
[[nodiscard]] inline long pid() noexcept { return native_backend::current_pid(); }
[[nodiscard]] inline long parent_pid() noexcept { return native_backend::parent_pid(); }
}  // namespace this_process

/// How many processors this process may use: its affinity and its quota respected; at least 1.
[[nodiscard]] inline unsigned usable_cpus() noexcept { return native_backend::usable_cpus(); }

}  // namespace polyproc::inline v0_1
