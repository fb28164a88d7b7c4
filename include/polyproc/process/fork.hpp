/// fork and wait as the system has them, for programs that want just that.
#pragma once

#include <polyproc/process/process.hpp>

namespace polyproc::inline v0_1 {

/// Makes a copy of this process, of which only the calling thread exists. In the parent: the child, as a process that was
/// started. In the child: nothing; it goes on behind the call with everything as it was, also signals and standard streams,
/// and ends with its own return from main or this_process::exit. What is shared stays shared; children of the parent are no
/// children of the child. Of the options name, daemon, group and grace count; with others std::invalid_argument. Throws as
/// process::start does. Not on Windows. The buffers of stdout and stderr are written before the copy is made; those of other
/// streams only where this process has one thread and the system tells so (Linux), otherwise what stands in them is in both.
template <backend Backend = native_backend>
[[nodiscard]] std::optional<basic_process<Backend>> fork(process_options options = {}) {
  static_assert(Backend::has_fork,
                "polyproc: fork does not exist on this system, which cannot copy a running process; start a process with a "
                "function instead");
  return basic_process<Backend>::copy_of_this(std::move(options));
}

/// A child that has ended.
struct ended_child {
  long pid = 0;
  std::string name;
  exit_status status;
};

/// Waits until one of this process's children has ended, however it was started, and takes its status. Nothing when there is
/// none to wait for. Each child is told of once; not those that were joined, or whose end was found out on another occasion
/// (children of fork() are told of even then), and not those that were detached. A pool's workers are children, too.
template <backend Backend = native_backend>
[[nodiscard]] std::optional<ended_child> wait() {
  using control = detail::child_control<Backend>;
  auto& list = detail::child_list<Backend>::get();
  for (;;) {
    auto children = list.waited_for();
    if (children.empty()) return std::nullopt;
    std::vector<typename Backend::handle> handles;
    std::shared_ptr<control> over;
    for (auto const& child : children) {
      auto const end = child->watch();
      if (end != Backend::invalid_handle)
        handles.push_back(end);
      else if (!over)
        over = child;
    }
    try {
      bool const ready = !over && Backend::wait_any(handles, Backend::now() + std::chrono::milliseconds{250});
      for (auto const& child : children)
        if (!over && child->wait(time_point{})) over = child;
      // Somebody has closed its end of a pipe, and lives on.
      if (ready && !over) std::this_thread::sleep_for(std::chrono::milliseconds{10});
    } catch (...) {
      for (auto const& child : children) child->unwatch();
      throw;
    }
    for (auto const& child : children) child->unwatch();
    if (over && list.tell_of(over)) return ended_child{over->pid(), over->name(), over->status()};
  }
}

}  // namespace polyproc::inline v0_1
