// What the system refuses is told with the name of its call, and leaves nothing behind.

#include "support/tidy.hpp"

#if !defined(_WIN32)

#include <sys/resource.h>
#include <unistd.h>

namespace {

/// Lowers one of this process's limits while it lives.
class limit {
 public:
  limit(int what, rlim_t to) : what_(what) {
    REQUIRE(getrlimit(resource(), &before_) == 0);
    rlimit lower = before_;
    lower.rlim_cur = to;
    REQUIRE(setrlimit(resource(), &lower) == 0);
  }
  limit(limit const&) = delete;
  limit& operator=(limit const&) = delete;
  ~limit() { setrlimit(resource(), &before_); }

 private:
  decltype(RLIMIT_NOFILE) resource() const { return static_cast<decltype(RLIMIT_NOFILE)>(what_); }
  int what_;
  rlimit before_{};
};

rlim_t first_free_descriptor() {
  int const fd = ::dup(0);
  ::close(fd);
  return static_cast<rlim_t>(fd);
}

template <class Try>
std::string told_by_system(Try&& attempt) {
  try {
    attempt();
  } catch (std::system_error const& e) {
    return e.what();
  }
  return "nothing";
}

}  // namespace

TEST_CASE_METHOD(tidy, "without descriptors a process does not start, says why, and starts later") {
  polyproc::process spawned{nothing_at_all};
  polyproc::process forked{polyproc::start::fork, [] {}};
  for (rlim_t more = 0; more < 4; ++more) {
    std::string first;
    std::string second;
    {
      limit const few(static_cast<int>(RLIMIT_NOFILE), first_free_descriptor() + more);
      first = told_by_system([&] { spawned.start(); });
      second = told_by_system([&] { forked.start(); });
    }
    // With a few descriptors one or the other may do; what is refused names its call.
    for (auto const* said : {&first, &second})
      if (*said != "nothing") CHECK(said->find("polyproc: ") == 0);
    if (more == 0) {
      CHECK(first != "nothing");
      CHECK(second != "nothing");
    }
    for (auto* p : {&spawned, &forked}) {
      if (!p->pid()) continue;
      p->join();
      *p = p == &spawned ? polyproc::process{nothing_at_all} : polyproc::process{polyproc::start::fork, [] {}};
    }
  }
  spawned.start();
  spawned.join();
  CHECK(spawned.exit_code() == 0);
  forked.start();
  forked.join();
  CHECK(forked.exit_code() == 0);
}

TEST_CASE_METHOD(tidy, "a pool whose workers cannot be started says why and leaves none") {
  std::string said;
  {
    limit const few(static_cast<int>(RLIMIT_NOFILE), first_free_descriptor() + 5);
    said = told_by_system([] { polyproc::process_pool pool(8); });
  }
  CHECK(said.find("polyproc: ") == 0);
  polyproc::process_pool pool(1);
  CHECK(pool.apply([](int x) { return x; }, 1) == 1);
}

#endif

TEST_CASE_METHOD(tidy, "a handle to something of another type, or to something gone, is refused with a sentence") {
  using backend = polyproc::native_backend;
  using attached = polyproc::detail::attachment<backend>;
  polyproc::shared<int> number;
  polyproc::writer out;
  polyproc::encode(out, number);
  polyproc::reader in(out.view());
  CHECK_THROWS_AS(polyproc::decode<polyproc::queue<int>>(in), polyproc::handle_error);

  polyproc::queue<int> ints(1);
  polyproc::writer other;
  polyproc::encode(other, ints);
  polyproc::reader again(other.view());
  CHECK_THROWS_AS(polyproc::decode<polyproc::queue<std::string>>(again), polyproc::handle_error);

  CHECK_THROWS_AS(attached::adopt(~std::uint64_t{0} - 4095, 0, 1, "thing"), std::out_of_range);
  CHECK_THROWS_AS(attached::adopt(0, 0, 1, "thing"), std::out_of_range);
}

TEST_CASE_METHOD(tidy, "the argument by which a child knows itself is refused from anybody else") {
  using backend = polyproc::native_backend;
  std::string const marker = "--polyproc-child=";
  for (auto const& text : {marker, marker + "x", marker + std::string(backend::name),
                           marker + std::string(backend::name) + ":", marker + std::string(backend::name) + ":0:1:2:3",
                           marker + std::string(backend::name) + ":999999:1:2:3"}) {
    std::string program = "program";
    std::string argument = text;
    char* argv[] = {program.data(), argument.data(), nullptr};
    INFO(text);
    CHECK_THROWS_AS(backend::adopt(2, argv), std::exception);
  }
}
