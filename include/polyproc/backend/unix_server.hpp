/// The helper from which children are forked (start_served).
///
/// A child forked from this process would inherit locks that its other threads hold, and the fork would cost the more the
/// more memory is in use. So a fresh image of this program, which got no further than adopt(), makes the copies: a process
/// of one thread, small, with nothing in it but what static constructors made. It always has one copy in reserve, which
/// waits for work, so that starting a child costs a wake-up.
///
///   this process                      helper                           reserve
///   has it started     ----------->   blocks all signals
///                                     forks a reserve  ------------->  waits on its socket
///   takes the socket   <-----------   {pid} + its socket
///   {work, flags} + descriptors  ---------------------------------->   streams, directory, environment, signals: it is
///   {next, work}       ----------->   forks the next reserve           the child, and returns from adopt()
///
/// Who dies or stops where: the sockets of the dead read as ended, so
/// - this process dies: the helper and the reserve end (the kernel kills them too: they are its daemons);
/// - the helper dies: the reserve in hand can still be used; then another helper is started;
/// - the reserve dies (or is killed before it read its work): sending fails, or its end is seen as that of any child;
/// - the helper is stopped: after two seconds without an answer it is told to go on, then given up for another one.
///
/// Where the system can make a process a child of its maker's parent (linux_backend), the children are this process's own.
/// The number of the newest one is put by the system into a page that both share, in one step with the fork: a helper that
/// is killed before it can tell us of a reserve would leave a child that nobody knows. Elsewhere they are the helper's: it puts their status into the word that came with their work, and reaps them when it is
/// told that nothing more will be sent to that number.
#pragma once

#include <polyproc/backend/unix_children.hpp>

namespace polyproc::inline v0_1::detail {

template <class Derived>
struct unix_server : unix_children<Derived> {
  using base = unix_children<Derived>;
  using typename base::child;
  using typename base::start;
  using base::handle_close;
  using base::now;
  using base::poll_until;
  using base::make_sockets;
  using base::quietly;

  static constexpr bool has_server = true;

  /// What is worth doing in the helper and again in its copies while they wait.
  static inline void (*rehearsal)() noexcept = nullptr;

  static std::optional<child> start_served(start const& s) {
    base::watch_forks();
    Derived::family();
    typename Derived::start_hold const excluding_forks;
    server_hold const hold;
    bury();
    if (!Derived::can_pass_directory(server_.control >= 0 && !(place::now() == server_.directory))) return std::nullopt;
    for (int tries = 0; tries < 3 && !server_.impossible; ++tries) {
      if ((server_.control >= 0 || server_.reserve >= 0) && !(facts_of_process::now() == server_.facts)) retire();
      if (server_.control < 0) start_server();
      if (!await_reserve()) continue;
      child made;
      if (give_work(s, made)) return made;
    }
    return std::nullopt;
  }

  /// For unix_children: of children that are the helper's own.
  static bool helper_lives(child const& c) noexcept {
    if (server_lock_.try_lock()) {  // it may not know of that child yet
      pay();
      unlock_server();
    }
    return ::kill(c.helper, 0) == 0 && !helper_ended(c.helper);
  }
  /// Never waits for a start (unless there is no room for the note).
  static void helper_may_reap(child const& c) noexcept {
    bool noted = false;
    {
      std::scoped_lock hold{reapable_lock_};
      noted = reapable_count_ < reapable_.size();
      if (noted) reapable_[reapable_count_++] = {c.pid, c.helper};
    }
    if (noted) {
      if (server_lock_.try_lock()) unlock_server();
    } else {
      server_hold const hold;
      tell_reapable({c.pid, c.helper});
    }
  }
  /// Never waits for a start. True when in doubt; but of children that are this process's own the system tells.
  static bool helpers_have_children() noexcept {
    if (!server_lock_.try_lock()) return !Derived::children_are_ours;
    bury();
    tell_all_reapable();
    bool const some = server_.helper_children > 0;
    unlock_server();
    return some;
  }

