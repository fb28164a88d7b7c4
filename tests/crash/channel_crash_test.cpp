// timeout: 1500
// alone
//
// A process is killed after every single instruction of put, get and close. See crash_points.hpp.

#include "crash/queue_scene.hpp"

#if defined(POLYPROC_NO_CRASH_POINTS)

TEST_CASE("[H33] a kill at any instruction of a queue") { crash_points_skipped(POLYPROC_NO_CRASH_POINTS); }

#else

using namespace queue_crash;

namespace {

kind const room_for_four{"", "", 4};

/// For `begun`: somebody sleeps in get, or in a put of `third` into a full queue.
void sleep_in_get(scene& s) {
  s.sleeper = std::make_unique<crash_sleeper>([&s] { s.slept = s.q.get_for(3 * crash_limit); });
}
void sleep_in_put(scene& s) {
  s.sleeper = std::make_unique<crash_sleeper>([&s] { s.put_asleep = s.q.put_for(third, 3 * crash_limit); });
}

polyproc::queue_status queue_status_of(polyproc::queue<int> const& q) {
  auto why = polyproc::queue_status::success;
  (void)q.try_get(why);
  return why;
}

}  // namespace

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of a put leaves the message whole or not at all") {
  for (auto const* const k : kinds) crash_points(put_case(*k)).check();
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of a get takes at most that message along") {
  for (auto const* const k : kinds) crash_points(get_case(*k)).check();
}

TEST_CASE_METHOD(tidy, "[H35] queue: a kill at any instruction of a put of a handle leaves the handle there, or nobody waiting") {
  using sender = polyproc::queue_sender<int>;
  struct post {
    polyproc::queue<int> q = {};
    polyproc::queue<sender> box = {};   // with the handle that the child is to have
    polyproc::queue<sender> mail = {};  // to where it puts it
    std::optional<sender> mine = {};
  };
  crash_case<post> sent{};
  sent.name = "put of a handle";
  sent.setup = [] {
    post p;
    p.box.put(p.q.sender());
    return p;
  };
  sent.prepare = [](post& p) { p.mine.emplace(p.box.get()); };
  sent.operation = [](post& p) { p.mail.put(*p.mine); };
  sent.survive = [](post& p, crash_point& at) {
    auto why = queue_status_of(p.q);
    if (auto to = p.mail.try_get()) {
      if (why == polyproc::queue_status::closed) at.note("took it for lost until it was read");
      to->put(1);
      at.expect(p.q.get_for(crash_limit) == 1, "the handle does not lead to its queue");
      to.reset();
      why = queue_status_of(p.q);
    }
    if (why != polyproc::queue_status::closed) at.note("left one too many under way");
    // What comes after that is counted as ever.
    p.mail.put(p.q.sender());
    at.expect(queue_status_of(p.q) == polyproc::queue_status::empty, "a handle under way is overlooked");
  };
  auto report = crash_points(sent);
  // What a dead process had a handle to stays until the family ends.
  std::erase_if(report.bad, [](std::string const& b) { return b.ends_with("): memory is left over in the arena; "); });
  report.check();
  if (report.skipped) return;
  auto const often = [&](char const* what) { return report.notes.contains(what) ? report.notes.at(what) : 0; };
  CHECK(often("left one too many under way") <= 16);
  CHECK(often("took it for lost until it was read") <= report.tried / 4);
}

TEST_CASE_METHOD(tidy, "[H33] queue: a producer that nobody has waited for yet is dead all the same") {
  auto dead = put_case(in_place);
  dead.name += ", by a zombie";
  dead.zombie = true;
  crash_points(dead).check();
}

TEST_CASE_METHOD(tidy, "[H33] queue: a stopped producer holds up producers only, and their deadlines hold") {
  for (auto const* const k : kinds) {
    auto stopped = put_case(*k);
    stopped.name += ", stopped there";
    stopped.while_stopped = [](scene& s, crash_point& at) {
      auto const size = s.q.size();
      at.expect(size == s.before.size() || size == s.before.size() + 1, "the size is wrong");
      at.expect(!s.q.empty() && !s.q.full(), "the queue is neither empty nor full");
      for (auto const& m : s.before) {
        auto got = s.q.get_for(crash_limit);
        at.expect(got == m, "consumers are held up");
        if (got) s.seen.push_back(std::move(*got));
      }
      s.third_is_in = s.q.put_for(third, 5ms);
      if (!s.third_is_in) at.note("held up producers");
    };
    stopped.survive = [k](scene& s, crash_point& at) {
      if (!s.third_is_in) at.expect(s.q.put_for(third, crash_limit), "the next put fails");
      take_all(s);
      balance(s, at, plus(s.before, {third}), {k->message}, s.before.size(), "left the message whole");
      as_ever(s, at);
    };
    crash_points(stopped).check();
  }
}

TEST_CASE_METHOD(tidy, "[H33] queue: a stopped consumer holds up consumers only, and their deadlines hold") {
  for (auto const* const k : {&in_place, &over_the_end, &out_of_block, &large}) {
    auto stopped = get_case(*k);
    stopped.name += ", stopped there";
    stopped.while_stopped = [](scene& s, crash_point& at) {
      at.expect(s.q.put_for(third, crash_limit), "producers are held up");
      at.expect(s.q.size() == 2 || s.q.size() == 3, "the size is wrong");
      at.expect(!s.q.empty() && !s.q.full(), "the queue is neither empty nor full");
      if (auto got = s.q.get_for(5ms))
        s.seen.push_back(std::move(*got));
      else
        at.note("held up consumers");
    };
    stopped.survive = [k](scene& s, crash_point& at) {
      take_all(s);
      balance(s, at, {third, third}, {k->message}, 0, "left the message");
      as_ever(s, at);
    };
    crash_points(stopped).check();
  }
}

