// Ends: whole trees, orderly stops, statuses that nobody mixes up, callbacks.
// timeout: 240

#include "process/start_methods.hpp"

#include <cstdlib>

#if !defined(_WIN32)
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace std::chrono_literals;
using polyproc::process;
using polyproc::process_options;
using polyproc::process_ref;
using kind = polyproc::exit_status::kind;

namespace {

/// A process that finds this in its environment ends before its main begins.
constexpr char const* ends_early = "POLYPROC_TEST_ENDS_EARLY";
/// One where this is set ends behind the library's own exit handlers, before the C library locks its streams.
std::atomic<bool> ends_late{false};
[[maybe_unused]] bool const early = [] {
  if (std::getenv(ends_early) != nullptr) std::_Exit(7);
  std::atexit([] {
    if (ends_late) std::_Exit(9);
  });
  return true;
}();

void sleep_noted(shared_notes n) {
  ++n->count;
  std::this_thread::sleep_for(1h);
}

/// A chain of processes; the last of them are `count`.
void grow(shared_notes n, polyproc::queue<process_ref> to, int depth) {
  if (depth == 0) return sleep_noted(n);
  process below{grow, n, to, depth - 1};
  below.start();
  to.put(below.ref());
  ++n->count;
  std::this_thread::sleep_for(1h);
}

/// Leaves a child behind that goes on alone.
void leave_orphan(shared_notes n, polyproc::queue<process_ref> to) {
  process below{sleep_noted, n};
  below.start();
  to.put(below.ref());
  until(n->count, 1);
  below.detach();
}

void never_called(polyproc::pipe_end<std::string, std::string> end, polyproc::queue_sender<int> const&) { end.send("never"); }

void wait_until_b(shared_notes n) {
  ++n->count;
  until(n->b, 1);
}

void leave_callbacks_to_the_exit(shared_notes n) {
  static auto* const kept = new shared_notes(n);
  static auto* const below = new process{wait_until_b, n};
  below->start();
  // At the exit this comes when the thread for callbacks has ended, and before the children are waited for: handlers run in
  // the reverse order, and that of the thread is set with the first callback.
  std::atexit([] { (*kept)->b = 1; });
  for (int i = 0; i < 3; ++i)
    below->on_exit([i](polyproc::exit_status const&) {
      ++(*kept)->a;
      if (i == 0) throw std::runtime_error("of a callback at the exit, on purpose");
    });
}

struct counted {
  shared_notes to;
  void run() const { to->a = 1; }
};

/// A child that takes a while until its work begins: it is given an environment that takes long to copy. (A fresh image
/// takes long anyway, and could not be given so much.)
[[maybe_unused]] process_options slow_to_begin(polyproc::start_method method) {
  process_options options{.start = method};
  if (method == polyproc::start_method::forkserver)
    options.environment = {{"POLYPROC_TEST_BULK", std::string(std::size_t{1} << 23, 'x')}};
  return options;
}

#if !defined(_WIN32)
std::atomic<bool> asked{false};
void clean_up_when_asked(shared_notes n) {
  std::signal(SIGTERM, [](int) { asked = true; });
  ++n->count;
  while (!asked) std::this_thread::sleep_for(1ms);
  n->a = 1;
}
/// A stream from which a thread reads, and so has it locked, for as long as this lives.
class locked_stream {
 public:
  locked_stream() {
    if (::pipe(ends_) != 0) throw std::runtime_error("pipe");
    for (int const end : ends_) ::fcntl(end, F_SETFD, FD_CLOEXEC);
    stream_ = ::fdopen(ends_[0], "r");
    reader_ = std::thread([this] { (void)std::fgetc(stream_); });
    while (::ftrylockfile(stream_) == 0) {
      ::funlockfile(stream_);
      std::this_thread::yield();
    }
  }
  locked_stream(locked_stream const&) = delete;
  locked_stream& operator=(locked_stream const&) = delete;
  ~locked_stream() {
    ::close(ends_[1]);
    reader_.join();
    std::fclose(stream_);
  }

