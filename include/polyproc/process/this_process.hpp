/// What a process knows of itself and of the one that started it.
#pragma once

#include <polyproc/process/init.hpp>
#include <polyproc/process/process_ref.hpp>

namespace polyproc::inline v0_1 {

namespace this_process {

/// The name given to this process when it was started; "main" in the program itself.
[[nodiscard]] inline std::string const& name() noexcept { return detail::facts().name; }
/// Whether it was started as a daemon (see process_options).
[[nodiscard]] inline bool daemon() noexcept { return detail::facts().daemon; }
[[nodiscard]] inline long pid() noexcept { return native_backend::current_pid(); }
/// The number of the process that started this one; in the program itself, whatever the system says.
[[nodiscard]] inline long parent_pid() noexcept {
  auto const told = detail::facts().parent_pid;
  return told != 0 ? told : native_backend::parent_pid();
}
/// The process that started this one, to be waited for or asked whether it still lives; nothing in the program itself.
template <backend Backend = native_backend>
[[nodiscard]] std::optional<basic_process_ref<Backend>> parent() {
  auto const& told = detail::facts();
  if (told.parent_pid == 0) return std::nullopt;
  return basic_process_ref<Backend>(told.parent_pid, told.parent_name, told.parent_identity, 0);
}
/// This process itself, to be given to others.
template <backend Backend = native_backend>
[[nodiscard]] basic_process_ref<Backend> self() {
  return basic_process_ref<Backend>(pid(), name(), Backend::process_self(), detail::own().record);
}

/// Ends this process in order, wherever it is called: daemons are ended, other children waited for, buffers written; then
/// the exit handlers of this process run and its static objects are destroyed, but not in a child made by fork, where they
/// are copies of the parent's. Destructors of local objects do not run.
template <backend Backend = native_backend>
[[noreturn]] void exit(int code) {
  if (!detail::own().by_fork) std::exit(code);
  detail::end_work<Backend>();
  Backend::exit_now(code);
}

}  // namespace this_process

/// How many processors this process may use: its affinity and its quota respected; at least 1.
[[nodiscard]] inline unsigned usable_cpus() noexcept { return native_backend::usable_cpus(); }

/// A process and all that descends from it, parents before their children; empty when there is no such process, or the
/// system has no table of processes (the portable POSIX backend asks the ps command). Takes some milliseconds.
template <backend Backend = native_backend>
[[nodiscard]] std::vector<process_row> process_tree(long pid = Backend::current_pid()) {
  return Backend::processes(pid);
}

[[nodiscard]] inline char const* to_string(process_state state) noexcept {
  switch (state) {
    case process_state::fresh: return "new";
    case process_state::ready: return "ready";
    case process_state::running: return "running";
    case process_state::blocked: return "blocked";
    case process_state::stopped: return "stopped";
    case process_state::ended: return "ended";
    case process_state::unknown: break;
  }
  return "unknown";
}

/// The rows as a table, children indented below their parents. What the system cannot tell is a "?".
template <class = void>
[[nodiscard]] std::string format_process_tree(std::vector<process_row> const& rows) {
  auto const number = [](auto const& value) { return value ? std::to_string(*value) : std::string("?"); };
  auto const depth_of = [&](process_row const& row) {
    std::size_t depth = 0;
    long parent = row.parent;
    for (auto i = rows.size(); i-- > 0;)
      if (rows[i].pid == parent && rows[i].pid != row.pid) {
        ++depth;
        parent = rows[i].parent;
      }
    return depth;
  };
  std::vector<std::array<std::string, 10>> cells;
  cells.push_back({"PID", "PARENT", "STATE", "USER", "THREADS", "CPU", "MEMORY", "OPEN", "PRIORITY", "NAME"});
  for (auto const& row : rows) {
    std::string cpu = "?";
    if (row.cpu_time) {
      auto const hundredths = row.cpu_time->count() / 10000;
      cpu = std::to_string(hundredths / 100) + (hundredths % 100 < 10 ? ".0" : ".") + std::to_string(hundredths % 100) + " s";
    }
    cells.push_back({std::to_string(row.pid), std::to_string(row.parent), to_string(row.state),
                     row.user.empty() ? "?" : row.user, number(row.threads), cpu,
                     row.memory ? std::to_string(*row.memory / 1024) + " KiB" : "?", number(row.descriptors),
                     number(row.priority), std::string(2 * depth_of(row), ' ') + row.name});
  }
  std::array<std::size_t, 10> width{};
  for (auto const& line : cells)
    for (std::size_t i = 0; i < line.size(); ++i) width[i] = std::max(width[i], line[i].size());
  std::string text;
  for (auto const& line : cells) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      bool const left = i == 2 || i == 3 || i == 9;
      std::string const pad(width[i] - line[i].size(), ' ');
      text += left ? line[i] + (i == 9 ? "" : pad) : pad + line[i];
      text += i == 9 ? "\n" : "  ";
    }
  }
  return text;
}

}  // namespace polyproc::inline v0_1