TEST_CASE_METHOD(tidy, "[H33] queue: one that is stopped in a large put does not hold up others in other queues") {
  struct two {
    scene mine;
    scene other;
  };
  crash_points(crash_case<two>{
                   .name = "put a large message, stopped there, other queues",
                   .setup = [] { return two{scene(), scene()}; },
                   .operation = [](two& t) { t.mine.q.put(large.message); },
                   .while_stopped =
                       [](two& t, crash_point& at) {
                         if (!t.other.q.put_for(large.message, 5ms)) {
                           at.note("kept the arena's books");
                           return;
                         }
                         at.expect(t.other.q.get_for(crash_limit) == large.message, "the message is not there");
                       },
                   .survive =
                       [](two& t, crash_point& at) {
                         take_all(t.mine);
                         for (auto* const s : {&t.mine, &t.other}) {
                           s->bare = t.other.bare;
                           as_ever(*s, at);
                         }
                       }})
      .check();
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of a put while a consumer is asleep") {
  auto wakes = put_case(in_place);
  wakes.name += ", a consumer asleep";
  wakes.setup = [] { return scene(); };
  wakes.begun = sleep_in_get;
  wakes.survive = [](scene& s, crash_point& at) {
    // A message that is there must reach the sleeper without anybody's help.
    if (!s.q.empty()) at.note("left the message to a sleeper");
    bool const helped = s.q.empty() && !s.sleeper->ended();
    if (helped) at.expect(s.q.put_for(third, crash_limit), "the next put fails");
    at.expect(s.sleeper->ends(), "the sleeper is forgotten");
    if (!s.sleeper->ended()) return;
    at.expect(s.slept.has_value(), "the sleeper has got nothing");
    if (s.slept) s.seen.push_back(*s.slept);
    take_all(s);
    balance(s, at, helped ? messages{third} : messages{}, {in_place.message}, 0, "put the message");
    at.expect(helped || !s.seen.empty(), "nothing was put");
    as_ever(s, at);
  };
  crash_points(wakes).check();
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of a get while a producer is asleep") {
  auto wakes = get_case(in_place);
  wakes.name += ", a producer asleep";
  wakes.setup = [] { return scene(room_for_four, {in_place.message, first, first, first}); };
  wakes.begun = sleep_in_put;
  wakes.survive = [](scene& s, crash_point& at) {
    if (s.q.size() == 3) at.note("left the room to a sleeper");
    if (s.q.full() && !s.sleeper->ended()) s.seen.push_back(s.q.get_for(crash_limit).value_or("nothing"));
    at.expect(s.sleeper->ends(), "the sleeper is forgotten");
    if (!s.sleeper->ended()) return;
    at.expect(s.put_asleep, "the sleeper could not put");
    take_all(s);
    balance(s, at, {first, first, first, third}, {in_place.message}, 0, "left the message");
    as_ever(s, at);
  };
  crash_points(wakes).check();
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of close, with sleepers on either side") {
  for (bool const full : {false, true}) {
    messages const before(full ? 4 : 0, first);
    crash_points(crash_case<scene>{
                     .name = full ? "close, a producer asleep" : "close, a consumer asleep",
                     .setup = [&] { return scene(room_for_four, before); },
                     .begun = full ? sleep_in_put : sleep_in_get,
                     .operation = [](scene& s) { s.q.close(); },
                     .survive =
                         [&](scene& s, crash_point& at) {
                           if (s.q.is_closed()) at.note("closed it");
                           if (!s.q.is_closed()) s.q.close();
                           at.expect(s.sleeper->ends(), "the sleeper is forgotten");
                           if (!s.sleeper->ended()) return;
                           at.expect(!s.slept && !s.put_asleep, "the sleeper came through");
                           at.expect(!s.q.put_for(third, crash_limit), "a closed queue takes a message");
                           take_all(s);
                           at.expect(s.seen == before, "the books do not balance");
                           at.expect(!s.q.get_for(crash_limit), "a closed queue gives a message");
                         }})
        .check();
  }
}

TEST_CASE_METHOD(tidy, "crash points find a ring that commits before it copies") {
  struct hasty_ring {
    std::atomic<std::uint64_t> put{0};
    char data[4][256] = {};
  };
  using bad = polyproc::shared<hasty_ring>;
  auto const report = crash_points(crash_case<bad>{
      .name = "a ring that is known to be bad",
      .setup = [] { return bad{}; },
      .operation =
          [](bad& b) {
            auto const n = b->put.fetch_add(1);
            std::memcpy(b->data[n % 4], over_the_end.message.data(), over_the_end.message.size());
          },
      .survive =
          [](bad& b, crash_point& at) {
            if (b->put == 0) return;
            at.expect(std::string(b->data[0], over_the_end.message.size()) == over_the_end.message, "the message is torn");
          },
      .whole = true});
  if (report.skipped) return;
  CHECK(report.trouble.empty());
  CHECK(report.tried == report.points);
  CHECK(report.bad.size() >= 2);
  CHECK(report.bad.size() < report.tried);
}

#endif