 private:
  int ends_[2]{-1, -1};
  std::FILE* stream_ = nullptr;
  std::thread reader_;
};
void answer_once(shared_notes n) {
  ++n->count;
  until(n->b, 1);
  ++n->count;
  std::this_thread::sleep_for(1h);
}
void end_with_a_locked_stream() {
  ends_late = true;
  (void)new locked_stream;  // NOLINT: it outlives this process's end
}
void deaf(shared_notes n) {
  std::signal(SIGTERM, SIG_IGN);
  ++n->count;
  std::this_thread::sleep_for(1h);
}
#endif

}  // namespace

TEST_CASE_METHOD(tidy, "[H46] kill_tree ends a process with all that descends from it") {
  for (auto const method : start_methods()) {
    for (bool const group : {false, true}) {
      CAPTURE(name_of(method), group);
      if (!group && polyproc::native_backend::processes(polyproc::this_process::pid()).empty()) continue;  // no table
      shared_notes n;
      polyproc::queue<process_ref> refs(10);
      process p{process_options{.start = method, .group = group}, grow, n, refs, 3};
      p.start();
      until(n->count, 4);
      p.kill_tree();
      p.join();
      CHECK(p.exit_code() == -9);
      for (int i = 0; i < 3; ++i) CHECK(refs.get().join_for(60s));
    }
  }
}

TEST_CASE_METHOD(tidy, "[H46] with a group, stop ends also those whose own parent has ended") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    polyproc::queue<process_ref> refs(10);
    process p{process_options{.start = method, .group = true}, leave_orphan, n, refs};
    p.start();
    auto const orphan = refs.get();
    until(n->count, 1);
    {
      // The leader has ended, but nobody has taken its status yet.
      std::vector<polyproc::native_backend::handle> const end{p.sentinel()};
      CHECK(polyproc::native_backend::wait_any(end, std::chrono::steady_clock::now() + 60s));
    }
    CHECK(orphan.is_alive());
    p.stop(1s);
    CHECK(orphan.join_for(60s));
    CHECK(p.exit_code() == 0);
  }
}

#if !defined(_WIN32)
TEST_CASE_METHOD(tidy, "a request that another process sends right after the start reaches the child, under every start method") {
  polyproc::queue<process_ref> refs;
  process asker{[](polyproc::queue<process_ref> from) {
                  for (auto const& ref : from) ref.terminate();
                },
                refs};
  asker.start();
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    for (int round = 0; round < 20; ++round) {
      process p{slow_to_begin(method), sleep_noted, n};
      p.start();
      refs.put(p.ref());
      REQUIRE(p.join_for(60s));
      REQUIRE(p.exit_code() == -15);
    }
  }
  refs.close();
  asker.join();
}

TEST_CASE_METHOD(tidy, "neither a start nor a child's end waits for a stream from which another thread reads") {
  locked_stream const here;
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    process p{process_options{.start = method}, end_with_a_locked_stream};
    p.start();
    CHECK(p.join_for(60s));
    CHECK(p.exit_code() == (method == polyproc::start_method::fork ? 0 : 9));
  }
  auto copy = polyproc::fork();
  if (!copy) polyproc::this_process::exit(5);
  copy->join();
  CHECK(copy->exit_code() == 5);
}

TEST_CASE_METHOD(tidy, "what stands in a stream's buffer is written once, whoever has other threads") {
  for (bool const threads : {false, true}) {
    CAPTURE(threads);
    // Here is a copy of this program with one thread, and no stream but those it makes.
    process whole{polyproc::start::spawn, [](bool with_thread) {
                    std::FILE* const file = std::tmpfile();
                    std::optional<locked_stream> second;
                    if (with_thread) second.emplace();
                    std::fputs("parent ", file);
                    process copy{polyproc::start::fork, [file] { std::fputs("child ", file); }};
                    copy.start();
                    copy.join();
                    std::fflush(file);
                    std::rewind(file);
                    char text[100];
                    std::string const found(text, std::fread(text, 1, sizeof text, file));
                    std::fclose(file);
                    // A child whose parent had other threads closes or flushes its streams itself.
                    bool const all = polyproc::native_backend::name == "linux" && inventory::take().threads == 1;
                    if (found != (all ? "parent child " : "parent ")) polyproc::this_process::exit(3);
                  },
                  threads};
    whole.start();
    whole.join();
    CHECK(whole.exit_code() == 0);
  }
}

