// Ten processes and a file with a few tickets: each looks how many are left, then buys one if it can.
//
//   ticket_rush [--tickets N] [--no-lock] [--coarse] [--kill] [--file PATH] [--keep]
//
// The file is {"tickets": N} with N of 1 to 9 (3 if nothing is said); it lies far away, so reading and writing take a
// while. Without a PATH it is a new one in the directory for temporary files. At the end it is removed, but for --keep.
//
// What to look at: looking needs no lock; buying is reading, deciding and writing, so a lock makes it one step, and
// exactly N tickets are sold. With --no-lock all see the same tickets and buy them. With --coarse the looking is locked
// as well, which changes nothing but the time; without an option both are done and the times compared. With --kill a
// buyer is ended while it holds the lock and has written half of the file: the others are told, one of them puts the
// file right from the ledger in shared memory, and all goes on.

#include <polyproc/polyproc.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr int buyers = 10;
constexpr int nobody = -1;

/// What the buyers share besides the file. The lock guards the file; what is sold is counted here, in one step, after
/// the file was written: so whatever a buyer was doing when it was killed, tickets - sold is what the file is to say.
struct ticket_office {
  polyproc::mutex lock;
  std::atomic<int> sold{0};
  std::atomic<int> told{0};
  std::atomic<int> repaired{0};
  std::atomic<int> victim{nobody};
  polyproc::event half_written;
  polyproc::latch ready{buyers};
  polyproc::event open;
};

struct plan {
  std::string file;
  int tickets = 3;
  bool locked = true;
  bool coarse = false;
  bool kill = false;
  bool quiet = false;
};

void say(std::string const& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}
std::string buyer(int me) { return "buyer " + std::to_string(me); }

// --- the file

/// Nothing if it is not all there.
std::optional<int> read_tickets(std::string const& file) {
  std::this_thread::sleep_for(30ms);  // the way there and back
  std::ifstream in(file, std::ios::binary);
  std::string const text{std::istreambuf_iterator<char>(in), {}};
  constexpr std::string_view begin = "{\"tickets\": ";
  if (!text.starts_with(begin) || !text.ends_with("}\n")) return std::nullopt;
  return std::atoi(text.c_str() + begin.size());
}

/// halfway() is called when half of it is written.
template <class F>
void write_tickets(std::string const& file, int tickets, F&& halfway) {
  auto const text = "{\"tickets\": " + std::to_string(tickets) + "}\n";
  auto const half = static_cast<std::streamsize>(text.size() / 2);
  std::this_thread::sleep_for(20ms);
  std::ofstream out(file, std::ios::binary);  // the old contents are gone
  out.write(text.data(), half).flush();
  halfway();
  out.write(text.data() + half, static_cast<std::streamsize>(text.size()) - half);
  if (!out.flush()) throw std::runtime_error("cannot write " + file);
}
void write_tickets(std::string const& file, int tickets) {
  write_tickets(file, tickets, [] {});
}

// --- what a buyer does

void look(plan const& p, int me) {
  auto const left = read_tickets(p.file);
  if (p.quiet) return;
  say(buyer(me) + " sees " + (left ? std::to_string(*left) + " left" : "that somebody is just writing"));
}

void buy(plan const& p, ticket_office& office, int me) {
  auto left = read_tickets(p.file);
  while (!left && !p.locked) left = read_tickets(p.file);  // under the lock it is always whole
  if (!left) throw std::runtime_error("the file is damaged");
  if (*left == 0) {
    if (!p.quiet) say(buyer(me) + " finds it sold out");
    return;
  }
  write_tickets(p.file, *left - 1, [&] {
    if (!p.kill || office.sold < p.tickets / 2 || office.victim != nobody) return;
    office.victim = me;
    office.half_written.set();
    for (;;) std::this_thread::sleep_for(1s);  // stands still, so that main does not miss
  });
  ++office.sold;
  if (!p.quiet) say(buyer(me) + " bought a ticket, " + std::to_string(*left - 1) + " left");
}

void repair(plan const& p, ticket_office& office, int me) {
  // Of all who are told, the first one repairs, and the others wait here until it has.
  bool const mine = office.lock.recover([&] {
    int const left = p.tickets - office.sold;
    write_tickets(p.file, left);
    ++office.repaired;
    say(buyer(me) + " repairs the file: " + std::to_string(office.sold) + " sold, so " + std::to_string(left) +
        " left");
  });
  if (!mine) say(buyer(me) + " need not repair: somebody has");
}