 protected:
  enum class order : std::uint32_t { page, next, reap };
  struct control_message {
    order what;
    std::int32_t pid;
    std::uint64_t work;
  };
  struct reserve_message {
    std::int32_t pid;    // of the reserve; negative: the number of the error that forking gave
    std::int32_t final;  // there will never be one
  };
  enum : std::uint32_t { has_directory = 8, has_environment = 16, has_life = 32, has_alive = 64, stream_closed = 256 };
  struct work_message {
    std::uint64_t work;
    std::uint32_t flags;  // flags_of, what descriptors follow, and stream_closed << stream
    std::uint32_t passed;  // streams, the last of the descriptors
  };
  static constexpr std::size_t most_descriptors = 7 + base::most_passed;

  /// What a child inherits from the helper that would be wrong once it has changed here.
  struct facts_of_process {
    uid_t user;
    uid_t effective_user;
    gid_t group;
    gid_t effective_group;
    pid_t process_group;
    pid_t session;
    int niceness;
    dev_t root_device;
    ino_t root;
    std::uint64_t more;  // what the system has besides
    static facts_of_process now() noexcept {
      struct stat root {};
      ::stat("/", &root);
      return {::getuid(),  ::geteuid(), ::getgid(), ::getegid(),  ::getpgrp(),
              ::getsid(0), ::getpriority(PRIO_PROCESS, 0), root.st_dev, root.st_ino, Derived::more_facts()};
    }
    friend bool operator==(facts_of_process const&, facts_of_process const&) = default;
  };

  struct place {
    dev_t device = 0;
    ino_t number = 0;
    static place now() noexcept {
      struct stat info {};
      if (::stat(".", &info) != 0) return {};
      return {info.st_dev, info.st_ino};
    }
    friend bool operator==(place const&, place const&) = default;
  };

  static std::uint64_t environment_hash() noexcept {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (char** one = environ; one != nullptr && *one != nullptr; ++one)
      for (char const* c = *one;; ++c) {
        hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001b3ULL;
        if (*c == '\0') break;
      }
    return hash;
  }

  /// What a helper's page holds.
  using newest_child = std::atomic<std::int32_t>;
  static constexpr std::size_t page_size = 4096;

  struct server_state {
    int control = -1;   // socket to the helper
    newest_child* page = nullptr;
    pid_t told = 0;     // the last reserve that we know of
    pid_t pid = 0;      // of the helper, whose status we take when it has ended
    int reserve = -1;   // socket to the reserve
    pid_t reserve_pid = 0;
    pid_t reserve_of = 0;     // the helper that made it, which may be dead by now
    bool fresh = false;       // has not yet shown a reserve
    bool impossible = false;  // in this program, or on this system
    int failures = 0;         // helpers in a row that showed none
    std::optional<control_message> owed{};  // what could not be sent to it yet
    unsigned helper_children = 0;
    facts_of_process facts{};
    place directory{};
    std::uint64_t environment = 0;
  };

  static void fork_prepare() noexcept {
    server_lock_.lock();
    base::fork_prepare();
    reapable_lock_.lock();
  }
  static void fork_parent() noexcept {
    reapable_lock_.unlock();
    base::fork_parent();
    unlock_server();
  }
  static void forked() noexcept {
    handle_close(server_.control);
    handle_close(server_.reserve);
    server_ = server_state{};
    former_count_ = 0;  // their pages stay mapped: it is not worth the looking
    reapable_count_ = 0;
    reapable_lock_.unlock();
    server_lock_.unlock();
    base::forked();
  }

  // --- here

  /// A start has server_lock_ for as long as a helper takes to answer, which may be seconds. Those who must not wait so
  /// long leave a note in reapable_, under a lock that is only ever held for a moment, and then try server_lock_ once.
  /// Whoever has that sees to the notes, and once more behind the unlocking: so none that was left meanwhile stays.
  struct reapable {
    pid_t pid;
    pid_t helper;
  };
  struct server_hold {
    server_hold() noexcept { server_lock_.lock(); }
    server_hold(server_hold const&) = delete;
    server_hold& operator=(server_hold const&) = delete;
    ~server_hold() { unlock_server(); }
  };
  static void unlock_server() noexcept {
    for (;;) {
      tell_all_reapable();
      server_lock_.unlock();
      if constexpr (Derived::children_are_ours) return;  // then there are no notes
      {
        std::scoped_lock hold{reapable_lock_};
        if (reapable_count_ == 0) return;
      }
      if (!server_lock_.try_lock()) return;
    }
  }
  static void tell_all_reapable() noexcept {
    if constexpr (Derived::children_are_ours) return;
    for (;;) {
      reapable next{};
      {
        std::scoped_lock hold{reapable_lock_};
        if (reapable_count_ == 0) return;
        next = reapable_[--reapable_count_];
      }
      tell_reapable(next);
    }
  }
  static void tell_reapable(reapable const& one) noexcept {
    if (server_.helper_children > 0) --server_.helper_children;
    pay();
    int const to = one.helper == server_.pid ? server_.control : -1;
    if (to >= 0) (void)tell(to, {order::reap, one.pid, 0});
  }

