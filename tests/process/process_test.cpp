#include "support/tidy.hpp"

#include <csignal>
#include <cstdlib>
#include <memory>

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace std::chrono_literals;
using kind = polyproc::exit_status::kind;

namespace {

struct person {
  std::string name;
  int age = 0;
};
struct board {
  std::atomic<long> number{0};
  std::atomic<long> other{0};
};
using shared_board = polyproc::shared<board>;

void wait_for(std::atomic<long> const& word, long value) {
  while (word.load() != value) polyproc::native_backend::yield();
}

void greet(shared_board b, std::string const& name) { b->number = static_cast<long>(name.size()); }
void greet_person(shared_board b, person const& p) { b->number = p.age; }
void tell_pid(shared_board b) {
  b->number = polyproc::this_process::pid();
  b->other = polyproc::this_process::parent_pid();
}
void tell_name(polyproc::queue<std::string> q) { q.put(polyproc::this_process::name()); }
void sleep_for_ever(shared_board b) {
  b->number = 1;
  for (;;) std::this_thread::sleep_for(1h);
}
void wait_for_two(shared_board b) {
  b->number = 1;
  wait_for(b->number, 2);
}
void exit_with(int code) { std::exit(code); }
void throw_something() { throw std::out_of_range("no such thing"); }
void fault() {
  volatile int* volatile nowhere = nullptr;
  *nowhere = 1;
}
void grandchild_of_daemon(polyproc::queue<std::string> q) {
  try {
    auto p = polyproc::launch(tell_name, q);
    q.put("started");
  } catch (std::logic_error const& refused) {
    q.put(refused.what());
  }
}
void middle(shared_board b, polyproc::queue<long> pids) {
  auto d = polyproc::launch(polyproc::process_options{.daemon = true}, sleep_for_ever, b);
  pids.put(*d.pid());
  pids.put(static_cast<long>(polyproc::this_process::pid()));
  for (;;) std::this_thread::sleep_for(1h);
}
void start_non_daemon_and_return(shared_board b) {
  auto p = polyproc::launch(wait_for_two, b);
  wait_for(b->number, 1);
  b->number = 2;
  p.join();
}

struct adder {
  int by = 0;
  void operator()(shared_board b) const { b->number += by; }
};
struct runner {
  shared_board to;
  int value = 0;
  void run() const { to->number = value; }
};

}  // namespace

TEST_CASE_METHOD(tidy, "a process runs its function with arguments of the parameters' types") {
  shared_board b;
  polyproc::process p{greet, b, "egon"};
  CHECK_FALSE(p.pid());
  CHECK_FALSE(p.is_alive());
  CHECK_FALSE(p.exit_code());
  p.start();
  CHECK(p.pid());
  p.join();
  CHECK(p.exit_code() == 0);
  CHECK(p.status()->success());
  CHECK(b->number == 4);

  polyproc::process keyword{greet_person, b, person{.name = "egon", .age = 18}};
  keyword.start();
  keyword.join();
  CHECK(b->number == 18);
}

TEST_CASE_METHOD(tidy, "targets may be captureless lambdas, function objects and objects with run()") {
  shared_board b;
  auto lambda = polyproc::launch([](shared_board to) { to->number = 5; }, b);
  lambda.join();
  CHECK(b->number == 5);
  auto object = polyproc::launch(adder{7}, b);
  object.join();
  CHECK(b->number == 12);
  auto with_run = polyproc::launch(runner{b, 99});
  with_run.join();
  CHECK(b->number == 99);
}

TEST_CASE_METHOD(tidy, "[H44] a child is a process of its own, and a child of this one") {
  shared_board b;
  auto p = polyproc::launch(tell_pid, b);
  p.join();
  CHECK(b->number == *p.pid());
  CHECK(b->number != polyproc::this_process::pid());
  CHECK(b->other == polyproc::this_process::pid());
}

TEST_CASE_METHOD(tidy, "run() runs the target in the caller, and the process stays unstarted") {
  shared_board b;
  polyproc::process p{greet, b, "coco"};
  p.run();
  CHECK(b->number == 4);
  CHECK_THROWS_AS(p.join(), std::logic_error);
  b->number = 0;
  p.start();
  p.join();
  CHECK(b->number == 4);
}

TEST_CASE_METHOD(tidy, "misuse is told in a sentence") {
  polyproc::process p{nothing_at_all};
  CHECK_THROWS_AS(p.join(), std::logic_error);
  CHECK_THROWS_AS(p.kill(), std::logic_error);
  p.start();
  CHECK_THROWS_AS(p.start(), std::logic_error);
  p.join();
  p.join();
  p.kill();
  p.terminate();
  polyproc::process none;
  CHECK_THROWS_AS(none.start(), std::logic_error);
}

