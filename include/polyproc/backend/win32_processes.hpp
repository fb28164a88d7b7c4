/// The table of processes of Windows, and what descends from whom in it.
#pragma once

#include <polyproc/backend/win32_support.hpp>

#include <cstring>

namespace polyproc::inline v0_1::detail::win32 {

/// What the system tells of a process to everybody.
struct process_fact {
  dword number = 0;
  dword parent = 0;
  std::uint64_t created = 0;
  std::uint64_t cpu_time = 0;  // of 100 ns
  std::uint64_t memory = 0;
  dword threads = 0;
  dword handles = 0;
  process_state state = process_state::unknown;
  std::wstring name;
};

/// From the states of its threads; a system that leaves them out has zeros there.
inline process_state state_of(std::span<system_thread const> threads) noexcept {
  if (threads.empty()) return process_state::ended;
  constexpr dword ready = 1;
  constexpr dword running = 2;
  constexpr dword standby = 3;
  constexpr dword waiting = 5;
  constexpr dword deferred_ready = 7;
  constexpr dword suspended = 5;      // of the reasons to wait
  constexpr dword was_suspended = 12;
  bool runs = false;
  bool could_run = false;
  bool waits = false;
  bool all_suspended = true;
  for (auto const& one : threads) {
    runs = runs || one.state == running || one.state == standby;
    could_run = could_run || one.state == ready || one.state == deferred_ready;
    waits = waits || one.state == waiting;
    all_suspended = all_suspended && one.state == waiting &&
                    (one.wait_reason == suspended || one.wait_reason == was_suspended);
  }
  if (all_suspended) return process_state::stopped;
  if (runs) return process_state::running;
  if (could_run) return process_state::ready;
  return waits ? process_state::blocked : process_state::unknown;
}

/// All processes, in one look: unlike the snapshots of the tool help library this also tells when each was created,
/// without which nobody knows whether a parent's number still means the parent. Empty: the system does not tell.
inline std::vector<process_fact> process_facts() {
  std::vector<process_fact> facts;
  auto* const query = lookup<query_system_function>(L"ntdll.dll", "NtQuerySystemInformation");
  if (query == nullptr) return facts;
  std::vector<std::max_align_t> memory(64 * 1024 / sizeof(std::max_align_t));
  for (;;) {
    auto const room = static_cast<dword>(memory.size() * sizeof(std::max_align_t));
    dword need = 0;
    auto const status = query(system_process_table, memory.data(), room, &need);
    if (status >= 0) break;
    if (static_cast<dword>(status) != info_length_mismatch) return facts;
    memory.resize(((std::max)(need, room) + 64 * 1024) / sizeof(std::max_align_t));  // more may come meanwhile
  }
  auto const* at = reinterpret_cast<std::byte const*>(memory.data());
  auto const number = [](void const* id) { return static_cast<dword>(reinterpret_cast<std::uintptr_t>(id)); };
  for (;;) {
    auto const& one = *reinterpret_cast<system_process const*>(at);
    std::span const threads{reinterpret_cast<system_thread const*>(at + sizeof one), one.threads};
    process_fact fact;
    fact.number = number(one.id);
    fact.parent = number(one.parent);
    fact.created = static_cast<std::uint64_t>(one.created);
    fact.cpu_time = static_cast<std::uint64_t>(one.user_time + one.kernel_time);
    fact.memory = one.working_set;
    fact.threads = one.threads;
    fact.handles = one.handles;
    fact.state = state_of(threads);
    if (one.image.text != nullptr) fact.name.assign(one.image.text, one.image.bytes / sizeof(wchar_t));
    if (fact.number != 0) facts.push_back(std::move(fact));  // 0 is what processors do when there is nothing to do
    if (one.next == 0) return facts;
    at += one.next;
  }
}

/// Numbers are used again, and whoever bears the number of a parent that is gone has not become the parent.
inline bool descends(process_fact const& child, dword parent, std::uint64_t parent_created) noexcept {
  return child.parent == parent && child.created >= parent_created;
}

/// Ends a process and all that descends from it, whatever it starts meanwhile. `root` may have ended already. Each is
/// held open until all are gone, so that its number goes on meaning it. Returns why some could not be ended, or 0.
inline dword end_tree(handle_type root, dword root_number, unsigned code) {
  struct member {
    dword number = 0;
    std::uint64_t created = 0;
    scoped_handle process;
  };
  std::vector<member> tree;
  dword denied = 0;
  bool me = false;
  auto const gone = [](handle_type process, dword milliseconds) {
    return WaitForSingleObject(process, milliseconds) == wait_signaled;
  };
  auto const end = [&](handle_type process) {
    if (TerminateProcess(process, code) != 0) return;
    auto const why = GetLastError();
    if (!gone(process, 100)) denied = why;  // denied also for one that is on its way out
  };
  if (root_number == GetCurrentProcessId())
    me = true;
  else
    end(root);
  gone(root, 1000);
  tree.push_back({root_number, created_process(root), scoped_handle{}});
  for (std::size_t before = 0; before != tree.size();) {
    auto const fresh = std::exchange(before, tree.size());
    // A process may have been about to start one when it was ended; once it is gone the table shows all that it started.
    for (std::size_t i = fresh; i < tree.size(); ++i) {
      if (tree[i].process.get() != nullptr) gone(tree[i].process.get(), 1000);
    }
    // Parents stand before their children in the table mostly; those that do not are found in the next round.
    for (auto const& fact : process_facts()) {
      bool known = false;
      bool below = false;
      for (auto const& one : tree) {
        known = known || (one.number == fact.number && one.created == fact.created);
        below = below || descends(fact, one.number, one.created);
      }
      if (known || !below) continue;
      if (fact.number == GetCurrentProcessId()) {
        me = true;
        tree.push_back({fact.number, fact.created, scoped_handle{}});
        continue;
      }
      scoped_handle process{OpenProcess(process_terminate | process_look | synchronize, 0, fact.number)};
      if (process.get() == nullptr) {
        auto const why = GetLastError();
        if (why == error_invalid_parameter) continue;  // it has ended
        denied = why;
      } else if (created_process(process.get()) != fact.created) {
        continue;  // it has ended, and another one has its number
      } else {
        end(process.get());
      }
      tree.push_back({fact.number, fact.created, std::move(process)});
    }
  }
  if (me) TerminateProcess(GetCurrentProcess(), code);
  return denied;
}

// Classes of priority and the niceness that they stand for.
struct priority_class {
  int niceness;
  dword number;
};
inline constexpr priority_class priority_classes[] = {{19, class_idle},         {10, class_below_normal},
                                                      {0, class_normal},        {-7, class_above_normal},
                                                      {-14, class_high},        {-20, class_realtime}};

struct process_table {
  static std::vector<process_row> processes(long root) {
    auto const facts = process_facts();
    std::vector<bool> taken(facts.size());
    std::vector<process_fact const*> found;
    auto const take = [&](std::size_t i) {
      if (!taken[i]) found.push_back(&facts[i]);
      taken[i] = true;
    };
    for (std::size_t i = 0; i < facts.size(); ++i) {
      if (facts[i].number == static_cast<dword>(root)) take(i);
    }
    for (std::size_t next = 0; next < found.size(); ++next) {
      for (std::size_t i = 0; i < facts.size(); ++i) {
        if (descends(facts[i], found[next]->number, found[next]->created)) take(i);
      }
    }
    user_names names;
    std::vector<process_row> rows;
    for (auto const* fact : found) rows.push_back(row_of(*fact, names));
    return rows;
  }