  static void start_server() {
    int ends[2];
    make_sockets(ends);
    scoped_fd mine{ends[0]};
    scoped_fd const its{ends[1]};
    server_.facts = facts_of_process::now();
    server_.directory = place::now();
    server_.environment = environment_hash();
    start s;
    s.daemon = true;
    s.ignore_interrupt = true;
    scoped_fd const in{base::open_stream(stream_mode::null_in, {})};
    scoped_fd const out{base::open_stream(stream_mode::null_out, {})};
    // It must not keep the program's own output open.
    s.streams = {in.get(), out.get(), out.get()};
    scoped_fd const page{Derived::segment_create(page_size)};
    auto* const shared = base::segment_map(page.get(), page_size, true);
    child made;
    try {
      made = Derived::start_this_image(s, its.get());
    } catch (...) {
      base::segment_unmap(shared, page_size);
      throw;
    }
    handle_close(made.end);
    int const end = page.get();
    bool const told = send(mine.get(), control_message{order::page, 0, 0}, {&end, 1});
    if (int const why = errno; !told && why != EPIPE && why != ECONNRESET) {  // if it is dead, its silence will say so
      ::kill(made.pid, SIGKILL);
      remember_former({made.pid});
      base::segment_unmap(shared, page_size);
      throw_errno("sendmsg to the process from which children are forked", why);
    }
    server_.page = reinterpret_cast<newest_child*>(shared);
    server_.told = 0;
    server_.pid = made.pid;
    server_.control = mine.release();
    server_.fresh = true;
  }

  /// Until a reserve is in hand. False: this helper has none to give, and is gone.
  static bool await_reserve() {
    while (server_.reserve < 0) {
      pay();
      // Before main there may be much to construct.
      auto const patience = now() + (server_.fresh ? std::chrono::seconds{30} : std::chrono::seconds{2});
      reserve_message told{};
      int socket = -1;
      bool there = poll_until(server_.control, patience);
      if (!there) {
        ::kill(server_.pid, SIGCONT);
        there = poll_until(server_.control, now() + std::chrono::seconds{2});
      }
      if (!there || !receive(server_.control, told, {&socket, 1})) {
        // One that was killed from outside before it was ready says nothing about the next one.
        if (server_.fresh && !(there && killed(server_.pid)) && ++server_.failures >= 2) server_.impossible = true;
        if (Derived::children_are_ours) ::kill(server_.pid, SIGKILL);
        retire();
        return false;
      }
      if (told.final != 0) {
        server_.impossible = true;
        retire();
        return false;
      }
      server_.fresh = false;
      server_.failures = 0;
      if (told.pid > 0) server_.told = told.pid;
      if (told.pid < 0) {
        tell_next({order::next, 0, 0});  // it may be better next time
        throw_errno("fork in the process from which children are forked", -told.pid);
      }
      if (socket < 0) {  // the system drops what there is no number for, and so the reserve ends
        if (Derived::children_are_ours) remember_former({told.pid});
        tell_next({order::next, 0, 0});
        throw_errno("recvmsg of a descriptor", EMFILE);
      }
      server_.reserve = socket;
      server_.reserve_pid = told.pid;
      server_.reserve_of = server_.pid;
    }
    return true;
  }

