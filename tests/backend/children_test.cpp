// own-main: this program is its own child, below polyproc::init.
//
// What concept.hpp asks of a backend about children and what surrounds them, asked of the native one. Cases that say "either
// way" hold for children of start_image and, where there is a helper, of start_served.
#include "child_program.hpp"

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <set>

#if !defined(_WIN32)
#include <signal.h>
#endif

namespace {

using namespace child_program;
namespace files = std::filesystem;

std::vector<bool> ways() { return backend::has_server ? std::vector<bool>{false, true} : std::vector<bool>{false}; }

/// Whether the system shows its processes; not all backends know how to ask.
bool table_is_there() { return !backend::processes(backend::current_pid()).empty(); }

enum class role : std::uint32_t {
  leave,        // return `number`
  wait_for_go,  // tell identities and number, wait for `go`; then return `number`
  spin,         // tell them, use the processor
  write,        // "out" and "err", and what follows through a duplicate of the standard output
  copy,         // standard input to standard output
  environment,  // exit code: whether the environment is as the lines that follow
  directory,    // exit code: whether the file with the name that follows is in the current directory
  set_directory,
  affinity,
  priority,
  meddle,       // with process numbers[0] of identity numbers[1], a stranger
  is_deaf,      // whether Ctrl-C is ignored
  number_of,    // tell the number of the parent
  breed,        // start `enlist` again and again, as `shape` says
  enlist,       // tell the identity in a list, wait for ever
  tree,         // start wait_for_go as `shape` says; with leave_early return, else wait for ever
};

// How `tree` starts what is below it.
constexpr std::uint32_t leave_early = 1;
constexpr std::uint32_t daemon_below = 2;
constexpr std::uint32_t group_below = 4;
constexpr std::uint32_t served_below = 8;
constexpr std::uint32_t two_below = 16;  // a tree like this one, without leave_early, instead of wait_for_go
constexpr std::uint32_t interrupted_below = 32;

void tell(board& b, std::size_t at) {
  b.ids[at].store(backend::self());
  b.ids[at + 1].store(backend::process_self());
  b.numbers[at].store(static_cast<std::uint64_t>(backend::current_pid()));
  bump(b.ready);
}

std::string lines_of(std::vector<std::string> all) {
#if defined(_WIN32)
  // Wine gives these to every process.
  std::erase_if(all, [](std::string const& one) { return one.starts_with("WINE") || one.starts_with("System"); });
#endif
  std::sort(all.begin(), all.end());
  std::string text;
  for (auto const& one : all) text += one + "\n";
  return text;
}

bool has_text(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

int tree(order const& o, board& b) {
  order below = o;
  below.what = static_cast<std::uint32_t>((o.number & two_below) != 0 ? role::tree : role::wait_for_go);
  below.number = o.number & ~(two_below | leave_early);
  auto start = options_for(below, {}, (o.number & daemon_below) != 0);
  start.group = (o.number & group_below) != 0;
  auto child = start_child<backend>(start, (o.number & served_below) != 0);
  if (!reaches(b.ready, 1)) return 1;
  if ((o.number & interrupted_below) != 0) {
    backend::ask(child, child_request::interrupt);
    if (!backend::await_end(child, in(patience))) return 2;
    return backend::reap(child).kind == end_kind::signal ? 0 : 3;
  }
  if ((o.number & two_below) == 0) {
    b.ids[0].store(backend::self());
    bump(b.ready);
  }
  if ((o.number & leave_early) != 0) return 0;
  for (;;) backend::wait(b.ping, 0, never);
}

constexpr std::size_t most_listed = 1000;
wide* list() { return &family_at<wide>(1 << 20, most_listed * sizeof(wide)); }

int breed(order const& o, board& b) {
  order below = o;
  below.what = static_cast<std::uint32_t>(role::enlist);
  std::vector<backend::child> all;
  while (b.counter.load() < most_listed) {
    auto const start = options_for(below);
    all.push_back(start_child<backend>(start, (o.number & served_below) != 0));
  }
  return 0;
}

int enlist(board& b) {
  auto const at = b.counter.fetch_add(1);
  if (at < most_listed) list()[at].store(backend::process_self());
  bump(b.ready);
  for (;;) backend::wait(b.ping, 0, never);
}

int set_directory(std::string const& path) {
  backend::check_directory(path);
  backend::set_directory(path);
  return files::equivalent(files::current_path(), files::path(path)) ? 0 : 1;
}

int affinity() {
  for (std::vector<unsigned> const& wrong : {std::vector<unsigned>{}, std::vector<unsigned>{1'000'000}}) {
    try {
      backend::check_affinity(wrong);
      return 1;
    } catch (std::system_error const& e) {
      if (e.code() == std::errc::not_supported) return 77;
    }
  }
  for (unsigned one = 0; one < 1024; ++one) {
    try {
      backend::check_affinity({one});
    } catch (std::system_error const&) {
      continue;  // not for us
    }
    backend::set_affinity({one});
    return backend::usable_cpus() == 1 ? 0 : 2;
  }
  return 3;
}

int priority() {
  backend::set_priority(5);
  auto const mine = backend::process_alone(backend::current_pid());
  if (!mine || !mine->priority) return 77;
  return *mine->priority;
}

int meddle(board& b) {
  auto const number = static_cast<long>(b.numbers[0].load());
  auto const id = b.numbers[1].load();
  if (backend::open_process(number, id ^ (std::uint64_t{1} << 40))) return 1;  // another process had that number
  auto other = backend::open_process(number, id);
  if (!other) return 2;
  if (backend::pid(*other) != number) return 3;
  if (backend::await_end(*other, in(30ms))) return 4;
  if (!backend::ask(*other, child_request::kill)) return 5;
  if (!backend::await_end(*other, in(patience))) return 6;
  if (backend::ask(*other, child_request::kill)) return 7;
  backend::release(*other);
  return backend::open_process(number, id) ? 8 : 0;
}

/// Where nobody can press Ctrl-C: what the system would do.
int is_deaf() {
#if !defined(_WIN32)
  struct sigaction now = {};
  return sigaction(SIGINT, nullptr, &now) == 0 && now.sa_handler == SIG_IGN ? 1 : 0;
#elif defined(_WIN64)
  namespace api = polyproc::detail::win32;
  api::process_basics basics;
  auto* const query = api::lookup<api::query_process_function>(L"ntdll.dll", "NtQueryInformationProcess");
  query(api::GetCurrentProcess(), 0, &basics, sizeof basics, nullptr);
  std::byte const* parameters = nullptr;
  std::memcpy(&parameters, static_cast<std::byte const*>(basics.peb) + 0x20, sizeof parameters);
  std::uint32_t console_flags = 0;
  std::memcpy(&console_flags, parameters + 0x18, sizeof console_flags);
  return static_cast<int>(console_flags & 1);
#else
  return 77;
#endif
}

int run(order const& o, std::string_view more) {
  board& b = board_at(o.board_offset);
  switch (static_cast<role>(o.what)) {
    case role::leave: return static_cast<int>(o.number);
    case role::wait_for_go:
      tell(b, 1);
      return reaches(b.go, 1) ? static_cast<int>(o.number) : 99;
    case role::spin:
      tell(b, 1);
      for (;;) b.counter.fetch_add(1);
    case role::write: {
      std::fputs("out", stdout);
      std::fflush(stdout);
      std::fputs("err", stderr);
      std::fflush(stderr);
      auto const again = backend::stream_duplicate(1);
      if (again == backend::invalid_handle) return 1;
      backend::pipe_write(again, bytes_of(more));
      backend::handle_close(again);
      return 0;
    }
    case role::copy: {
      std::array<char, 1000> part{};
      while (auto const n = std::fread(part.data(), 1, part.size(), stdin))
        if (std::fwrite(part.data(), 1, n, stdout) != n) return 1;
      return std::fflush(stdout) == 0 ? 0 : 2;
    }
    case role::environment: return lines_of(backend::environment_list()) == more ? 0 : 1;
    case role::directory: return std::ifstream(std::string(more)).good() ? 0 : 1;
    case role::set_directory: return set_directory(std::string(more));
    case role::affinity: return affinity();
    case role::priority: return priority();
    case role::meddle: return meddle(b);
    case role::is_deaf: return is_deaf();
    case role::number_of:
      b.numbers[0].store(static_cast<std::uint64_t>(backend::parent_pid()));
      return static_cast<int>(o.number);
    case role::breed: return breed(o, b);
    case role::enlist: return enlist(b);
    case role::tree: return tree(o, b);
  }
  return 98;
}

/// Wine loses track of a process whose parent is ended while it makes it: that one then hangs for ever before its first
/// instruction. Windows makes processes in one step.
bool killing_makers_is_safe() {
#if defined(_WIN32)
  using version_function = char const*();
  return polyproc::detail::win32::lookup<version_function*>(L"ntdll.dll", "wine_get_version") == nullptr;
#else
  return true;
#endif
}

/// A directory that is gone with the test.
class scratch {
 public:
  scratch() {
    std::array<std::byte, 8> some{};
    backend::random(some);
    std::string called = "polyproc-test-";
    for (auto const one : some) called += std::to_string(std::to_integer<int>(one));
    path_ = files::temp_directory_path() / called;
    files::create_directory(path_);
  }
  scratch(scratch const&) = delete;
  scratch& operator=(scratch const&) = delete;
  ~scratch() {
    std::error_code ignored;
    files::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string path() const { return path_.string(); }
  [[nodiscard]] std::string file(char const* called) const { return (path_ / called).string(); }

 private:
  files::path path_;
};

std::string text_of(std::string const& path) {
  std::ifstream in_file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in_file), {}};
}

/// A handle that is closed with its scope.
class kept {
 public:
  explicit kept(backend::handle h) : handle_(h) {}
  kept(kept const&) = delete;
  kept& operator=(kept const&) = delete;
  ~kept() { close(); }
  void close() { backend::handle_close(std::exchange(handle_, backend::invalid_handle)); }
  [[nodiscard]] backend::handle get() const { return handle_; }

