#include "support/tidy.hpp"

#include <cctype>
#include <cstdio>

using namespace std::chrono_literals;

namespace {

/// Just enough of JSON to see whether the text is some, and what it says.
struct json {
  enum class kind { null, boolean, number, string, array, object };
  kind what = kind::null;
  double number = 0;
  std::string text;  // strings: as UTF-8
  std::vector<json> items;
  std::vector<std::string> names;  // of an object's items

  json const& operator[](std::string const& name) const {
    for (std::size_t i = 0; i < names.size(); ++i)
      if (names[i] == name) return items[i];
    static json const none{};
    return none;
  }
};
class json_reader {
 public:
  explicit json_reader(std::string_view text) : text_(text) {}
  json all() {
    auto value = read();
    space();
    if (at_ != text_.size()) fail();
    return value;
  }

 private:
  [[noreturn]] void fail() const { throw std::runtime_error("no JSON at byte " + std::to_string(at_)); }
  void space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
  }
  char peek() {
    space();
    if (at_ == text_.size()) fail();
    return text_[at_];
  }
  bool skip(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  json read() {
    json out;
    switch (peek()) {
      case '{':
        out.what = json::kind::object;
        ++at_;
        if (skip('}')) return out;
        do {
          auto name = read();
          if (name.what != json::kind::string || !skip(':')) fail();
          out.names.push_back(name.text);
          out.items.push_back(read());
        } while (skip(','));
        if (!skip('}')) fail();
        return out;
      case '[':
        out.what = json::kind::array;
        ++at_;
        if (skip(']')) return out;
        do out.items.push_back(read());
        while (skip(','));
        if (!skip(']')) fail();
        return out;
      case '"':
        out.what = json::kind::string;
        for (++at_;; ++at_) {
          if (at_ == text_.size()) fail();
          auto const c = static_cast<unsigned char>(text_[at_]);
          if (c == '"') break;
          if (c < 0x20) fail();
          if (c != '\\') {
            out.text += static_cast<char>(c);
            continue;
          }
          if (++at_ == text_.size()) fail();
          if (text_[at_] == 'u') {
            auto const code = std::stoul(std::string(text_.substr(at_ + 1, 4)), nullptr, 16);
            if (code < 0x80) out.text += static_cast<char>(code);
            else if (code == 0xFFFD) out.text += "\xEF\xBF\xBD";
            else fail();
            at_ += 4;
          } else if (text_[at_] == '"' || text_[at_] == '\\') {
            out.text += text_[at_];
          } else {
            fail();
          }
        }
        ++at_;
        return out;
      default: {
        std::size_t used = 0;
        out.what = json::kind::number;
        out.number = std::stod(std::string(text_.substr(at_, 40)), &used);
        at_ += used;
        return out;
      }
    }
  }
  std::string_view text_;
  std::size_t at_ = 0;
};

std::vector<json> of_kind(json const& trace, std::string const& phase) {
  std::vector<json> out;
  for (auto const& e : trace["traceEvents"].items)
    if (e["ph"].text == phase) out.push_back(e);
  return out;
}

struct temporary_file {
  std::string path = "polyproc-trace-" + std::to_string(polyproc::this_process::pid()) + ".json";
  ~temporary_file() { (void)std::remove(path.c_str()); }
  [[nodiscard]] std::string text() const {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

}  // namespace

TEST_CASE_METHOD(tidy, "a pool's trace says who ran what when, and how it ended") {
  temporary_file const file;
  polyproc::thread_pool pool(polyproc::thread_pool_options{.workers = 2, .name = "two \"workers\"", .trace = true});
  auto const begin = std::chrono::steady_clock::now();
  pool.submit({.name = "sleep"}, [] { std::this_thread::sleep_for(5ms); }).get();
  (void)pool.submit({.name = "fail"}, [] { throw std::runtime_error("x"); }).exception();
  auto f = pool.submit({.name = "long"}, [] { (void)polyproc::this_task::sleep_for(1h); });
  while (pool.stats().running == 0) polyproc::native_backend::yield();
  (void)f.cancel();
  (void)f.exception();
  (void)pool.submit({.name = "limited", .time_limit = 1ms}, [] { (void)polyproc::this_task::sleep_for(1h); }).exception();
  pool.post([] {});
  pool.close();
  pool.join();
  auto const end = std::chrono::steady_clock::now();
  pool.write_trace(file.path);

  auto const trace = json_reader(file.text()).all();
  auto const events = of_kind(trace, "X");
  REQUIRE(events.size() == 5);
  std::vector<std::pair<std::string, std::string>> seen;
  for (auto const& e : events) {
    seen.emplace_back(e["name"].text, e["args"]["ended"].text);
    CHECK(e["pid"].number == static_cast<double>(polyproc::this_process::pid()));
    CHECK((e["tid"].number == 1 || e["tid"].number == 2));
    auto const us = [](auto t) { return std::chrono::duration<double, std::micro>(t.time_since_epoch()).count(); };
    CHECK(e["ts"].number >= us(begin) - 1);
    CHECK(e["ts"].number + e["dur"].number <= us(end) + 1);
  }
  CHECK(seen == std::vector<std::pair<std::string, std::string>>{
                    {"sleep", "value"}, {"fail", "exception"}, {"long", "cancelled"}, {"limited", "time limit"},
                    {"task", "value"}});
  CHECK(events[0]["dur"].number >= 4900);
  auto const names = of_kind(trace, "M");
  REQUIRE(names.size() == 3);
  CHECK(names[0]["name"].text == "process_name");
  CHECK(names[0]["args"]["name"].text == "two \"workers\"");
  CHECK(names[1]["args"]["name"].text == "two \"workers\"-1");
  CHECK(names[2]["args"]["name"].text == "two \"workers\"-2");
}

void crash() { polyproc::native_backend::exit_now(3); }
void rest() { (void)polyproc::this_task::sleep_for(1h); }
int number(int x) { return x; }

TEST_CASE_METHOD(tidy, "a pool of processes says the same, with the process of each task, also of one that was lost") {
  temporary_file const file;
  auto const begin = std::chrono::steady_clock::now();
  {
    polyproc::process_pool_options options;
    options.workers = 1;
    options.name = "p";
    options.trace_file = file.path;
    polyproc::process_pool pool(std::move(options));
    (void)pool.apply({.name = "number"}, number, 1);
    (void)pool.submit({.name = "crash"}, crash).exception();
    (void)pool.submit({.name = "rest", .time_limit = 1ms}, rest).exception();
  }
  auto const end = std::chrono::steady_clock::now();
  auto const trace = json_reader(file.text()).all();
  auto const events = of_kind(trace, "X");
  REQUIRE(events.size() == 3);
  std::vector<std::pair<std::string, std::string>> seen;
  for (auto const& e : events) {
    seen.emplace_back(e["name"].text, e["args"]["ended"].text);
    CHECK(e["tid"].number == 1);
    CHECK(e["pid"].number != static_cast<double>(polyproc::this_process::pid()));
    auto const us = [](auto t) { return std::chrono::duration<double, std::micro>(t.time_since_epoch()).count(); };
    CHECK(e["ts"].number >= us(begin) - 1);
    CHECK(e["ts"].number + e["dur"].number <= us(end) + 1);
  }
  CHECK(seen == std::vector<std::pair<std::string, std::string>>{
                    {"number", "value"}, {"crash", "lost"}, {"rest", "time limit"}});
  CHECK(events[0]["pid"].number == events[1]["pid"].number);
  CHECK(events[1]["pid"].number != events[2]["pid"].number);
}

TEST_CASE_METHOD(tidy, "a trace file is written when the pool ends; a failure to write it ends nothing") {
  temporary_file const file;
  {
    polyproc::thread_pool pool(polyproc::thread_pool_options{.workers = 1, .trace_file = file.path});
    pool.for_each([](int) {}, std::vector<int>(10, 1), {.chunk = 1, .task = {.name = "piece"}});
    CHECK(file.text().empty());
  }
  auto const events = of_kind(json_reader(file.text()).all(), "X");
  CHECK(events.size() == 10);
  for (auto const& e : events) CHECK(e["name"].text == "piece");
  polyproc::thread_pool nowhere(polyproc::thread_pool_options{.workers = 1, .trace_file = "no/such/directory/trace.json"});
  CHECK_THROWS_AS(nowhere.write_trace("no/such/directory/trace.json"), std::system_error);
  nowhere.terminate();
  polyproc::thread_pool without(1);
  CHECK_THROWS_AS(without.write_trace(file.path), std::logic_error);
}

TEST_CASE_METHOD(tidy, "tasks that are run by those who wait for them lie within them in the trace") {
  temporary_file const file;
  polyproc::thread_pool pool(polyproc::thread_pool_options{.workers = 1, .trace = true});
  pool.submit({.name = "outer"}, [&] { pool.submit({.name = "inner"}, [] {}).get(); }).get();
  pool.write_trace(file.path);
  auto const events = of_kind(json_reader(file.text()).all(), "X");
  REQUIRE(events.size() == 2);
  auto const& inner = events[0];
  auto const& outer = events[1];
  CHECK(inner["name"].text == "inner");
  CHECK(inner["tid"].number == outer["tid"].number);
  CHECK(inner["ts"].number >= outer["ts"].number);
  CHECK(inner["ts"].number + inner["dur"].number <= outer["ts"].number + outer["dur"].number + 0.01);
}

TEST_CASE("a trace is JSON whatever its tasks are called") {
  polyproc::detail::trace_recorder recorder("p\\q\n");
  std::vector<std::pair<std::string, std::string>> const names{
      {"plain", "plain"},
      {"\"quoted\" \\ and \x01 \t \x7f", "\"quoted\" \\ and \x01 \t \x7f"},
      {"gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80", "gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80"},
      {"cut \xE2\x82", "cut \xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
      {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
      {std::string("nul \0 in it", 11), std::string("nul \0 in it", 11)},
      {"", "task"}};
  auto const t = std::chrono::steady_clock::time_point(1234567891ns);
  for (auto const& [name, shown] : names) recorder.add({.name = name, .pid = 7, .worker = 3, .begin = t, .end = t + 1001ns});
  auto const trace = json_reader(recorder.text()).all();
  auto const events = of_kind(trace, "X");
  REQUIRE(events.size() == names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    CHECK(events[i]["name"].text == names[i].second);
    CHECK(events[i]["ts"].number == 1234567.891);
    CHECK(events[i]["dur"].number == 1.001);
  }
  auto const named = of_kind(trace, "M");
  REQUIRE(named.size() == 2);
  CHECK(named[0]["args"]["name"].text == "p\\q\n");
  CHECK(named[1]["args"]["name"].text == "worker 3");
}

TEST_CASE("a trace keeps the last events, as many as it was told, and says how many it has dropped") {
  polyproc::detail::trace_recorder recorder("p", 100);
  std::vector<std::thread> crowd;
  for (std::uint64_t t = 0; t < 4; ++t)
    crowd.emplace_back([&recorder, t] {
      for (int i = 0; i < 1000; ++i) recorder.add({.name = std::to_string(i), .pid = 1, .worker = t});
    });
  for (auto& each : crowd) each.join();
  CHECK(recorder.size() == 100);
  CHECK(recorder.dropped() == 3900);
  recorder.add({.name = "last", .pid = 1, .worker = 1});
  auto const trace = json_reader(recorder.text()).all();
  CHECK(trace["otherData"]["dropped"].number == 3901);
  CHECK(of_kind(trace, "X").back()["name"].text == "last");
}