  /// False when the reserve is dead. Then nothing has happened.
  static bool give_work(start const& s, child& made) {
    work_message message{s.work, base::flags_of(s), static_cast<std::uint32_t>(s.pass.size())};
    typename base::passengers const passed(s);
    std::array<int, most_descriptors> pass{};
    std::size_t count = 0;
    for (unsigned i = 0; i < 3; ++i) {
      int const own = s.streams[i] >= 0 ? s.streams[i] : static_cast<int>(i);
      if (s.streams[i] < 0 && ::fcntl(own, F_GETFD) < 0) {
        message.flags |= stream_closed << i;
        continue;
      }
      pass[count++] = own;
    }
    scoped_fd directory;
    if (!(place::now() == server_.directory)) {
      directory.reset(::open(".", Derived::open_to_enter | O_DIRECTORY | O_CLOEXEC));
      if (directory.get() < 0) throw_errno("open of this process's directory");
      message.flags |= has_directory;
      pass[count++] = directory.get();
    }
    scoped_fd environment;
    if (s.environment != nullptr || environment_hash() != server_.environment) {
      environment = write_environment(s.environment != nullptr ? *s.environment : base::environment_list());
      message.flags |= has_environment;
      pass[count++] = environment.get();
    }
    typename base::alive_pipe alive;
    if (s.daemon && !Derived::reserve_is_armed) {
      message.flags |= has_life;
      pass[count++] = base::life_read_end();
    }
    if (!Derived::watched_by_pidfd()) {
      alive.make();
      message.flags |= has_alive;
      pass[count++] = alive.write.get();
    }
    for (int const fd : passed.all()) pass[count++] = fd;
    made.pid = server_.reserve_pid;
    made.group = s.group;
    try {
      Derived::watch_reserve(made, server_.reserve_of);
    } catch (std::system_error const& refused) {
      if (refused.code().value() != ESRCH) throw;
      // Dead, and its status was taken by somebody else (or nobody is to have any: SIGCHLD ignored).
      server_.reserve_pid = 0;
      handle_close(std::exchange(server_.reserve, -1));
      if (server_.reserve_of == server_.pid) tell_next({order::next, 0, 0});
      return false;
    }
    if (made.end < 0) made.end = alive.read.release();
    scoped_fd const socket{std::exchange(server_.reserve, -1)};
    server_.reserve_pid = 0;  // from now on it is the child, whose status others take
    // A fresh process is not stopped. This one may have been, with its group. It is woken before it has work: afterwards a
    // stop would be somebody's that is meant for it (a debugger's, say, or that of a leak checker at its end).
    ::kill(made.pid, SIGCONT);
    bool const sent = send(socket.get(), message, {pass.data(), count});
    if (server_.reserve_of == server_.pid) tell_next({order::next, sent ? made.pid : 0, sent ? s.work : 0});
    if (sent) {
      if (made.helper != 0) {
        made.word = reinterpret_cast<std::atomic<std::uint64_t>*>(Derived::family().base + s.work);
        ++server_.helper_children;
      }
      return true;
    }
    if (made.helper == 0) {
      ::kill(made.pid, SIGKILL);  // if it was not dead
      base::reap(made);
    }
    base::release(made);
    return false;
  }

  /// No more work for this helper. It ends by itself, as soon as it has no more children.
  static void retire() noexcept {
    handle_close(std::exchange(server_.reserve, -1));
    if (server_.reserve_pid != 0 && Derived::children_are_ours) remember_former({server_.reserve_pid});
    server_.reserve_pid = 0;
    pay();
    server_.owed.reset();
    handle_close(std::exchange(server_.control, -1));
    remember_former({std::exchange(server_.pid, 0), std::exchange(server_.page, nullptr), server_.told});
  }