 private:
  backend::handle handle_;
};

std::string all_of(backend::handle read) {
  std::string text;
  std::array<std::byte, 256> part{};
  while (auto const n = backend::pipe_read(read, part)) text.append(reinterpret_cast<char const*>(part.data()), n);
  return text;
}

int run_once(order const& o, std::string_view more = {}) {
  started child(o, more);
  return child.end().value;
}

}  // namespace

// --- streams, environment, directory

TEST_CASE("a child's streams are those it is given, either way") {
  fixture f;
  scratch const here;
  for (bool const served : ways()) {
    auto [read, write] = backend::pipe_create();
    kept const reader(read);
    kept writer(write);
    {
      kept const error(backend::open_stream(stream_mode::write, here.file("err")));
      auto start = options_for(f.with(role::write), "more");
      start.streams = {backend::invalid_handle, writer.get(), error.get()};
      started child(start, served);
      writer.close();
      CHECK(all_of(reader.get()) == "outmore");  // and the end of the file: nobody else has the other end
      CHECK(plain(child.end()) == code(0));
    }
    CHECK(text_of(here.file("err")) == "err");
  }
}

TEST_CASE("a child reads what it is given, either way") {
  fixture f;
  scratch const here;
  for (bool const served : ways()) {
    auto const copy_from = [&](backend::handle from, auto&& meanwhile) {
      {
        kept const to(backend::open_stream(stream_mode::write, here.file("copy")));
        auto start = options_for(f.with(role::copy));
        start.streams = {from, to.get(), backend::invalid_handle};
        started child(start, served);
        meanwhile();
        CHECK(plain(child.end()) == code(0));
      }
      return text_of(here.file("copy"));
    };
    {
      kept const nothing(backend::open_stream(stream_mode::null_in, ""));
      CHECK(copy_from(nothing.get(), [] {}).empty());
    }
    std::ofstream(here.file("some")) << "what a file has";
    {
      kept const file(backend::open_stream(stream_mode::read, here.file("some")));
      CHECK(copy_from(file.get(), [] {}) == "what a file has");
    }
    auto [read, write] = backend::pipe_create();
    kept reader(read);
    kept writer(write);
    CHECK(copy_from(reader.get(), [&] {
            reader.close();
            backend::pipe_write(writer.get(), bytes_of("what a pipe "));
            backend::pipe_write(writer.get(), bytes_of("brings"));
            writer.close();
          }) == "what a pipe brings");
  }
}