TEST_CASE_METHOD(tidy, "[H53] a join with a limit says whether the process has ended") {
  shared_board b;
  auto p = polyproc::launch(wait_for_two, b);
  CHECK_FALSE(p.join_for(30ms));
  CHECK(p.is_alive());
  wait_for(b->number, 1);
  b->number = 2;
  CHECK(p.join_for(60s));
  CHECK_FALSE(p.is_alive());
}

TEST_CASE_METHOD(tidy, "[H3] the ways to end can be told apart") {
  auto normal = polyproc::launch(exit_with, 0);
  auto code = polyproc::launch(exit_with, 7);
  auto thrown = polyproc::launch(throw_something);
  auto faulty = polyproc::launch(fault);
  shared_board b;
  auto killed = polyproc::launch(sleep_for_ever, b);
  shared_board c;
  auto terminated = polyproc::launch(sleep_for_ever, c);
  wait_for(b->number, 1);
  wait_for(c->number, 1);
  killed.kill();
  terminated.terminate();
  for (auto* p : {&normal, &code, &thrown, &faulty, &killed, &terminated}) p->join();
  CHECK(normal.exit_code() == 0);
  CHECK(normal.status()->how == kind::normal);
  CHECK(code.exit_code() == 7);
  CHECK(code.status()->how == kind::normal);
  CHECK(thrown.exit_code() == 1);
  CHECK(thrown.status()->how == kind::exception);
  CHECK(thrown.status()->exception_what == "no such thing");
  CHECK(thrown.status()->exception_type.find("out_of_range") != std::string::npos);
#if !defined(POLYPROC_TEST_ADDRESS_SANITIZER)  // which turns a fault into an exit
  CHECK(faulty.exit_code() == -11);
  CHECK(faulty.status()->how == kind::signal);
#endif
  CHECK(killed.exit_code() == -9);
  CHECK(killed.status()->how == kind::signal);
  CHECK(terminated.exit_code() == -15);
}

TEST_CASE_METHOD(tidy, "names are given or counted") {
  polyproc::queue<std::string> q(2);
  auto named = polyproc::launch(polyproc::process_options{.name = "watcher"}, tell_name, q);
  CHECK(named.name() == "watcher");
  CHECK(q.get() == "watcher");
  polyproc::process counted{tell_name, q};
  CHECK(counted.name().rfind("process-", 0) == 0);
  counted.start();
  CHECK(q.get() == counted.name());
  named.join();
  counted.join();
  CHECK(polyproc::this_process::name() == "main");
}

TEST_CASE_METHOD(tidy, "a daemon may not start processes") {
  polyproc::queue<std::string> q(2);
  auto d = polyproc::launch(polyproc::process_options{.daemon = true}, grandchild_of_daemon, q);
  auto const said = q.get();
  CHECK(said.find("daemon") != std::string::npos);
  d.join();
}

TEST_CASE_METHOD(tidy, "[H17] a daemon ends with its parent, even when that is killed, and even while it is stopped") {
  shared_board b;
  polyproc::queue<long> pids(2);
  auto m = polyproc::launch(middle, b, pids);
  auto const daemon = pids.get();
  (void)pids.get();
  wait_for(b->number, 1);
#if !defined(_WIN32)
  if (polyproc::native_backend::name == "linux") ::kill(static_cast<pid_t>(daemon), SIGSTOP);
  m.kill();
  m.join();
  // It is no child of ours: a zombie of it may linger until the system's first process takes it.
  bool gone = false;
  for (int i = 0; i < 1000 && !gone; ++i) {
    std::ifstream stat("/proc/" + std::to_string(daemon) + "/stat");
    std::string line;
    gone = !std::getline(stat, line) || line.find(") Z") != std::string::npos;
    if (!gone) std::this_thread::sleep_for(5ms);
  }
  CHECK(gone);
#else
  m.kill();
  m.join();
  CHECK(daemon > 0);
#endif
}

TEST_CASE_METHOD(tidy, "~process ends a process that still runs, within bounds") {
  shared_board b;
  auto const begin = std::chrono::steady_clock::now();
  {
    auto p = polyproc::launch(sleep_for_ever, b);
    wait_for(b->number, 1);
  }
  {
    auto d = polyproc::launch(polyproc::process_options{.daemon = true}, sleep_for_ever, b);
  }
  CHECK(std::chrono::steady_clock::now() - begin < 30s);
}

TEST_CASE_METHOD(tidy, "a child may start children, and joins them") {
  shared_board b;
  auto p = polyproc::launch(start_non_daemon_and_return, b);
  p.join();
  CHECK(p.exit_code() == 0);
  CHECK(b->number == 2);
}