  static std::optional<process_row> process_alone(long number) {
    for (auto const& fact : process_facts()) {
      if (fact.number != static_cast<dword>(number)) continue;
      user_names names;
      return row_of(fact, names);
    }
    return std::nullopt;
  }

 private:
  /// Names of users; asking for one may reach another computer, so each is asked for once.
  class user_names {
   public:
    std::string of(handle_type process) {
      auto* const open = lookup<open_token_function>(L"advapi32.dll", "OpenProcessToken");
      auto* const query = lookup<query_token_function>(L"advapi32.dll", "GetTokenInformation");
      auto* const account_of = lookup<account_of_function>(L"advapi32.dll", "LookupAccountSidW");
      handle_type raw = nullptr;
      if (open == nullptr || query == nullptr || account_of == nullptr || open(process, token_query, &raw) == 0) return {};
      scoped_handle const token{raw};
      dword size = 0;
      query(raw, token_user, nullptr, 0, &size);  // fails, and tells the size
      std::vector<std::max_align_t> memory(size / sizeof(std::max_align_t) + 1);
      if (query(raw, token_user, memory.data(), size, &size) == 0) return {};
      // The answer begins with a pointer to the user's identifier, which has 8 bytes and 4 more for each of its parts.
      void* sid = nullptr;
      std::memcpy(&sid, memory.data(), sizeof sid);
      auto const* const bytes = static_cast<char const*>(sid);
      std::string const key(bytes, 8 + 4 * std::size_t{static_cast<unsigned char>(bytes[1])});
      for (auto const& [known, called] : known_) {
        if (known == key) return called;
      }
      wchar_t account[257];  // a user's name has 20 characters here, a group's 256
      wchar_t domain[257];
      dword account_size = 257;
      dword domain_size = 257;
      int kind = 0;
      std::string called;
      if (account_of(nullptr, sid, account, &account_size, domain, &domain_size, &kind) != 0)
        called = narrow({account, account_size});
      known_.emplace_back(key, called);
      return called;
    }

   private:
    std::vector<std::pair<std::string, std::string>> known_;
  };

  static process_row row_of(process_fact const& fact, user_names& names) {
    process_row row;
    row.pid = static_cast<long>(fact.number);
    row.parent = static_cast<long>(fact.parent);
    row.state = fact.state;
    row.name = narrow(fact.name);
    row.threads = static_cast<unsigned>(fact.threads);
    row.cpu_time = std::chrono::microseconds(fact.cpu_time / 10);
    row.memory = fact.memory;
    row.descriptors = static_cast<unsigned>(fact.handles);
    scoped_handle const process{OpenProcess(process_look, 0, fact.number)};
    // It may have ended meanwhile, and its number be another's.
    if (process.get() == nullptr || created_process(process.get()) != fact.created) return row;
    row.user = names.of(process.get());
    auto const number = GetPriorityClass(process.get());
    for (auto const& one : priority_classes) {
      if (one.number == number) row.priority = one.niceness;
    }
    return row;
  }
};

}  // namespace polyproc::inline v0_1::detail::win32