#if defined(__linux__)
TEST_CASE_METHOD(tidy, "a daemon outlives the thread that started it, also when this process has become another user") {
  if (polyproc::native_backend::name != "linux" || ::geteuid() != 0) return;  // nobody else can become another user
  polyproc::queue<process_ref> refs;
  process whole{polyproc::start::fork, [refs] {
                  auto const start_in_a_thread = [&](polyproc::start_method method) {
                    shared_notes n;
                    process d{process_options{.daemon = true, .start = method}, answer_once, n};
                    pid_t thread = 0;
                    std::thread([&] {
                      thread = ::gettid();
                      d.start();
                      until(n->count, 1);
                    }).join();
                    while (std::filesystem::exists("/proc/self/task/" + std::to_string(thread))) std::this_thread::yield();
                    n->b = 1;
                    while (n->count != 2 && d.is_alive()) std::this_thread::sleep_for(1ms);
                    if (n->count != 2) polyproc::native_backend::exit_now(10 + static_cast<int>(method));
                    refs.put(d.ref());
                    d.detach();
                  };
                  for (auto const method : start_methods()) start_in_a_thread(method);
                  if (::setgid(65534) != 0 || ::setuid(65534) != 0) polyproc::native_backend::exit_now(2);
                  for (auto const method : start_methods()) start_in_a_thread(method);
                  polyproc::native_backend::exit_now(0);
                }};
  whole.start();
  whole.join();
  REQUIRE(to_string(*whole.status()) == "exited with code 0");
  for (std::size_t i = 0; i < 2 * start_methods().size(); ++i) refs.get().join();  // with their parent
}
#endif

TEST_CASE_METHOD(tidy, "a request to end that comes after one to stop is not lost, however early both come") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    for (int round = 0; round < 3; ++round) {
      process p{slow_to_begin(method), sleep_noted, n};
      p.start();
      CHECK(p.ask(polyproc::child_request::stop));
      p.terminate();
      p.ask(polyproc::child_request::resume);
      REQUIRE(p.join_for(60s));
      REQUIRE(p.exit_code() == -15);
    }
  }
}

TEST_CASE_METHOD(tidy, "what was detached goes on though this process ends at once") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    for (int round = 0; round < 5; ++round) {
      shared_notes n;
      process middle{process_options{.start = polyproc::start_method::spawn},
                     [](shared_notes notes, polyproc::start_method by) {
                       process first{process_options{.start = by}, nothing_at_all};  // then there is a fork server
                       first.start();
                       first.join();
                       process below{slow_to_begin(by), [](shared_notes of) { of->a = 1; }, notes};
                       below.start();
                       below.detach();
                       polyproc::native_backend::exit_now(0);
                     },
                     n, method};
      middle.start();
      middle.join();
      CHECK(middle.exit_code() == 0);
      for (int i = 0; i < 60000 && n->a != 1; ++i) std::this_thread::sleep_for(1ms);
      REQUIRE(n->a == 1);
    }
  }
}

TEST_CASE_METHOD(tidy, "[H47] stop asks, waits for the grace, then ends") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    process polite{process_options{.start = method}, clean_up_when_asked, n};
    polite.start();
    until(n->count, 1);
    polite.stop(60s);
    CHECK(n->a == 1);
    CHECK(polite.exit_code() == 0);

    shared_notes m;
    process rude{process_options{.start = method}, deaf, m};
    rude.start();
    until(m->count, 1);
    rude.stop(30ms);
    CHECK(rude.exit_code() == -9);
  }
}