TEST_CASE("streams are opened as asked, or say which file it was") {
  fixture f;
  scratch const here;
  auto const write_to = [&](stream_mode mode, std::string const& path) {
    kept const out(backend::open_stream(mode, path));
    backend::pipe_write(out.get(), bytes_of("12345"));
  };
  auto const path = here.file("file");
  write_to(stream_mode::append, path);
  write_to(stream_mode::append, path);
  CHECK(text_of(path) == "1234512345");
  write_to(stream_mode::write, path);
  CHECK(text_of(path) == "12345");
  {
    kept const one(backend::open_stream(stream_mode::append, path));
    kept const two(backend::open_stream(stream_mode::append, path));
    for (auto const* const out : {&one, &two, &one}) backend::pipe_write(out->get(), bytes_of("x"));
  }
  CHECK(text_of(path) == "12345xxx");
  write_to(stream_mode::null_out, "");
  write_to(stream_mode::write, here.file("Gr\xC3\xBC\xC3\x9F" "e"));
  backend::handle_close(backend::open_stream(stream_mode::read, here.file("Gr\xC3\xBC\xC3\x9F" "e")));
  for (auto const mode : {stream_mode::read, stream_mode::write, stream_mode::append}) {
    auto const missing = here.file("no") + "/such/file";
    try {
      backend::open_stream(mode, missing);
      FAIL("opened");
    } catch (std::system_error const& e) {
      CHECK(e.code() == std::errc::no_such_file_or_directory);
      CHECK(has_text(e.what(), missing));
    }
  }
}