  /// A helper (with its page) or a reserve that was given up, and whose status is still to be taken.
  struct former {
    pid_t pid = 0;
    newest_child* page = nullptr;
    pid_t told = 0;
  };
  static void remember_former(former one) noexcept {
    if (one.pid > 0 && former_count_ < former_.size()) former_[former_count_++] = one;
  }
  static void bury() noexcept {
    if (server_.pid != 0 && helper_ended(server_.pid)) {
      // Its last word may be a reserve, which is as good as any.
      reserve_message told{};
      int socket = -1;
      pollfd look{server_.control, POLLIN, 0};
      if (server_.reserve < 0 && ::poll(&look, 1, 0) > 0 && receive(server_.control, told, {&socket, 1}) && socket >= 0) {
        // One that is the dead helper's child would end in a way that nobody can tell.
        if (!Derived::children_are_ours) handle_close(std::exchange(socket, -1));
        server_.reserve = socket;
        server_.reserve_pid = server_.told = told.pid;
        server_.reserve_of = server_.pid;
      }
      if (!Derived::children_are_ours) handle_close(std::exchange(server_.reserve, -1));
      server_.owed.reset();
      handle_close(std::exchange(server_.control, -1));
      remember_former({std::exchange(server_.pid, 0), std::exchange(server_.page, nullptr), server_.told});
    }
    for (std::size_t i = 0; i < former_count_;) {
      auto& one = former_[i];
      int raw = 0;
      if (::waitpid(one.pid, &raw, WNOHANG) == 0) {
        ++i;
        continue;
      }
      // It makes no more of them now.
      pid_t unknown = 0;
      if (one.page != nullptr) {
        auto const newest = one.page->load();
        if (newest != one.told) unknown = newest;
        base::segment_unmap(reinterpret_cast<std::byte*>(one.page), page_size);
      }
      if (unknown > 0) {
        one = former{unknown};
      } else {
        one = former_[--former_count_];
      }
    }
  }
  /// Of a helper whose socket is closed: its end comes a moment later, unless it closed that itself.
  static bool killed(pid_t pid) noexcept {
    auto const patience = now() + std::chrono::milliseconds{100};
    for (;;) {
      siginfo_t info{};
      int const got = ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT);
      if (got == 0 && info.si_pid != 0) return info.si_code == CLD_KILLED && info.si_status == SIGKILL;
      if ((got != 0 && errno != EINTR) || now() >= patience) return false;
      base::nap(std::chrono::microseconds{200}, patience);
    }
  }
  static bool helper_ended(pid_t pid) noexcept {
    siginfo_t info{};
    int got = 0;
    do got = ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT);
    while (got != 0 && errno == EINTR);
    return got != 0 || info.si_pid != 0;
  }

  // --- messages

  /// One message whole, with descriptors; false when nobody can read it.
  template <class Message>
  static bool send(int socket, Message const& message, std::span<int const> descriptors, int how = 0) noexcept {
    alignas(cmsghdr) std::byte space[CMSG_SPACE(sizeof(int) * most_descriptors)]{};
    iovec part{const_cast<Message*>(&message), sizeof message};
    msghdr head{};
    head.msg_iov = &part;
    head.msg_iovlen = 1;
    if (!descriptors.empty()) {
      head.msg_control = space;
      head.msg_controllen = static_cast<decltype(head.msg_controllen)>(CMSG_SPACE(descriptors.size_bytes()));
      cmsghdr* const about = CMSG_FIRSTHDR(&head);
      about->cmsg_level = SOL_SOCKET;
      about->cmsg_type = SCM_RIGHTS;
      about->cmsg_len = static_cast<decltype(about->cmsg_len)>(CMSG_LEN(descriptors.size_bytes()));
      std::memcpy(CMSG_DATA(about), descriptors.data(), descriptors.size_bytes());
    }
    ssize_t put = 0;
    do put = ::sendmsg(socket, &head, quietly | how);
    while (put < 0 && errno == EINTR);
    return put == static_cast<ssize_t>(sizeof message);  // it is far smaller than any socket's buffer
  }
  /// To a helper. One that has not read thousands of these is stopped, and will be replaced.
  static bool tell(int socket, control_message const& message) noexcept {
    return send(socket, message, {}, MSG_DONTWAIT);
  }
  /// What it must not miss: sent later, when the system had no memory for it. There is never more than one of these.
  static void tell_next(control_message const& message) noexcept {
    if (!tell(server_.control, message)) server_.owed = message;
  }
  static void pay() noexcept {
    if (server_.owed && tell(server_.control, *server_.owed)) server_.owed.reset();
  }

  /// False at the end of file, or when the message is none. Descriptors that did not come are -1.
  template <class Message>
  static bool receive(int socket, Message& message, std::span<int> descriptors) noexcept {
    for (int& fd : descriptors) fd = -1;
    alignas(cmsghdr) std::byte space[CMSG_SPACE(sizeof(int) * most_descriptors)]{};
    iovec part{&message, sizeof message};
    msghdr head{};
    head.msg_iov = &part;
    head.msg_iovlen = 1;
    head.msg_control = space;
    head.msg_controllen = sizeof space;
    ssize_t got = 0;
    do got = ::recvmsg(socket, &head, MSG_WAITALL | Derived::receive_closing);
    while (got < 0 && errno == EINTR);
    for (cmsghdr* about = CMSG_FIRSTHDR(&head); about != nullptr; about = CMSG_NXTHDR(&head, about)) {
      if (about->cmsg_level != SOL_SOCKET || about->cmsg_type != SCM_RIGHTS) continue;
      auto const count = (static_cast<std::size_t>(about->cmsg_len) - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(about) + i * sizeof(int), sizeof fd);
        if (Derived::receive_closing == 0) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
        if (i < descriptors.size()) descriptors[i] = fd;
        else ::close(fd);
      }
    }
    return got == static_cast<ssize_t>(sizeof message);
  }

  /// As a descriptor, because it may be large: each string with its end.
  static scoped_fd write_environment(std::vector<std::string> const& all) {
    std::size_t size = 1;
    for (auto const& one : all) size += one.size() + 1;
    scoped_fd memory{Derived::segment_create(size)};
    auto* const at = base::segment_map(memory.get(), size, true);
    auto* to = at;
    for (auto const& one : all) {
      std::memcpy(to, one.c_str(), one.size() + 1);
      to += one.size() + 1;
    }
    base::segment_unmap(at, size);
    return memory;
  }
  static void read_environment(int memory) {
    struct stat info {};
    if (::fstat(memory, &info) != 0 || info.st_size < 1) return;
    auto const size = static_cast<std::size_t>(info.st_size);
    auto* const at = base::segment_map(memory, size, false);
    std::vector<std::string> all;
    for (std::size_t i = 0; i < size && at[i] != std::byte{};) {
      all.emplace_back(reinterpret_cast<char const*>(at + i), ::strnlen(reinterpret_cast<char const*>(at + i), size - i));
      i += all.back().size() + 1;
    }
    base::segment_unmap(at, size);
    base::replace_environment(all);
  }

  // --- in the helper

  struct helper_child {
    pid_t pid;
    std::uint64_t work;
    bool told;  // its status is in its word
  };

  /// Serves until the parent is gone; returns the work in each child. `life` tells of the parent's end.
  static std::uint64_t serve(int control, int life) {
    base::clean_dispositions(false);
    hold_signals();
    auto const parent = ::getppid();
    Derived::helper_begins();
    bool const no_server = Derived::cannot_serve();
    if (rehearsal != nullptr) rehearsal();
    control_message first{};
    int page = -1;
    if (!receive(control, first, {&page, 1}) || page < 0) ::_exit(0);
    auto* const newest = reinterpret_cast<newest_child*>(base::segment_map(page, page_size, true));
    ::close(page);
    bool const page_stays = Derived::keep_from_copies(reinterpret_cast<std::byte*>(newest), page_size);
    std::vector<helper_child> ours;
    pid_t reserve = 0;
    for (bool wanted = true;;) {
      if (wanted) {
        wanted = false;
        int ends[2];
        reserve_message told{0, 0};
        try {
          told.final = no_server ? 1 : 0;
          if (told.final == 0) make_sockets(ends);
        } catch (std::system_error const& failure) {
          told.pid = -failure.code().value();
        }
        if (told.pid == 0 && told.final == 0) {
          scoped_fd its{ends[0]};
          scoped_fd socket{ends[1]};
          int const watch = Derived::reserve_watch(life);
          auto const pid = Derived::fork_for_parent(*newest);
          if (pid == 0) {
            ::close(control);
            if (!page_stays) base::segment_unmap(reinterpret_cast<std::byte*>(newest), page_size);
            its.reset();
            return become_child(socket.release(), watch, life, parent);
          }
          handle_close(watch);
          told.pid = pid > 0 ? pid : -errno;
          reserve = pid;
          told.final = pid < 0 && (errno == EINVAL || errno == ENOSYS || errno == EPERM) ? 1 : 0;
          int const end = its.get();
          if (!send(control, told, {&end, pid > 0 ? 1U : 0U}) && ::getppid() != parent) ::_exit(0);
        } else {
          (void)send(control, told, {});
        }
      }
      if (!Derived::helper_waits(control, ours)) continue;
      control_message told{};
      if (!receive(control, told, {})) {
        if (::getppid() != parent || Derived::children_are_ours) ::_exit(0);
        Derived::helper_lingers(ours, parent);
        ::_exit(0);
      }
      if (told.what == order::next) {
        wanted = true;
        if (Derived::children_are_ours || reserve <= 0) continue;
        if (told.work != 0) {
          ours.push_back({reserve, told.work, false});
        } else {  // it is dead
          ::kill(reserve, SIGKILL);
          ::waitpid(reserve, nullptr, 0);
        }
      } else {
        for (auto& one : ours) {
          if (one.pid != told.pid) continue;
          int raw = 0;
          ::waitpid(one.pid, &raw, 0);
          one = ours.back();
          ours.pop_back();
          break;
        }
      }
    }
  }

  /// What a terminal sends to its whole group is not meant for one who waits for work: it is ignored, and not blocked,
  /// because what is blocked stays pending. All else does.
  static void hold_signals() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    for (int const number : from_terminal) {
      ::signal(number, SIG_IGN);
      ::sigdelset(&all, number);
    }
    ::sigdelset(&all, SIGCONT);  // which does nothing to one who is not stopped
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  }
  static constexpr std::array from_terminal{SIGINT, SIGQUIT, SIGHUP, SIGTSTP, SIGTTIN, SIGTTOU};

  /// In the child: signals are as in a fresh image. The helper has seen to all others, before hold_signals.
  static void let_signals_come(bool ignore_interrupt) noexcept {
    // What was sent to the group while this was nobody's work is not meant for it (who sends to the child waits until its
    // work has begun). To ignore a signal is to forget it.
    sigset_t pending;
    ::sigpending(&pending);
    for (int number = 1; number < NSIG; ++number) {
      if (::sigismember(&pending, number) != 1) continue;
      ::signal(number, SIG_IGN);
      ::signal(number, SIG_DFL);
    }
    ::signal(SIGCHLD, SIG_DFL);  // of which some helpers want to be told
    for (int const number : from_terminal)
      if (!ignore_interrupt || number != SIGINT) ::signal(number, SIG_DFL);
    sigset_t none;
    ::sigemptyset(&none);
    ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  }

  /// In the reserve: waits for its work.
  static std::uint64_t become_child(int socket, int watch, int life, pid_t parent) {
    Derived::reserve_begins(watch, life, parent);
    work_message told{};
    std::array<int, most_descriptors> fds{};
    if (rehearsal != nullptr) rehearsal();
    if (!receive(socket, told, fds)) ::_exit(0);
    std::size_t next = 0;
    auto const take = [&] {
      int const fd = fds[next++];
      if (fd >= 0) return fd;
      base::write_stderr("polyproc: a child of the fork server has too few descriptors (ulimit -n) for what it is given\n");
      ::_exit(127);
    };
    for (int i = 0; i < 3; ++i) {
      if ((told.flags & (stream_closed << i)) != 0) {
        ::close(i);
        continue;
      }
      int const fd = take();
      ::dup2(fd, i);
      ::close(fd);
    }
    if ((told.flags & has_directory) != 0) {
      int const there = take();
      if (::fchdir(there) != 0) {
        base::write_stderr("polyproc: a child of the fork server cannot enter the directory of its parent\n");
        ::_exit(127);
      }
      ::close(there);
    }
    if ((told.flags & has_environment) != 0) {
      int const all = take();
      read_environment(all);
      ::close(all);
    }
    if ((told.flags & has_life) != 0) life = take();
    if ((told.flags & has_alive) != 0) base::own_.alive = take();
    for (std::size_t i = 0; i < told.passed; ++i) base::passed_[i] = take();
    base::passed_count_ = told.passed;
    base::own_.parent_pid = parent;
    bool const daemon = (told.flags & base::flag_daemon) != 0;
    bool const group = (told.flags & base::flag_group) != 0;
    Derived::reserve_works(daemon, group, life);
    if (group) ::setpgid(0, 0);
    let_signals_come((told.flags & base::flag_ignore_interrupt) != 0);
    ::close(socket);
    return told.work;
  }

  static inline lasting_mutex server_lock_;
  static inline lasting_mutex reapable_lock_;
  static inline std::array<reapable, 1024> reapable_{};
  static inline std::size_t reapable_count_ = 0;
  static inline server_state server_{};
  static inline std::array<former, 64> former_{};
  static inline std::size_t former_count_ = 0;
};

}  // namespace polyproc::inline v0_1::detail