TEST_CASE_METHOD(tidy, "[H48] a status that the program has taken itself is unknown under every start method") {
  for (auto const method : start_methods()) {
    if (polyproc::native_backend::name == "posix" && method == polyproc::start_method::forkserver) continue;  // not its child
    CAPTURE(name_of(method));
    process p{process_options{.start = method}, nothing_at_all};
    p.start();
    int status = 0;
    CHECK(::waitpid(static_cast<pid_t>(*p.pid()), &status, 0) == *p.pid());
    p.join();
    CHECK(p.exit_code() == polyproc::unknown_exit_code);
    CHECK(p.status()->how == kind::unknown);
    CHECK_FALSE(p.status()->success());
    p.kill();  // sends nothing to whoever has that number now
  }
}

TEST_CASE_METHOD(tidy, "[H48] a program that ignores SIGCHLD is told that nobody knows, and no join hangs") {
  struct sigaction ignore {};
  struct sigaction before {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGCHLD, &ignore, &before);
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    process p{process_options{.start = method}, nothing_at_all};
    p.start();
    CHECK(p.join_for(60s));
    // The helper of the portable backend does not ignore the ends of its children, and tells how they ended.
    bool const told = polyproc::native_backend::name == "posix" && method == polyproc::start_method::forkserver;
    CHECK(p.exit_code() == (told ? 0 : polyproc::unknown_exit_code));
  }
  sigaction(SIGCHLD, &before, nullptr);
}
#endif

TEST_CASE_METHOD(tidy, "[H49] threads that join, ask and look at one process at once all see the same end") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    for (int round = 0; round < 5; ++round) {
      shared_notes n;
      process p{process_options{.start = method}, wait_until_b, n};
      p.start();
      std::atomic<int> wrong{0};
      std::vector<std::thread> all;
      for (int i = 0; i < 9; ++i)
        all.emplace_back([&, i] {
          if (i % 3 == 0) p.join();
          if (i % 3 == 1)
            while (!p.join_for(1ms)) (void)p.state();
          if (i % 3 == 2)
            while (p.is_alive()) std::this_thread::yield();
          if (p.exit_code() != 0) ++wrong;
        });
      until(n->count, 1);
      n->b = 1;
      for (auto& t : all) t.join();
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE_METHOD(tidy, "[H50] nothing is sent to a number once its process has ended") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    process p{process_options{.start = method}, nothing_at_all};
    p.start();
    auto const ref = p.ref();
    // Killers race with the end and with whoever takes the status.
    std::atomic<bool> stop{false};
    std::vector<std::thread> killers;
#if defined(POLYPROC_TEST_ADDRESS_SANITIZER)
    constexpr int askers = 0;  // its leak check at the child's end stops for good under a hail of SIGCONT
#else
    constexpr int askers = 4;
#endif
    for (int i = 0; i < askers; ++i)
      killers.emplace_back([&] {
        while (!stop) (void)p.ask(polyproc::child_request::resume);
      });
    p.join();
    CHECK_FALSE(p.ask(polyproc::child_request::kill));
    CHECK_FALSE(ref.ask(polyproc::child_request::kill));
    stop = true;
    for (auto& t : killers) t.join();
    CHECK(p.exit_code() == 0);
  }
}

TEST_CASE_METHOD(tidy, "[H51] what has ended leaves the process table at the next start, without a join") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    std::vector<process> all;
    for (int i = 0; i < 10; ++i) {
      all.emplace_back(process_options{.start = method}, nothing_at_all);
      all.back().start();
    }
    for (auto& p : all) {
      std::vector<polyproc::native_backend::handle> const end{p.sentinel()};
      if (end[0] != polyproc::native_backend::invalid_handle)
        CHECK(polyproc::native_backend::wait_any(end, std::chrono::steady_clock::now() + 60s));
    }
    // With the portable backend the sentinel tells a moment before the system does.
    for (int i = 0; i < 100; ++i) {
      process next{process_options{.start = method}, nothing_at_all};
      next.start();
      next.join();
      if (polyproc::active_children().empty()) break;
    }
    CHECK(polyproc::active_children().empty());
    for (auto const& row : polyproc::process_tree())
      for (auto& p : all) CHECK(row.pid != *p.pid());
    for (auto& p : all) CHECK(p.exit_code() == 0);
  }
}