TEST_CASE("a child has the environment that it is given, either way") {
  fixture f;
  auto all = backend::environment_list();
  auto const path = backend::environment("PATH");
  REQUIRE(path);
  bool found = false;
  for (auto const& one : all) found = found || one.substr(one.find('=') + 1) == *path;
  CHECK(found);
  all.emplace_back("polyproc_zzz=");
  all.emplace_back("POLYPROC_ABC=Gr\xC3\xBC\xC3\x9F" "e = \xE2\x82\xAC");
  all.emplace_back("PolyProc=1");
  for (bool const served : ways()) {
    // Nothing else, and in no order.
    std::vector<std::string> const few{"zeta=26", "Alpha=1", "beta=two words", "POLYPROC_U=\xE2\x82\xAC", "PATH=" + *path};
    for (auto const* const given : {&std::as_const(all), &few}) {
      auto start = options_for(f.with(role::environment), lines_of(*given));
      start.environment = given;
      started child(start, served);
      CHECK(plain(child.end()) == code(0));
    }
    auto const as_here = options_for(f.with(role::environment), lines_of(backend::environment_list()));
    started child(as_here, served);
    CHECK(plain(child.end()) == code(0));
  }
  CHECK(backend::environment("pAtH").has_value() == backend::environment_ignores_case);
}

TEST_CASE("a process can change its directory") {
  fixture f;
  scratch const here;
  std::ofstream(here.file("there")) << "yes";
  CHECK(run_once(f.with(role::set_directory), here.path()) == 0);
  for (char const* const wrong : {"no such directory", "there"}) {
    auto const path = here.file(wrong);
    auto const is = wrong[0] == 'n' ? std::errc::no_such_file_or_directory : std::errc::not_a_directory;
    for (auto* const call : {&backend::check_directory, &backend::set_directory}) {
      try {
        call(path);
        FAIL("done");
      } catch (std::system_error const& e) {
        CHECK(e.code() == is);
        CHECK(has_text(e.what(), path));
      }
    }
  }
  // Children start where this process is now.
  auto const before = files::current_path();
  for (bool const served : ways()) {
    {
      started child(options_for(f.with(role::directory), "there"), served);
      CHECK(plain(child.end()) == code(1));
    }
    backend::set_directory(here.path());
    started child(options_for(f.with(role::directory), "there"), served);
    auto const end = plain(child.end());
    files::current_path(before);
    CHECK(end == code(0));
  }
}

TEST_CASE("a process can choose its processors and its priority") {
  fixture f;
  CHECK((std::set<int>{0, 77}.count(run_once(f.with(role::affinity))) == 1));
  auto const niceness = run_once(f.with(role::priority));
  // Windows has no class at 5; the next one that is served later counts as 10.
  CHECK((niceness == 5 || niceness == 10 || niceness == 77));
}

TEST_CASE("a thread can be named") {
  fixture f;
  std::thread([] {
    backend::begin_own_thread("short");
    backend::begin_own_thread("a name that is much longer than any system takes, gr\xC3\xBC\xC3\x9F" "e");
    backend::begin_own_thread("");
  }).join();
}

// --- who is who

TEST_CASE("a child is known by the identity that it has itself, either way") {
  fixture f;
  std::set<std::uint64_t> seen{backend::process_self()};
  for (bool const served : ways()) {
    fixture one;
    started child(options_for(one.with(role::wait_for_go)), served);
    auto const early = backend::identity_of(child.get());
    REQUIRE(reaches(one.b->ready, 1));
    auto const told = one.b->ids[2].load();
    CHECK(seen.insert(told).second);
    CHECK(one.b->numbers[1].load() == static_cast<std::uint64_t>(backend::pid(child.get())));
    for (auto const id : {early, backend::identity_of(child.get())})
      CHECK((id == told || (id == 0 && !backend::identity_from_outside)));
    CHECK(backend::alive(told));
    raise(one.b->go, 1);
    REQUIRE(backend::await_end(child.get(), in(patience)));
    CHECK(eventually([&] { return !backend::alive(told); }));
    auto const late = backend::identity_of(child.get());
    CHECK((late == told || (late == 0 && !backend::identity_from_outside)));
    CHECK(plain(child.end()) == code(0));
  }
}