/// A process.
void rush(plan const& p, polyproc::shared<ticket_office> office, int me) {
  office->ready.count_down();
  office->open.wait();
  if (!p.locked) {
    look(p, me);
    buy(p, *office, me);
    return;
  }
  if (!p.coarse) look(p, me);
  for (;;) {
    try {
      std::scoped_lock hold{office->lock};
      if (p.coarse) look(p, me);
      buy(p, *office, me);
      return;
    } catch (polyproc::owner_died const&) {  // and the lock is not ours
      ++office->told;
      say(buyer(me) + " is told that a holder of the lock died");
      repair(p, *office, me);
    }
  }
}

// --- all of them

struct outcome {
  double seconds = 0;
  int sold = 0;
  std::optional<int> left;
  bool as_promised = false;
};

outcome sell(plan const& p) {
  write_tickets(p.file, p.tickets);
  polyproc::shared<ticket_office> office;
  std::vector<polyproc::process> crowd;
  for (int me = 0; me < buyers; ++me) {
    polyproc::process_options options;
    options.name = buyer(me);
    crowd.push_back(polyproc::launch(options, rush, p, office, me));
  }
  office->ready.wait();
  auto const begin = std::chrono::steady_clock::now();
  office->open.set();
  if (p.kill) {
    office->half_written.wait();
    auto& victim = crowd[static_cast<std::size_t>(office->victim)];
    victim.terminate();
    victim.join();
    say(victim.name() + " was terminated while it held the lock, the file half written");
  }
  for (auto& one : crowd) one.join();

  outcome end;
  end.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  end.sold = office->sold;
  end.left = read_tickets(p.file);
  bool all_returned = true;
  for (int me = 0; me < buyers; ++me)
    if (me != office->victim) all_returned &= crowd[static_cast<std::size_t>(me)].exit_code() == 0;
  end.as_promised = all_returned && (p.locked ? end.sold == p.tickets && end.left == 0 : end.sold >= p.tickets);
  if (p.kill) {
    say(std::to_string(office->told) + " were told, " + std::to_string(office->repaired) + " repaired");
    end.as_promised &= office->told > 0 && office->repaired == 1;
  }
  return end;
}

void report(plan const& p, outcome const& end) {
  auto line = std::to_string(end.sold) + " sold of " + std::to_string(p.tickets) + ", " +
              (end.left ? std::to_string(*end.left) + " left in the file" : "the file is DAMAGED");
  if (end.sold > p.tickets) line += ": " + std::to_string(end.sold - p.tickets) + " too many";
  say(line);
  std::printf("%.2f s with %s\n", end.seconds,
              !p.locked  ? "nothing locked"
              : p.coarse ? "everything locked"
                         : "only the purchase locked");
  std::fflush(stdout);
}

[[noreturn]] void usage(char const* problem) {
  std::fprintf(stderr,
               "ticket_rush: %s\n"
               "usage: ticket_rush [--tickets N] [--no-lock] [--coarse] [--kill] [--file PATH] [--keep]\n",
               problem);
  std::exit(2);
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);

  plan p;
  bool keep = false;
  for (int i = 1; i < argc; ++i) {
    std::string_view const word = argv[i];
    auto const value = [&]() -> std::string { return i + 1 < argc ? argv[++i] : ""; };
    if (word == "--tickets") {
      auto const number = value();
      if (number.size() != 1 || number[0] < '1' || number[0] > '9') usage("--tickets needs a number from 1 to 9");
      p.tickets = number[0] - '0';
    } else if (word == "--no-lock") {
      p.locked = false;
    } else if (word == "--coarse") {
      p.coarse = true;
    } else if (word == "--kill") {
      p.kill = true;
    } else if (word == "--file") {
      p.file = value();
      if (p.file.empty()) usage("--file needs a path");
    } else if (word == "--keep") {
      keep = true;
    } else {
      usage("there is no such option");
    }
  }
  if (!p.locked && (p.coarse || p.kill)) usage("--no-lock goes with neither --coarse nor --kill");

  try {
    if (p.file.empty()) {
      auto const name = "tickets-" + std::to_string(polyproc::this_process::pid()) + ".json";
      p.file = (fs::temp_directory_path() / name).string();
    }
    auto const end = sell(p);
    report(p, end);
    bool good = end.as_promised;
    if (p.locked && !p.coarse && !p.kill) {
      p.coarse = p.quiet = true;
      auto const again = sell(p);
      report(p, again);
      good &= again.as_promised;
    }
    if (keep)
      say("the file is " + p.file);
    else
      fs::remove(p.file);
    if (!good) say("NOT as promised");
    return good ? 0 : 1;
  } catch (std::exception const& problem) {
    std::fprintf(stderr, "ticket_rush: %s\n", problem.what());
    return 1;
  }
}