TEST_CASE_METHOD(tidy, "[H53] a join with a limit tells, under every start method, and the process lives on") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    process p{process_options{.start = method}, wait_until_b, n};
    p.start();
    CHECK_FALSE(p.join_for(20ms));
    CHECK_FALSE(p.join_until(std::chrono::steady_clock::now() + 5ms));
    CHECK_FALSE(p.exit_code());
    CHECK(p.is_alive());
    n->b = 1;
    CHECK(p.join_for(60s));
    CHECK(p.exit_code() == 0);
  }
}

TEST_CASE_METHOD(tidy, "[H46] a group ends with its leader, whoever notices that end") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    polyproc::queue<process_ref> refs(1);
    process p{process_options{.start = method, .group = true}, leave_orphan, n, refs};
    p.start();
    auto const orphan = refs.get();
    while (p.ref().is_alive()) std::this_thread::sleep_for(1ms);
    CHECK(orphan.join_for(60s));
    p.join();
    CHECK(p.exit_code() == 0);
  }
}

TEST_CASE_METHOD(tidy, "a sentinel stays what it is until its object goes, whoever takes the status") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    process p{process_options{.start = method}, nothing_at_all};
    p.start();
    std::vector<polyproc::native_backend::handle> const end{p.sentinel()};
    CHECK(polyproc::native_backend::wait_any(end, std::chrono::steady_clock::now() + 60s));
    while (!polyproc::active_children().empty()) std::this_thread::yield();
    process q{process_options{.start = method}, nothing_at_all};
    q.start();
    CHECK(q.sentinel() != p.sentinel());
    CHECK(polyproc::native_backend::wait_any(end, std::chrono::steady_clock::time_point{}) == 0);
    q.join();
  }
}

TEST_CASE_METHOD(tidy, "threads that ask for a sentinel at once get the same one") {
  for (int round = 0; round < 50; ++round) {
    shared_notes n;
    process p{wait_until_b, n};
    p.start();
    std::atomic<int> ready{0};
    std::array<polyproc::native_backend::handle, 4> got{};
    std::vector<std::thread> all;
    for (std::size_t i = 0; i < got.size(); ++i)
      all.emplace_back([&, i] {
        ++ready;
        while (ready != static_cast<int>(got.size())) std::this_thread::yield();
        got[i] = p.sentinel();
      });
    for (auto& t : all) t.join();
    for (auto const h : got) CHECK(h == got[0]);
    n->b = 1;
    p.join();
  }
}

TEST_CASE_METHOD(tidy, "shared memory of arguments is let go when they are read, and when a child calls std::exit") {
  using arena = polyproc::detail::arena<polyproc::native_backend>;
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    auto const before = arena::used_bytes();
    process p{process_options{.start = method}, [](shared_notes notes, std::string const&) { wait_until_b(notes); }, n,
              std::string(10000000, 'x')};
    p.start();
    until(n->count, 1);
    if (method != polyproc::start_method::fork) CHECK(arena::used_bytes() < before + 1000000);
    n->b = 1;
    p.join();
    process q{process_options{.start = method}, [](polyproc::shared<long>) { std::exit(3); }, polyproc::shared<long>{}};
    q.start();
    q.join();
    CHECK(q.exit_code() == 3);
    q = {};
    p = {};
    CHECK(arena::used_bytes() == before);
  }
}