TEST_CASE("a stranger can be awaited and killed by number and identity") {
  fixture f;
  started child(f.with(role::wait_for_go));
  REQUIRE(reaches(f.b->ready, 1));
  fixture g;
  g.b->numbers[0].store(static_cast<std::uint64_t>(backend::pid(child.get())));
  g.b->numbers[1].store(f.b->ids[2].load());
  CHECK(run_once(g.with(role::meddle)) == 0);
  CHECK(plain(child.end()) == signal_number(9));
  CHECK(!backend::open_process(backend::current_pid(), g.b->numbers[1].load()));
  auto own = backend::open_process(backend::current_pid(), backend::process_self());
  REQUIRE(own);
  CHECK(!backend::await_end(*own, in(10ms)));
  backend::release(*own);
}

TEST_CASE("whether anybody may have ended is told, and true when in doubt") {
  fixture f;
  started child(f.with(role::leave));
  REQUIRE(backend::await_end(child.get(), in(patience)));
  CHECK(backend::maybe_ended());
  CHECK(plain(child.end()) == code(0));
}

TEST_CASE("the table of processes shows children below their parents") {
  fixture f;
  if (!table_is_there()) {
    CHECK(!backend::process_alone(backend::current_pid()));
    return;
  }
  started child(f.with(role::tree));
  REQUIRE(reaches(f.b->ready, 2));
  auto const me = backend::current_pid();
  auto const number = backend::pid(child.get());
  auto const grandchild = static_cast<long>(f.b->numbers[1].load());
  auto const rows = backend::processes(me);
  auto const at = [&](long pid) {
    return std::find_if(rows.begin(), rows.end(), [&](auto const& row) { return row.pid == pid; }) - rows.begin();
  };
  auto const there = static_cast<std::ptrdiff_t>(rows.size());
  REQUIRE(at(me) == 0);
  REQUIRE(at(number) < at(grandchild));
  REQUIRE(at(grandchild) < there);
  std::set<long> above;
  for (auto const& row : rows) {
    CHECK((row.pid == me || above.count(row.parent) == 1));
    CHECK(above.insert(row.pid).second);
    CHECK(row.user == rows[0].user);
    CHECK(row.threads.value_or(1) >= 1);
    CHECK(row.memory.value_or(1) > 0);
    CHECK(row.priority.value_or(0) == rows[0].priority.value_or(0));
  }
  CHECK(rows[static_cast<std::size_t>(at(number))].parent == me);
  CHECK(rows[static_cast<std::size_t>(at(grandchild))].parent == number);
  CHECK(has_text(rows[0].name, "child"));
  CHECK(backend::processes(number).size() == 2);
  auto const one = backend::process_alone(grandchild);
  REQUIRE(one);
  CHECK(one->pid == grandchild);
  CHECK(one->parent == number);
  CHECK(one->name == rows[0].name);
  CHECK((one->state == process_state::blocked || one->state == process_state::running ||
         one->state == process_state::ready || one->state == process_state::unknown));
  backend::kill_tree(child.get());
  CHECK(plain(child.end()) == signal_number(9));
  CHECK(!backend::process_alone(number));
  CHECK(backend::processes(number).empty());
}

TEST_CASE("the table of processes shows who runs and who is stopped") {
  fixture f;
  if (!table_is_there()) return;
  started child(f.with(role::spin));
  REQUIRE(reaches(f.b->ready, 1));
  auto const row = [&] { return backend::process_alone(backend::pid(child.get())).value_or(polyproc::process_row{}); };
  CHECK(eventually([&] { return row().cpu_time.value_or(1h) >= 20ms; }));
  CHECK(eventually([&] {
    auto const state = row().state;
    return state == process_state::running || state == process_state::ready || state == process_state::unknown;
  }));
  CHECK(child.ask(child_request::stop));
  CHECK(eventually([&] { return row().state == process_state::stopped || row().state == process_state::unknown; }));
  CHECK(child.ask(child_request::kill));
  CHECK(plain(child.end()) == signal_number(9));
}

// --- trees