TEST_CASE_METHOD(tidy, "[H49] many threads may join one process") {
  shared_board b;
  auto p = polyproc::launch(wait_for_two, b);
  std::atomic<int> joined{0};
  std::vector<std::thread> all;
  for (int i = 0; i < 8; ++i)
    all.emplace_back([&] {
      p.join();
      if (p.exit_code() == 0) ++joined;
    });
  wait_for(b->number, 1);
  b->number = 2;
  for (auto& t : all) t.join();
  CHECK(joined == 8);
}

TEST_CASE_METHOD(tidy, "[H55] arguments of any size reach the child") {
  shared_board b;
  auto p = polyproc::launch(greet, b, std::string(30 << 20, 'x'));
  p.join();
  CHECK(b->number == 30 << 20);
}

TEST_CASE_METHOD(tidy, "[H51] children that have ended leave the process table at the next start") {
  std::vector<polyproc::process> all;
  for (int i = 0; i < 20; ++i) all.push_back(polyproc::launch(nothing_at_all));
  for (auto& p : all) p.join();
  for (auto& p : all) CHECK(p.exit_code() == 0);
}

#if !defined(_WIN32)

TEST_CASE_METHOD(tidy, "a forked child sees captures, and what it changes stays there") {
  shared_board b;
  int n = 100;
  std::string const text = "captured";
  polyproc::process p{polyproc::start::fork, [&] {
                        n = 200;
                        b->number = static_cast<long>(text.size()) + n;
                      }};
  p.start();
  p.join();
  CHECK(p.exit_code() == 0);
  CHECK(b->number == 208);
  CHECK(n == 100);
}

TEST_CASE_METHOD(tidy, "a forked child keeps what is shared alive though its parent lets go") {
  polyproc::queue<int> answers(1);
  shared_board go;
  polyproc::process p;
  {
    polyproc::queue<int> question(1);
    question.put(21);
    p = polyproc::process{polyproc::start::fork, [question, answers, go] {
                            wait_for(go->number, 1);
                            answers.put(2 * question.get());
                          }};
    p.start();
  }
  {
    std::vector<polyproc::queue<int>> fill;  // would take the block if it were free
    for (int i = 0; i < 8; ++i) fill.emplace_back(1);
  }
  go->number = 1;
  CHECK(answers.get() == 42);
  p.join();
  CHECK(p.exit_code() == 0);
}

TEST_CASE_METHOD(tidy, "a forked child's ends are told apart as any other's") {
  polyproc::process thrown{polyproc::start::fork, [] { throw std::runtime_error("from a fork"); }};
  polyproc::process code{polyproc::start::fork, [] { polyproc::native_backend::exit_now(3); }};
  thrown.start();
  code.start();
  thrown.join();
  code.join();
  CHECK(thrown.status()->how == kind::exception);
  CHECK(thrown.status()->exception_what == "from a fork");
  CHECK(code.exit_code() == 3);
}

TEST_CASE_METHOD(tidy, "a program without standard streams can start processes") {
  shared_board b;
  polyproc::process p{polyproc::start::fork, [b] {
                        for (int fd : {0, 1, 2}) ::close(fd);
                        auto inner = polyproc::launch(greet, b, "egon");
                        inner.join();
                        polyproc::process forked{polyproc::start::fork, [b] { b->other = 1; }};
                        forked.start();
                        forked.join();
                        if (inner.exit_code() != 0 || forked.exit_code() != 0) polyproc::native_backend::exit_now(5);
                      }};
  p.start();
  p.join();
  CHECK(p.exit_code() == 0);
  CHECK(b->number == 4);
  CHECK(b->other == 1);
}

TEST_CASE_METHOD(tidy, "a fork that the program makes by itself may use and drop its copies of what is shared") {
  auto pool = std::make_unique<polyproc::process_pool>(1);
  auto q = std::make_unique<polyproc::queue<int>>(2);
  auto const child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    q->put(1);
    pool.reset();
    q.reset();
    ::_exit(0);
  }
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(q->get() == 1);
  CHECK(pool->apply([](int x) { return x + 1; }, 1) == 2);
}

TEST_CASE_METHOD(tidy, "[H48] a status that somebody else took is unknown, never success") {
  shared_board b;
  auto p = polyproc::launch(polyproc::start::spawn, wait_for_two, b);
  wait_for(b->number, 1);
  b->number = 2;
  int status = 0;
  CHECK(::waitpid(static_cast<pid_t>(*p.pid()), &status, 0) == *p.pid());
  p.join();
  CHECK(p.exit_code() == polyproc::unknown_exit_code);
  CHECK(p.status()->how == kind::unknown);
}

#endif