TEST_CASE_METHOD(tidy, "what a child was given and never read is let go, also when the child ended by a code of its own") {
  using arena = polyproc::detail::arena<polyproc::native_backend>;
  auto const never_read = [](process_options options, int code) {
    auto const before = arena::used_bytes();
    {
      auto [here, there] = polyproc::pipe<std::string>();
      polyproc::queue<int> q;
      auto from = q.receiver();
      process p{std::move(options), never_called, std::move(there), q.sender()};
      q = polyproc::queue<int>();  // nobody but the child could put into the first one
      p.start();
      p.join();
      CHECK(p.exit_code() == code);
      REQUIRE(here.poll_for(60s));
      CHECK_FALSE(here.recv());
      CHECK_THROWS_AS(from.get(), polyproc::queue_closed);
    }
    CHECK(arena::used_bytes() == before);
  };
  never_read({.start = polyproc::start_method::spawn, .environment = {{ends_early, "1"}}}, 7);
#if !defined(_WIN32)
  // There is such a directory here, but not in a child.
  auto const only_here = "/proc/self/task/" + std::to_string(polyproc::this_process::pid());
  if (!std::filesystem::exists(only_here)) return;
  for (auto const method : start_methods()) {
    if (method == polyproc::start_method::fork) continue;  // what a copy of this process is given needs not be read
    CAPTURE(name_of(method));
    never_read({.start = method, .directory = only_here}, 1);
  }
#endif
}

TEST_CASE_METHOD(tidy, "callbacks run though nobody waits, each once, and one that throws does not stop the rest") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    std::atomic<int> calls{0};
    std::atomic<int> codes{0};
    process p{process_options{.start = method}, [](int code) { std::exit(code); }, 4};
    p.start();
    for (int i = 0; i < 3; ++i)
      p.on_exit([&, i](polyproc::exit_status const& s) {
        codes += s.code;
        ++calls;
        if (i == 0) throw std::runtime_error("of a callback, on purpose");
      });
    while (calls < 3) std::this_thread::sleep_for(1ms);
    CHECK(p.exit_code() == 4);
    p.on_exit([&](polyproc::exit_status const& s) {  // late: at once
      codes += s.code;
      throw std::runtime_error("of a late callback, on purpose");
    });
    CHECK(codes == 16);
  }
}

TEST_CASE_METHOD(tidy, "callbacks that run at the end of their process all run, though one throws") {
  for (auto const method : start_methods()) {
    if (method == polyproc::start_method::fork) continue;  // whose thread for callbacks may be faster
    CAPTURE(name_of(method));
    shared_notes n;
    process p{process_options{.start = method}, leave_callbacks_to_the_exit, n};
    p.start();
    p.join();
    CHECK(p.exit_code() == 0);
    CHECK(n->a == 3);
  }
}

TEST_CASE_METHOD(tidy, "callbacks of many children that end in any order") {
  std::atomic<int> calls{0};
  std::vector<process> all;
  for (int i = 0; i < 100; ++i) {
    all.emplace_back(nothing_at_all);
    all.back().start();
    all.back().on_exit([&](polyproc::exit_status const& s) { calls += s.success() ? 1 : 1000; });
  }
  while (calls < 100) std::this_thread::sleep_for(1ms);
  CHECK(calls == 100);
}

TEST_CASE_METHOD(tidy, "a reference that is given to another process waits there, looks and ends") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    process victim{process_options{.name = "victim", .start = method}, sleep_noted, n};
    victim.start();
    polyproc::queue<std::string> told(4);
    process other{process_options{.start = method},
                  [](process_ref v, shared_notes notes, polyproc::queue<std::string> to) {
                    to.put(v.name() + (v.is_alive() ? " lives" : " is gone"));
                    until(notes->count, 1);
                    if (v.join_for(10ms)) throw std::runtime_error("it lives, and was joined");
                    v.kill();
                    v.join();
                    to.put(v.is_alive() ? "lives" : "gone");
                  },
                  victim.ref(), n, told};
    other.start();
    CHECK(told.get() == "victim lives");
    CHECK(told.get() == "gone");
    other.join();
    CHECK(other.exit_code() == 0);
    victim.join();
    CHECK(victim.exit_code() == -9);
    auto const late = victim.ref();
    CHECK_FALSE(late.is_alive());
    CHECK(late.exit_code() == -9);
    CHECK(late.state() == polyproc::process_state::ended);
  }
}

TEST_CASE_METHOD(tidy, "a child can wait for its parent, and sees its end") {
  shared_notes n;
  process middle{[](shared_notes notes) {
                   process below{[](shared_notes m) {
                                   auto const parent = polyproc::this_process::parent();
                                   ++m->count;
                                   parent->join();
                                   m->a = parent->is_alive() ? 2 : 1;
                                 },
                                 notes};
                   below.start();
                   until(notes->count, 1);
                   below.detach();
                 },
                 n};
  middle.start();
  middle.join();
  until(n->a, 1);
  CHECK(n->a == 1);
}