TEST_CASE("a tree is killed with all its branches, either way") {
  for (bool const served : ways()) {
    std::uint32_t const way = served ? served_below : 0;
    for (std::uint32_t const shape : {0U, two_below, daemon_below, group_below, two_below | group_below | daemon_below}) {
      for (bool const group : {false, true}) {
        // Without a group of the root the table of processes is what shows the others.
        if (!group && !table_is_there()) continue;
        // A group of its own is out of the reach of whoever cannot look at the table.
        if ((shape & group_below) != 0 && !table_is_there()) continue;
        fixture f;
        auto start = options_for(f.with(role::tree, shape | way));
        start.group = group;
        started child(start, served);
        REQUIRE(reaches(f.b->ready, 2));
        auto const below = f.b->ids[1].load();
        CHECK(backend::alive(below));
        backend::kill_tree(child.get());
        CHECK(eventually([&] { return !backend::alive(below); }));
        CHECK(plain(child.end()) == signal_number(9));
      }
    }
  }
}

TEST_CASE("a tree that grows is killed with what it starts meanwhile, either way") {
  if (!killing_makers_is_safe()) return;
  for (bool const served : ways()) {
    for (bool const group : {false, true}) {
      if (!group && !table_is_there()) continue;
      fixture f;
      auto start = options_for(f.with(role::breed, served ? served_below : 0));
      start.group = group;
      started child(start, served);
      REQUIRE(reaches(f.b->ready, 5));
      backend::kill_tree(child.get());
      CHECK(plain(child.end()) == signal_number(9));
      auto const all_dead = [&] {
        bool dead = true;
        for (std::size_t i = 0; i < std::min<std::size_t>(most_listed, f.b->counter.load()); ++i) {
          auto const id = list()[i].load();
          dead = dead && (id == 0 || !backend::alive(id));
        }
        return dead;
      };
      CHECK(eventually(all_dead));
      auto const count = f.b->counter.load();
      std::this_thread::sleep_for(100ms);  // whoever escaped comes now
      CHECK(f.b->counter.load() == count);
      CHECK(all_dead());
      for (std::size_t i = 0; i < most_listed; ++i) list()[i].store(0);
    }
  }
}

TEST_CASE("what the root of a tree left behind is found by its group, either way") {
  for (bool const served : ways()) {
    fixture f;
    auto start = options_for(f.with(role::tree, leave_early | (served ? served_below : 0)));
    start.group = true;
    started child(start, served);
    REQUIRE(reaches(f.b->ready, 2));
    REQUIRE(backend::await_end(child.get(), in(patience)));
    auto const below = f.b->ids[1].load();
    CHECK(backend::alive(below));
    backend::kill_tree(child.get());
    CHECK(eventually([&] { return !backend::alive(below); }));
    CHECK(plain(child.end()) == code(0));
  }
}

TEST_CASE("a child with a group of its own that nobody kills is like any other") {
  fixture f;
  auto start = options_for(f.with(role::tree, leave_early));
  start.group = true;
  {
    started child(start);
    REQUIRE(reaches(f.b->ready, 2));
    CHECK(plain(child.end()) == code(0));
  }
  // Nobody knows the group any more; what was left behind in it goes on.
  auto const below = f.b->ids[1].load();
  CHECK(backend::alive(below));
  raise(f.b->go, 1);
  CHECK(eventually([&] { return !backend::alive(below); }));
}

TEST_CASE("a daemon with a group of its own ends with its parent, either way") {
  for (bool const served : ways()) {
    fixture f;
    started child(options_for(f.with(role::tree, daemon_below | group_below | (served ? served_below : 0))), served);
    REQUIRE(reaches(f.b->ready, 2));
    auto const below = f.b->ids[1].load();
    CHECK(backend::alive(below));
    CHECK(child.ask(child_request::kill));
    CHECK(plain(child.end()) == signal_number(9));
    CHECK(eventually([&] { return !backend::alive(below); }));
  }
}

TEST_CASE("killing a tree whose root is stopped, or has ended alone, does no harm") {
  fixture f;
  started child(f.with(role::wait_for_go));
  REQUIRE(reaches(f.b->ready, 1));
  CHECK(child.ask(child_request::stop));
  backend::kill_tree(child.get());
  REQUIRE(backend::await_end(child.get(), in(patience)));
  backend::kill_tree(child.get());
  CHECK(plain(child.end()) == signal_number(9));
}

TEST_CASE("Ctrl-C does nothing to a child that is to ignore it, and only to that one, either way") {
  for (bool const served : ways()) {
    fixture f;
    for (bool const ignore : {true, false}) {
      auto start = options_for(f.with(role::is_deaf));
      start.ignore_interrupt = ignore;
      started child(start, served);
      auto const end = child.end();
      CHECK((end.value == (ignore ? 1 : 0) || end.value == 77));
    }
    if (backend::has_fork) {  // on Windows to interrupt is to terminate
      auto start = options_for(f.with(role::wait_for_go, 7));
      start.ignore_interrupt = true;
      started child(start, served);
      REQUIRE(reaches(f.b->ready, 1));
      CHECK(child.ask(child_request::interrupt));
      CHECK(!backend::await_end(child.get(), in(50ms)));
      raise(f.b->go, 1);
      CHECK(plain(child.end()) == code(7));
    }
    // It is not passed on.
    fixture g;
    auto start = options_for(g.with(role::tree, interrupted_below | (served ? served_below : 0)));
    start.ignore_interrupt = true;
    started child(start, served);
    CHECK(plain(child.end()) == code(0));
  }
}

