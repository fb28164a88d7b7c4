// Counts the words of a directory tree with all processors, each in a process of its own.
//
//   wordcount DIR [--workers N] [--top K] [--crash] [--no-compare] [--json FILE]
//
// A word is a run of ASCII letters, digits and underscores; upper and lower case are the same. Files are read as bytes,
// symbolic links are not followed, and a file that cannot be read is reported and skipped.
//
// What to look at: `count_piece` runs in the workers and says how far it is through a queue; its result comes back in a
// future; and each piece is entered into a ledger that all processes share and a lock guards. With --crash one worker is
// shot while it counts: its future says so, the piece is submitted again, and the totals are the same.

#include <polyproc/polyproc.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#if defined(_WIN32)
#include <io.h>
static bool on_terminal() { return _isatty(_fileno(stderr)) != 0; }
#else
#include <unistd.h>
static bool on_terminal() { return isatty(2) != 0; }
#endif

namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

/// A stretch of a file: the words that begin in [begin, end).
struct stretch {
  std::string path;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// What one task does: a few small files, or a stretch of a large one.
struct piece {
  std::uint32_t number = 0;
  std::vector<stretch> parts;
  bool target = false;  // with --crash: its worker is shot halfway through
};

struct piece_result {
  std::vector<std::pair<std::string, std::uint64_t>> counts;
  std::vector<std::string> unreadable;
  std::uint64_t words = 0;
};

/// What a worker says while it works.
struct note {
  enum class kind : std::uint8_t { halfway, done } what = kind::halfway;
  long pid = 0;
  std::uint64_t bytes = 0;
};

/// Seen by all processes. An entry is written whole by whoever counted that piece, and writing it twice changes nothing,
/// so a worker that dies while it holds the lock leaves nothing to repair but the lock.
constexpr std::size_t most_pieces = 1 << 16;
struct ledger {
  polyproc::mutex lock;
  std::uint64_t words_of[most_pieces] = {};
};

bool is_word(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
char lower(unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); }

fs::path to_path(std::string const& utf8) { return fs::path(std::u8string(utf8.begin(), utf8.end())); }
std::string to_utf8(fs::path const& path) {
  auto const text = path.u8string();
  return {text.begin(), text.end()};
}

using counter = std::unordered_map<std::string, std::uint64_t>;

/// False if the file cannot be read.
bool count_stretch(stretch const& s, counter& counts, std::uint64_t& words) {
  std::error_code problem;
  if (!fs::is_regular_file(to_path(s.path), problem)) return false;
  std::ifstream in(to_path(s.path), std::ios::binary);
  if (!in) return false;
  bool inside = false;  // a word that began before `begin` is not ours
  if (s.begin > 0) {
    in.seekg(static_cast<std::streamoff>(s.begin - 1));
    inside = is_word(static_cast<unsigned char>(in.get()));
  }
  std::vector<char> buffer(1 << 16);
  std::string word;
  auto const finish = [&] {
    if (word.empty()) return;
    ++counts[word];
    ++words;
    word.clear();
  };
  for (std::uint64_t at = s.begin; in;) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    auto const got = static_cast<std::size_t>(in.gcount());
    if (in.bad()) return false;
    for (std::size_t i = 0; i < got; ++i, ++at) {
      auto const c = static_cast<unsigned char>(buffer[i]);
      if (!is_word(c)) {
        inside = false;
        finish();
        if (at >= s.end) return true;
      } else if (!inside) {
        if (word.empty() && at >= s.end) return true;
        word += lower(c);
      }
    }
  }
  finish();
  return true;
}

/// Runs in a worker.
piece_result count_piece(piece const& p, polyproc::queue<note> notes, polyproc::shared<ledger> book) {
  auto const pid = polyproc::this_process::pid();
  piece_result result;
  counter counts;
  std::uint64_t bytes = 0;
  for (auto const& part : p.parts) {
    if (p.target && &part == &p.parts[p.parts.size() / 2]) {
      // Says where it is and stands still, so that the shot does not miss.
      notes.put({note::kind::halfway, pid, 0});
      for (;;) std::this_thread::sleep_for(1s);
    }
    if (count_stretch(part, counts, result.words))
      bytes += part.end - part.begin;
    else if (part.begin == 0)
      result.unreadable.push_back(part.path);
  }
  result.counts.assign(counts.begin(), counts.end());
  {
    auto const enter = [&] { book->words_of[p.number] = result.words; };
    try {
      std::scoped_lock hold{book->lock};
      enter();
    } catch (polyproc::owner_died const&) {
      book->lock.recover([] {});  // see ledger: nothing else can be wrong
      std::scoped_lock hold{book->lock};
      enter();
    }
  }
  (void)notes.try_put({note::kind::done, pid, bytes});
  return result;
}

struct job {
  std::vector<piece> pieces;
  std::uint64_t bytes = 0;
  std::uint64_t files = 0;
  std::vector<std::string> skipped;
};

