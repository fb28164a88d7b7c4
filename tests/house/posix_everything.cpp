// own-main: a program that makes use of the whole library, built for posix_symbols.py, which looks at what it asks
// of the system. With POLYPROC_HOUSE_BASELINE: what any C++ program with a thread does.
#if defined(POLYPROC_HOUSE_BASELINE)
#include <mutex>
#include <string>
#include <thread>
#include <vector>

int main(int argc, char**) {
  std::mutex lock;
  std::vector<std::string> texts;
  std::thread other{[&] {
    std::scoped_lock hold{lock};
    texts.emplace_back(100000, 'x');
  }};
  other.join();
  return static_cast<int>(texts.size()) - argc;
}
#else
#include <polyproc/polyproc.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using backend = polyproc::native_backend;

// Every member of what the Unix backends share, called or not.
template struct polyproc::detail::unix_common<backend>;
template struct polyproc::detail::unix_children<backend>;
template struct polyproc::detail::unix_server<backend>;
#if defined(POLYPROC_BACKEND_POSIX)
// Not called: it runs the ps command, which has ways of its own.
template struct polyproc::detail::posix_processes<backend>;
#endif

namespace {

void must(bool held, char const* what) {
  if (held) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::abort();
}

struct account {
  polyproc::mutex lock;
  long balance = 0;
};

void put_many(polyproc::queue<std::string> to, int count) {
  for (int i = 0; i < count; ++i) to.put("message " + std::to_string(i));
}
void pay_in(polyproc::shared<account> into, int count) {
  for (int i = 0; i < count; ++i) {
    std::scoped_lock hold{into->lock};
    into->balance += 1;
  }
}
void wait_for_ever(polyproc::queue<int> q) { (void)q.get(); }
long square(long n) { return n * n; }

void use_backend() {
  auto const family = backend::family();
  must(backend::commit(family.base + backend::family_reserved, 4096), "commit");
  backend::discard(family.base + backend::family_reserved, 4096);
  must(backend::usable_cpus() >= 1, "usable_cpus");
  must(backend::alive(backend::self()), "alive");
  must(!backend::alive(4711), "alive of nobody");
  auto const segment = backend::segment_create(8192);
  backend::segment_unmap(backend::segment_map(segment, 8192, true), 8192);
  backend::handle_close(backend::handle_duplicate(segment));
  backend::handle_close(segment);
  auto const here = backend::locate(reinterpret_cast<void const*>(&square));
  must(backend::resolve(here) == reinterpret_cast<void const*>(&square), "resolve");
  auto const there = backend::locate(reinterpret_cast<void const*>(&std::fprintf));
  (void)backend::resolve(there);
  backend::at_fork_child([] {});
  (void)backend::environment("HOME");
  for (bool const daemon : {false, true}) {
    polyproc::child_start<int, -1> start;
    start.daemon = daemon;
    auto child = backend::start_fork(start);
    if (!child) {
      backend::atomic<std::uint32_t> word{0};
      backend::wait(word, 0, backend::now() + 1h);
      backend::exit_now(1);
    }
    must(!backend::await_end(*child, backend::now() + 5ms), "await_end");
    for (auto const what : {polyproc::child_request::stop, polyproc::child_request::resume, polyproc::child_request::kill})
      must(backend::ask(*child, what), "ask");
    must(backend::await_end(*child, backend::now() + 10s), "await_end");
    must(backend::reap(*child).value == 9, "reap");
    backend::release(*child);
  }
  backend::atomic<std::uint32_t> word{0};
  std::thread waker{[&] {
    word = 1;
    backend::wake_all(word);
    (void)backend::self();
  }};
  while (word == 0) backend::wait(word, 0, backend::now() + 1s);
  waker.join();
}

void upper(polyproc::stream s) {
  while (auto line = s.read_line()) s.write("UPPER " + *line + "\n");
}
void call(polyproc::endpoint where) {
  auto c = polyproc::connect<int, std::string>(where);
  c.send(7);
  must(c.recv() == "seven", "connection");
}

void use_streams() {
  auto const name = "posix-everything-" + std::to_string(backend::current_pid());
  for (auto const method :
       {polyproc::start_method::spawn, polyproc::start_method::fork, polyproc::start_method::forkserver}) {
    auto [here, there] = polyproc::stream::pair();
    polyproc::process p{{.start = method}, upper, std::move(there)};
    p.start();
    here.write("x\n");
    must(here.read_line_for(10s) == "UPPER x", "stream");
    here.close_write();
    p.join();
  }
  for (auto const& where : {polyproc::local_address(name), polyproc::tcp("", 0)}) {
    polyproc::listener l(where);
    polyproc::process p{call, l.address()};
    p.start();
    auto c = l.accept<std::string, int>();
    must(c.recv() == 7, "connection");
    c.send("seven");
    p.join();
    must(p.exit_code() == 0, "client");
    auto s = polyproc::connect_stream(l.address());
    must(s.is_open() && !l.accept_stream().poll(), "raw connection");
  }
  must(polyproc::fifo::create(name) && !polyproc::fifo::create(name), "fifo");
  must(!polyproc::fifo::open_writer_for(name, 5ms), "a fifo without a reader");
  {
    auto r = polyproc::fifo::open_reader(name);
    polyproc::fifo::open_writer(name).write("x");
    must(r.read_all() == "x", "fifo");
  }
  must(polyproc::fifo::remove(name), "fifo");
}

void use_library() {
  polyproc::queue<std::string> q{10};
  polyproc::process producer{put_many, q, 100};
  producer.start();
  for (int i = 0; i < 100; ++i) must(q.get() == "message " + std::to_string(i), "queue");
  producer.join();
  must(producer.exit_code() == 0, "exit code");

  polyproc::shared<account> shared;
  polyproc::process payer{pay_in, shared, 1000};
  payer.start();
  pay_in(shared, 1000);
  payer.join();
  must(shared->balance == 2000, "mutex");
  auto const name = "posix-everything-" + std::to_string(backend::current_pid());
  {
    auto const named = polyproc::shared<account>::create(name, {.lifetime = polyproc::lifetime::owner});
    pay_in(named, 10);
    must(polyproc::shared<account const>::open(name)->balance == 10, "named memory");
    must(polyproc::shared<account const>(shared)->balance == 2000, "memory for reading only");
  }
  must(!polyproc::shared<account>::try_open(name), "the owner's end");

  polyproc::queue<int> empty{1};
  polyproc::process waiter{{.name = "waiter", .daemon = true}, wait_for_ever, empty};
  waiter.start();
  waiter.kill();
  waiter.join();
  must(waiter.exit_code() == -9, "kill");

  for (auto const method :
       {polyproc::start_method::spawn, polyproc::start_method::fork, polyproc::start_method::forkserver}) {
    std::atomic<int> told{0};
    polyproc::process other{{.start = method,
                             .group = true,
                             .ignore_interrupt = true,
                             .output = polyproc::child_stream::null(),
                             .error = polyproc::child_stream::as_output(),
                             .directory = "/",
                             .environment = {{"POLYPROC_HOUSE", "1"}},
                             .priority = 1},
                            square, 7L};
    other.start();
    other.on_exit([&](polyproc::exit_status const& s) { told = s.success() ? 1 : 2; });
    auto const ref = other.ref();
    must(ref.join_for(60s), "join of a reference");
    while (told == 0) backend::yield();
    must(told == 1, "callback");
  }
  if (auto const child = polyproc::fork()) {
    auto const ended = polyproc::wait();
    must(ended && ended->status.code == 3, "wait");
  } else {
    polyproc::this_process::exit(polyproc::this_process::parent()->is_alive() ? 3 : 4);
  }

  polyproc::process_pool pool{2};
  must(pool.submit(square, 7L).get() == 49, "pool");
  pool.close();
  pool.join();
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);
  use_backend();
  use_library();
  use_streams();
  return 0;
}
#endif