// --- waiting for many things

TEST_CASE("the first of several that is ready is told") {
  fixture f;
  started child(f.with(role::wait_for_go));
  REQUIRE(reaches(f.b->ready, 1));
  auto [read, write] = backend::pipe_create();
  kept const reader(read);
  kept writer(write);
  auto [read2, write2] = backend::pipe_create();
  kept const reader2(read2);
  kept const writer2(write2);
  std::array<backend::handle, 3> const all{reader.get(), backend::sentinel(child.get()), reader2.get()};
  auto const before = backend::now();
  CHECK(!backend::wait_any(all, before + 50ms));
  CHECK(backend::now() - before >= 50ms);
  CHECK(backend::now() - before < 10s);
  CHECK(!backend::wait_any(all, time_point{}));
  CHECK(!backend::wait_any({}, in(10ms)));

  backend::pipe_write(writer2.get(), bytes_of("x"));
  CHECK(backend::wait_any(all, never) == 2U);
  CHECK(backend::wait_any(all, time_point{}) == 2U);
  std::array<std::byte, 4> into{};
  CHECK(backend::pipe_read(reader2.get(), into) == 1);
  CHECK(!backend::wait_any(all, time_point{}));
  std::thread later([&] {
    std::this_thread::sleep_for(20ms);
    raise(f.b->go, 1);
  });
  CHECK(backend::wait_any(all, in(patience)) == 1U);
  later.join();
  CHECK(backend::wait_any(all, in(patience)) == 1U);  // it stays so, also when its status was taken
  CHECK(plain(child.end()) == code(0));
  CHECK(backend::wait_any(all, in(patience)) == 1U);
  std::thread closer([&] {
    std::this_thread::sleep_for(20ms);
    writer.close();
  });
  CHECK(backend::wait_any(std::span(all).first(1), in(patience)) == 0U);  // the end of the file
  closer.join();
  CHECK(backend::wait_any(all, in(patience)) == 0U);
}

TEST_CASE("any number of things can be waited for at once") {
  fixture f;
  started child(f.with(role::wait_for_go));
  REQUIRE(reaches(f.b->ready, 1));
  constexpr std::size_t pipes = 75;
  std::vector<backend::handle> all;
  std::vector<backend::handle> writers;
  for (std::size_t i = 0; i < pipes; ++i) {
    auto const [read, write] = backend::pipe_create();
    all.push_back(read);
    writers.push_back(write);
    all.push_back(backend::handle_duplicate(backend::sentinel(child.get())));
  }
  auto const before = backend::now();
  CHECK(!backend::wait_any(all, before + 50ms));
  CHECK(backend::now() - before >= 50ms);
  CHECK(backend::now() - before < 10s);
  std::array<std::byte, 4> into{};
  for (std::size_t const i : {pipes - 1, std::size_t{0}, pipes / 2}) {
    std::thread later([&] {
      std::this_thread::sleep_for(10ms);
      backend::pipe_write(writers[i], bytes_of("x"));
    });
    CHECK(backend::wait_any(all, in(patience)) == 2 * i);
    later.join();
    CHECK(backend::pipe_read(all[2 * i], into) == 1);
  }
  std::thread later([&] {
    std::this_thread::sleep_for(10ms);
    raise(f.b->go, 1);
  });
  auto const ended = backend::wait_any(all, in(patience));
  CHECK(ended.value_or(0) % 2 == 1);  // one of the second handles to the child; perhaps it ended while they were looked at
  later.join();
  CHECK(backend::wait_any(all, time_point{}) == 1U);
  CHECK(plain(child.end()) == code(0));
  for (auto const& group : {all, writers})
    for (auto const h : group) backend::handle_close(h);
}

// --- the helper