/// Walks the tree and cuts it into pieces: some for each worker, so that they end together, and not too small, because
/// each piece's distinct words come back one by one.
job plan(fs::path const& root, std::size_t workers) {
  job made;
  piece open;
  std::uint64_t in_open = 0;
  auto const shut = [&] {
    if (open.parts.empty()) return;
    if (made.pieces.size() == most_pieces) {
      // More than the ledger holds: the last piece takes it all.
      auto& last = made.pieces.back().parts;
      last.insert(last.end(), std::make_move_iterator(open.parts.begin()), std::make_move_iterator(open.parts.end()));
    } else {
      open.number = static_cast<std::uint32_t>(made.pieces.size());
      made.pieces.push_back(std::move(open));
    }
    open = {};
    in_open = 0;
  };
  std::error_code problem;
  fs::recursive_directory_iterator it(root, fs::directory_options::skip_permission_denied, problem);
  if (problem) throw std::system_error(problem, "cannot walk " + to_utf8(root));
  std::vector<std::pair<std::string, std::uint64_t>> files;
  for (; it != fs::recursive_directory_iterator(); it.increment(problem)) {
    if (problem) break;
    std::error_code here;
    if (it->is_symlink(here) || !it->is_regular_file(here)) continue;
    auto const size = it->file_size(here);
    if (here)
      made.skipped.push_back(to_utf8(it->path()));
    else
      files.emplace_back(to_utf8(it->path()), size);
  }
  std::sort(files.begin(), files.end());
  std::uint64_t total = 0;
  for (auto const& file : files) total += file.second;
  auto const size_of_piece = std::clamp<std::uint64_t>(total / (workers * 12), 1 << 16, 1 << 23);
  made.files = files.size() + made.skipped.size();
  for (auto const& [path, size] : files) {
    made.bytes += size;
    std::uint64_t at = 0;
    do {
      auto const end = size - at <= size_of_piece ? size : at + size_of_piece;
      if (in_open > 0 && in_open + (end - at) > size_of_piece) shut();
      open.parts.push_back({path, at, end});
      in_open += end - at;
      at = end;
    } while (at < size);
  }
  shut();
  return made;
}

/// A bar on a terminal, a line now and then elsewhere.
class progress {
 public:
  explicit progress(std::uint64_t total, bool quiet) : total_(std::max<std::uint64_t>(total, 1)), quiet_(quiet) {}
  void add(std::uint64_t bytes) {
    done_ += bytes;
    auto const percent = static_cast<int>(std::min<std::uint64_t>(done_ * 100 / total_, 100));
    if (quiet_ || percent == shown_ || (!bar_ && percent / 25 == shown_ / 25)) return;
    shown_ = percent;
    auto const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    auto const rate = static_cast<double>(done_) / 1e6 / std::max(seconds, 1e-6);
    if (bar_) {
      std::string bar(40, '.');
      std::fill_n(bar.begin(), percent * 40 / 100, '#');
      std::fprintf(stderr, "\r[%s] %3d %%  %.0f MB/s ", bar.c_str(), percent, rate);
      if (percent == 100) std::fprintf(stderr, "\n");
    } else {
      std::fprintf(stderr, "%3d %% of %.1f MB, %.0f MB/s\n", percent, static_cast<double>(total_) / 1e6, rate);
    }
  }
  void line(std::string const& text) const {
    std::fprintf(stderr, "%s%s\n", bar_ && !quiet_ && shown_ > 0 && shown_ < 100 ? "\n" : "", text.c_str());
  }