TEST_CASE_METHOD(tidy, "states can be told apart, as far as the system tells") {
  shared_notes n;
  process p{wait_until_b, n};
  CHECK(p.state() == polyproc::process_state::fresh);
  p.start();
  until(n->count, 1);
  auto const seen = p.state();
  CHECK((seen == polyproc::process_state::blocked || seen == polyproc::process_state::running ||
         seen == polyproc::process_state::ready || seen == polyproc::process_state::unknown));
  p.ask(polyproc::child_request::stop);
  if (polyproc::native_backend::name == "linux") {
    while (p.state() != polyproc::process_state::stopped) std::this_thread::sleep_for(1ms);
  }
  p.ask(polyproc::child_request::resume);
  n->b = 1;
  p.join();
  CHECK(p.state() == polyproc::process_state::ended);
}

TEST_CASE_METHOD(tidy, "the default name is the class's, or process, and a number") {
  shared_notes n;
  process object{counted{n}};
  CHECK(object.name().rfind("counted-", 0) == 0);
  process lambda{[] {}};
  CHECK(lambda.name().rfind("process-", 0) == 0);
  process function{nothing_at_all};
  CHECK(function.name().rfind("process-", 0) == 0);
  process renamed{nothing_at_all};
  renamed.set_name("other");
  CHECK(renamed.name() == "other");
  renamed.start();
  CHECK_THROWS_AS(renamed.set_name("late"), std::logic_error);
  CHECK_THROWS_AS(renamed.set_daemon(true), std::logic_error);
  renamed.join();
}

TEST_CASE_METHOD(tidy, "a detached process goes on, and is no zombie when it ends before this one") {
  for (auto const method : start_methods()) {
    CAPTURE(name_of(method));
    shared_notes n;
    process p{process_options{.start = method}, wait_until_b, n};
    p.start();
    auto const ref = p.ref();
    p.detach();
    CHECK_THROWS_AS(p.join(), std::logic_error);
    CHECK(ref.is_alive());
    CHECK(polyproc::active_children().size() == 1);
    n->b = 1;
    ref.join();
    CHECK(ref.exit_code() == 0);
    CHECK(polyproc::active_children().empty());
  }
}

#if !defined(_WIN32)
TEST_CASE_METHOD(tidy, "fork and wait as primitives: a handle in the parent, none in the child, pid and result") {
  int n = 100;
  auto child = polyproc::fork();
  if (!child) {
    n = 200;
    polyproc::this_process::exit(n == 200 ? 5 : 6);
  }
  auto second = polyproc::fork();
  if (!second) polyproc::native_backend::exit_now(9);
  std::set<long> pids{*child->pid(), *second->pid()};
  for (int i = 0; i < 2; ++i) {
    auto const ended = polyproc::wait();
    REQUIRE(ended);
    CHECK(pids.erase(ended->pid) == 1);
    CHECK(ended->status.code == (ended->pid == *child->pid() ? 5 : 9));
  }
  CHECK_FALSE(polyproc::wait());
  CHECK(n == 100);
  // It goes on as it was: what it cannot be given is refused.
  CHECK_THROWS_AS(polyproc::fork({.start = polyproc::start_method::spawn}), std::invalid_argument);
  CHECK_THROWS_AS(polyproc::fork({.directory = "/"}), std::invalid_argument);
  // Told of though another start had found out that it had ended.
  auto third = polyproc::fork();
  if (!third) polyproc::native_backend::exit_now(3);
  while (::kill(static_cast<pid_t>(*third->pid()), 0) == 0 && third->state() != polyproc::process_state::ended) {
  }
  process p{nothing_at_all};
  p.start();
  p.join();
  auto const late = polyproc::wait();
  REQUIRE(late);
  CHECK(late->pid == *third->pid());
  CHECK(late->status.code == 3);
}
#endif