namespace {

template <class Backend>
std::optional<typename Backend::child> serve(order const& o) {
  return Backend::start_served(options_for(o));
}

/// The helper is nobody's business, but it can be told among our children: those that we did not start are it and what it has
/// in reserve, and it is the first of them.
[[maybe_unused]] long helper_of(std::set<long> const& known) {
  long found = 0;
  for (auto const& row : backend::processes(backend::current_pid())) {
    bool const ours = row.parent == backend::current_pid() && row.state != process_state::ended;
    if (ours && known.count(row.pid) == 0 && (found == 0 || row.pid < found)) found = row.pid;
  }
  return found;
}

#if !defined(_WIN32)
void kill_helper(long helper) {
  REQUIRE(helper != 0);
  ::kill(static_cast<pid_t>(helper), SIGKILL);
  CHECK(eventually([&] {
    auto const row = backend::process_alone(helper);
    return !row || row->state == process_state::ended;
  }));
}
#endif

template <class Backend>
void served_tests() {
  if constexpr (Backend::has_server) {
    fixture f;
    auto const serve_and_check = [&](int count) {
      std::vector<std::unique_ptr<started>> all;
      std::set<long> numbers;
      for (int i = 0; i < count; ++i) {
        auto made = serve<Backend>(f.with(role::number_of, static_cast<std::uint32_t>(i)));
        REQUIRE(made);
        all.push_back(std::make_unique<started>(std::move(*made)));
        CHECK(numbers.insert(Backend::pid(all.back()->get())).second);
      }
      for (int i = 0; i < count; ++i) CHECK(plain(all[static_cast<std::size_t>(i)]->end()) == code(i));
      CHECK(f.b->numbers[0].exchange(0) == static_cast<std::uint64_t>(Backend::current_pid()));
    };
    SECTION("many children, one after the other and at once") {
      serve_and_check(40);
      std::vector<std::thread> threads;
      word good{0};
      for (std::uint32_t i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] {
          for (std::uint32_t k = 0; k < 10; ++k) {
            auto child = serve<Backend>(f.with(role::leave, 10 * i + k));
            if (child && Backend::await_end(*child, in(patience)) &&
                plain(Backend::reap(*child)) == code(static_cast<int>(10 * i + k)))
              bump(good);
            if (child) Backend::release(*child);
          }
        });
      }
      for (auto& t : threads) t.join();
      CHECK(good.load() == 40);
    }
#if !defined(_WIN32)
    SECTION("the environment is what it is now") {
      for (char const* const value : {"one", "two"}) {
        setenv("POLYPROC_TEST_NOW", value, 1);
        auto made = Backend::start_served(options_for(f.with(role::environment), lines_of(Backend::environment_list())));
        REQUIRE(made);
        started child(std::move(*made));
        CHECK(plain(child.end()) == code(0));
      }
      unsetenv("POLYPROC_TEST_NOW");
    }
    SECTION("a helper that was killed is replaced") {
      for (int round = 0; round < 3; ++round) {
        serve_and_check(3);
        if (!table_is_there()) return;
        kill_helper(helper_of({}));
        serve_and_check(3);
      }
    }
    SECTION("children outlive a helper that was killed, and their ends are known") {
      started child(options_for(f.with(role::wait_for_go, 6)), true);
      REQUIRE(reaches(f.b->ready, 1));
      if (!table_is_there()) return;
      auto const row = Backend::process_alone(Backend::pid(child.get()));
      bool const own = row && row->parent == Backend::current_pid();
      kill_helper(helper_of({Backend::pid(child.get())}));
      raise(f.b->go, 1);
      auto const end = plain(child.end());
      // Where it was the helper's child nobody can tell any more.
      CHECK((end == code(6) || (!own && end.kind == end_kind::unknown)));
      serve_and_check(2);
    }
    SECTION("a helper that is stopped keeps nobody waiting") {
      serve_and_check(1);
      if (!table_is_there()) return;
      auto const helper = helper_of({});
      REQUIRE(helper != 0);
      ::kill(static_cast<pid_t>(helper), SIGSTOP);
      auto const before = Backend::now();
      auto made = serve<Backend>(f.with(role::leave, 3));
      CHECK(Backend::now() - before < patience);
      ::kill(static_cast<pid_t>(helper), SIGCONT);
      if (made) {
        started child(std::move(*made));
        CHECK(plain(child.end()) == code(3));
      }
      CHECK(eventually([&] {
        auto again = serve<Backend>(f.with(role::leave, 4));
        if (!again) return false;
        started child(std::move(*again));
        return plain(child.end()) == code(4);
      }));
    }
#endif
  }
}

}  // namespace

TEST_CASE("children of a helper, where there is one") { served_tests<backend>(); }

int main(int argc, char** argv) {
  return main_of(argc, argv, &run, {static_cast<std::uint32_t>(role::leave), 0, backend::family_reserved + 4096});
}
