// Shared memory, with and without a name.
//
//   shared_memory                  shows all of it with processes of its own
//   shared_memory --create NAME    makes a notice that other programs find by its name
//   shared_memory --show NAME      reads it, and counts its readers
//   shared_memory --remove NAME    takes the name away
//
// What to look at: an array that a producer and a consumer use by halves, kept in order by two semaphores; an object
// that another process finds by its name alone, and what happens when the types differ; a handle through which an
// object can only be read, so that a process that writes all the same is ended and nobody else; a std::vector that two
// processes fill.
//
// A name stays until it is removed. On Windows it goes with its last user: there --create stays until --remove is
// called.

#include <polyproc/polyproc.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

using polyproc::launch;
using polyproc::shared;
using polyproc::shared_array;

bool all_well = true;

void say(std::string const& line) {
  std::puts(line.c_str());
  std::fflush(stdout);  // before another process writes to the same place
}
void expect(bool good, char const* what) {
  if (good) return;
  all_well = false;
  say(std::string("  NOT AS PROMISED: ") + what);
}

// --- without a name: processes get the handle as an argument

/// The array has two halves: while one is filled the other is read.
constexpr std::size_t half = 4;
constexpr int rounds = 10;
struct order {
  polyproc::semaphore room{2};
  polyproc::semaphore filled;
};

void produce(shared_array<int> a, shared<order> o) {
  int next = 0;
  for (std::size_t round = 0; round < rounds; ++round) {
    o->room.acquire();
    for (int& place : a.slice(round % 2 * half, half)) place = ++next;
    o->filled.release();
  }
}
void consume(shared_array<int const> a, shared<order> o, shared<long> sum) {  // it only reads the array
  for (std::size_t round = 0; round < rounds; ++round) {
    o->filled.acquire();
    auto const part = a.slice(round % 2 * half, half);
    *sum = std::accumulate(part.begin(), part.end(), *sum);
    o->room.release();
  }
}
void show_array() {
  shared_array<int> a(2 * half);
  shared<order> o;
  shared<long> sum;
  auto one = launch(produce, a, o);
  auto two = launch(consume, a, o, sum);
  one.join();
  two.join();
  say("array: 1 to 40 went through " + std::to_string(a.size()) + " places, their sum is " + std::to_string(*sum));
  expect(*sum == 820, "a number was lost");
}

// --- with a name: another process, or another program, finds it

struct notice {
  std::array<char, 64> text = {};
  std::atomic<int> readers{0};
  polyproc::event taken_down{};
};
struct something_else {
  double value = 0;
};

shared<notice> put_up(std::string const& name, std::string const& text, polyproc::lifetime how_long) {
  polyproc::name_options options;
  options.lifetime = how_long;
  std::array<char, 64> line = {};
  text.copy(line.data(), line.size() - 1);
  return shared<notice>::create(name, options, line);  // whoever finds it finds it whole
}
int read_notice(std::string const& name) {
  auto const found = shared<notice>::open(name);
  int const reader = ++found->readers;
  say(std::string("notice: \"") + found->text.data() + "\", reader " + std::to_string(reader));
  return reader;
}

void show_name() {
  auto const name = "polyproc-example-" + std::to_string(polyproc::this_process::pid());
  auto const mine = put_up(name, "fresh eggs", polyproc::lifetime::owner);  // with this process, the name goes too
  for (int i = 0; i < 2; ++i) {
    auto p = launch(read_notice, name);  // the name is all it gets
    p.join();
  }
  expect(mine->readers == 2, "it was not read twice");
  try {
    auto const wrong = shared<something_else>::open(name);
    expect(false, "an object of another type was opened");
  } catch (polyproc::handle_error const& problem) {
    say(std::string("another type: ") + problem.what());
  }
  try {
    auto const again = shared<notice>::create(name);
    expect(false, "a name was given twice");
  } catch (std::system_error const& problem) {
    expect(problem.code() == std::errc::file_exists, "another error than promised");
    say(std::string("the name again: ") + problem.what());
  }
}

// --- for reading only

struct price {
  int euros = 3;
};
void read_price(shared<price const> p) { say("reader: " + std::to_string(p->euros) + " euros"); }
void change_price(shared<price const> p) {
  say("writer: gets around the compiler ...");
  const_cast<int volatile&>(p->euros) = 1;
  say("writer: it WORKED");
}
void show_reading_only() {
  shared<price> p;
  auto reader = launch(read_price, p);
  reader.join();
  auto writer = launch(change_price, p);
  writer.join();
  say("writer: ended with " + std::to_string(writer.exit_code().value_or(0)) + "; still " + std::to_string(p->euros) +
      " euros");
  expect(reader.exit_code() == 0, "the reader did not return");
  expect(writer.exit_code() == -11 && p->euros == 3, "a write through a handle for reading");
}

// --- a heap: containers that grow

using numbers = std::vector<int, polyproc::heap_allocator<int>>;
/// The first object of the heap, by which all processes find the rest.
struct catalogue {
  explicit catalogue(polyproc::heap_allocator<int> const& from) : squares(from) {}
  polyproc::mutex lock;
  numbers squares;
};
void add_squares(polyproc::shared_heap heap, int from, int to) {
  auto& found = heap.root<catalogue>();
  for (int i = from; i < to; ++i) {
    std::scoped_lock hold{found.lock};
    found.squares.push_back(i * i);
  }
}
void show_heap() {
  polyproc::shared_heap heap(1 << 16);
  auto one = launch(add_squares, heap, 0, 50);
  auto two = launch(add_squares, heap, 50, 100);
  one.join();
  two.join();
  auto& squares = heap.root<catalogue>().squares;
  std::sort(squares.begin(), squares.end());
  say("heap: two processes put " + std::to_string(squares.size()) + " squares into one vector, the largest is " +
      (squares.empty() ? "none" : std::to_string(squares.back())));
  expect(squares.size() == 100 && squares.back() == 99 * 99, "a square was lost");
}

// --- programs that know nothing of each other

void create_notice(std::string const& name) {
  auto const text = "written by program " + std::to_string(polyproc::this_process::pid());
  auto const made = put_up(name, text, polyproc::lifetime::until_removed);
  say(std::string("created: \"") + made->text.data() + "\"");
#if defined(_WIN32)
  made->taken_down.wait();
#endif
}
void remove_notice(std::string const& name) {
  auto const found = shared<notice>::try_open(name);
  if (!shared<notice>::remove(name)) throw std::runtime_error("there is no shared memory \"" + name + "\"");
  if (found) (*found)->taken_down.set();  // who has it open still can use it
  say("removed");
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);

  try {
    std::string_view const what = argc == 3 ? argv[1] : "";
    if (what == "--create") {
      create_notice(argv[2]);
    } else if (what == "--show") {
      read_notice(argv[2]);
    } else if (what == "--remove") {
      remove_notice(argv[2]);
    } else if (argc > 1) {
      std::fprintf(stderr, "usage: shared_memory [--create NAME | --show NAME | --remove NAME]\n");
      return 2;
    } else {
      show_array();
      show_name();
      show_reading_only();
      show_heap();
    }
    return all_well ? 0 : 1;
  } catch (std::exception const& problem) {
    std::fprintf(stderr, "shared_memory: %s\n", problem.what());
    return 1;
  }
}