 private:
  std::uint64_t total_;
  std::uint64_t done_ = 0;
  bool quiet_;
  bool bar_ = on_terminal();
  int shown_ = 0;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

struct totals {
  counter counts;
  std::vector<std::string> unreadable;
  std::uint64_t words = 0;
  unsigned lost = 0;
  double seconds = 0;
  bool ledger_agrees = false;
};

totals count_all(job const& work, std::size_t workers, bool crash, bool quiet) {
  auto const begin = std::chrono::steady_clock::now();
  totals all;
  polyproc::queue<note> notes(4096);
  polyproc::shared<ledger> book;
  polyproc::process_pool pool(polyproc::process_pool_options{.workers = workers, .name = "counter"});
  progress bar(work.bytes, quiet);

  std::vector<polyproc::future<piece_result>> results;
  for (auto p : work.pieces) {
    p.target = crash && p.number == work.pieces.size() / 2;
    results.push_back(pool.submit(count_piece, std::move(p), notes, book));
  }

  auto const listen = [&] {
    while (auto const heard = notes.try_get()) {
      if (heard->what == note::kind::done) bar.add(heard->bytes);
      if (heard->what == note::kind::halfway && pool.kill_worker(heard->pid)) {
        bar.line("shot worker " + std::to_string(heard->pid) + " while it was counting");
      }
    }
  };
  for (std::size_t i = 0; i < results.size(); ++i) {
    for (int attempt = 1;; ++attempt) {
      while (!results[i].wait_for(20ms)) listen();
      listen();
      try {
        auto part = results[i].get();
        for (auto& [word, n] : part.counts) all.counts[std::move(word)] += n;
        std::move(part.unreadable.begin(), part.unreadable.end(), std::back_inserter(all.unreadable));
        all.words += part.words;
        break;
      } catch (polyproc::worker_lost const& lost) {
        ++all.lost;
        bar.line("piece " + std::to_string(i) + " is counted again: " + lost.what());
        if (attempt == 4) throw;
        results[i] = pool.submit(count_piece, work.pieces[i], notes, book);
      }
    }
  }
  pool.close();
  pool.join();
  listen();

  std::uint64_t entered = 0;
  if (book->lock.owner_is_dead()) book->lock.recover([] {});
  {
    std::scoped_lock hold{book->lock};
    for (std::size_t i = 0; i < work.pieces.size(); ++i) entered += book->words_of[i];
  }
  all.ledger_agrees = entered == all.words;
  all.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return all;
}

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (char const c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

[[noreturn]] void usage(char const* problem) {
  std::fprintf(stderr, "wordcount: %s\nusage: wordcount DIR [--workers N] [--top K] [--crash] [--no-compare] [--json FILE]\n",
               problem);
  std::exit(2);
}

std::size_t number(char const* text, std::size_t least, std::size_t most) {
  char* end = nullptr;
  auto const n = text == nullptr ? 0 : std::strtoull(text, &end, 10);
  if (text == nullptr || *end != '\0' || n < least || n > most) usage("a number is missing or out of range");
  return static_cast<std::size_t>(n);
}

}  // namespace

int main(int argc, char** argv) {
  polyproc::init(argc, argv);

  std::string root;
  std::string json;
  std::size_t workers = 0;
  std::size_t top = 10;
  bool crash = false;
  bool compare = true;
  for (int i = 1; i < argc; ++i) {
    std::string_view const word = argv[i];
    auto const value = [&]() -> char const* { return i + 1 < argc ? argv[++i] : nullptr; };
    if (word == "--workers")
      workers = number(value(), 1, 1024);
    else if (word == "--top")
      top = number(value(), 0, 1000000);
    else if (word == "--crash")
      crash = true;
    else if (word == "--no-compare")
      compare = false;
    else if (word == "--json") {
      auto const* const file = value();
      if (file == nullptr) usage("--json needs a file");
      json = file;
    } else if (word.starts_with("--"))
      usage("there is no such option");
    else if (root.empty())
      root = word;
    else
      usage("one directory at a time");
  }
  if (root.empty()) usage("which directory?");

  try {
    auto const processors = workers == 0 ? polyproc::usable_cpus() : workers;
    auto const work = plan(root, processors);
    auto all = count_all(work, workers, crash, false);
    all.unreadable.insert(all.unreadable.end(), work.skipped.begin(), work.skipped.end());
    std::sort(all.unreadable.begin(), all.unreadable.end());
    for (auto const& path : all.unreadable) std::fprintf(stderr, "skipped, cannot be read: %s\n", path.c_str());

    std::vector<std::pair<std::string, std::uint64_t>> order(all.counts.begin(), all.counts.end());
    std::sort(order.begin(), order.end(),
              [](auto const& a, auto const& b) { return a.second != b.second ? a.second > b.second : a.first < b.first; });
    auto const shown = std::min(top, order.size());
    for (std::size_t i = 0; i < shown; ++i)
      std::printf("%12llu  %s\n", static_cast<unsigned long long>(order[i].second), order[i].first.c_str());
    std::printf("%llu words, %zu distinct, in %llu files (%.1f MB, %zu skipped); %zu pieces, %u counted again; ledger %s\n",
                static_cast<unsigned long long>(all.words), order.size(),
                static_cast<unsigned long long>(work.files - all.unreadable.size()), static_cast<double>(work.bytes) / 1e6,
                all.unreadable.size(), work.pieces.size(), all.lost, all.ledger_agrees ? "agrees" : "DIFFERS");

    if (!json.empty()) {
      std::ofstream out(to_path(json), std::ios::binary);
      out << "{\"files\": " << work.files - all.unreadable.size() << ", \"skipped\": " << all.unreadable.size()
          << ", \"words\": " << all.words << ", \"distinct\": " << order.size() << ", \"lost\": " << all.lost << ", \"top\": [";
      for (std::size_t i = 0; i < shown; ++i)
        out << (i == 0 ? "" : ", ") << '[' << json_string(order[i].first) << ", " << order[i].second << ']';
      out << "]}\n";
      if (!out.flush()) throw std::runtime_error("cannot write " + json);
    }

    if (compare) {
      // The files are in the system's cache now: both passes read them from there.
      auto const one = count_all(work, 1, false, true);
      auto const many = count_all(work, workers, false, true);
      std::printf("%.2f s with one worker, %.2f s with %zu: %.2f times as fast\n", one.seconds, many.seconds,
                  static_cast<std::size_t>(processors), one.seconds / std::max(many.seconds, 1e-9));
    }
    return all.ledger_agrees ? 0 : 1;
  } catch (std::exception const& problem) {
    std::fprintf(stderr, "wordcount: %s\n", problem.what());
    return 1;
  }
}
