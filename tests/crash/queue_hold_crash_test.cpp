// timeout: 1500
// alone
//
// A process is killed after every single instruction of batches, leases, reservations and views. See crash_points.hpp.

#include "crash/queue_scene.hpp"

#if defined(POLYPROC_NO_CRASH_POINTS)

TEST_CASE("[H33] a kill at any instruction of a batch or a lease") { crash_points_skipped(POLYPROC_NO_CRASH_POINTS); }

#else

using namespace queue_crash;

namespace {

messages const small_ones{text(20, 'm'), text(25, 'n'), text(30, 'o')};
/// In place, apart, over the end of the chunk, and with a block of its own.
messages const of_all_kinds{text(20, 'm'), text(3000, 'n'), text(200, 'o'), text(70000, 'p')};

/// What the killed process had leased is there again, and nothing was taken.
void nothing_lost(scene& s, crash_point& at, std::string const& m) {
  take_all(s);
  at.expect(s.seen == messages{m, third}, "a leased message is lost, or seen twice");
  as_ever(s, at);
}
/// The same when holders had been asked after just before, so that it takes a moment until this one is: others may be
/// got in between.
void nothing_lost_in_the_end(scene& s, crash_point& at, std::string const& m) {
  while (s.seen.size() < 2) {
    auto got = s.q.get_for(crash_limit);
    if (!got) break;
    s.seen.push_back(std::move(*got));
  }
  at.expect(s.seen == messages{m, third} || s.seen == messages{third, m}, "a leased message is lost, or seen twice");
  as_ever(s, at);
}

}  // namespace

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of put_many puts all or nothing") {
  for (auto const* const k : {&in_place, &over_the_end, &into_block}) {
    auto const& batch = k == &in_place ? small_ones : of_all_kinds;
    crash_points(crash_case<scene>{.name = std::string("put many, ") + k->name,
                                   .setup = [k] { return scene(*k, {first}); },
                                   .operation = [&](scene& s) { s.q.put_many(batch); },
                                   .survive =
                                       [&](scene& s, crash_point& at) {
                                         at.expect(s.q.put_for(third, crash_limit), "the next put fails");
                                         take_all(s);
                                         balance(s, at, plus(s.before, {third}), batch, s.before.size(), "left all of them");
                                         as_ever(s, at);
                                       }})
        .check();
  }
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of get_many takes all of that batch or nothing") {
  for (auto const* const k : {&in_place, &over_the_end, &out_of_block}) {
    auto const& batch = k == &in_place ? small_ones : of_all_kinds;
    crash_points(crash_case<scene>{.name = std::string("get many, ") + k->name,
                                   .setup = [&, k] { return scene::without_backlog(*k, plus(batch, {third})); },
                                   .operation = [&](scene& s) { (void)s.q.get_many(batch.size()); },
                                   .survive =
                                       [&](scene& s, crash_point& at) {
                                         take_all(s);
                                         balance(s, at, {third}, batch, 0, "left all of them");
                                         as_ever(s, at);
                                       }})
        .check();
  }
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of a batch in which some came back keeps order and the rest") {
  crash_points(crash_case<scene>{.name = "get many, of which two came back",
                                 .setup =
                                     [] {
                                       scene s(in_place, plus(small_ones, {third}));
                                       auto one = s.q.lease();
                                       auto const two = s.q.lease();
                                       one.give_back();
                                       return s;
                                     },
                                 .operation = [](scene& s) { (void)s.q.get_many(3); },
                                 .survive =
                                     [](scene& s, crash_point& at) {
                                       take_all(s);
                                       // Those that came back are taken one by one, before the others.
                                       auto const all = plus(small_ones, {third});
                                       auto const n = s.seen.size();
                                       at.expect(n >= 1 && n <= 4, "too many or too few");
                                       for (std::size_t i = 0; i < std::min<std::size_t>(n, 4); ++i)
                                         at.expect(s.seen[n - 1 - i] == all[3 - i], "the books do not balance");
                                       at.note("left " + std::to_string(n));
                                       as_ever(s, at);
                                     }})
      .check();
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of a lease loses nothing") {
  for (auto const* const k : {&in_place, &over_the_end, &out_of_block, &large}) {
    crash_points(crash_case<scene>{.name = std::string("lease a ") + k->name,
                                   .setup = [k] { return scene::without_backlog(*k, {k->message, third}); },
                                   .operation = [](scene& s) { s.held.emplace(s.q.lease()); },
                                   .survive = [k](scene& s, crash_point& at) { nothing_lost(s, at, k->message); }})
        .check();
  }
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of a lease of what came back loses nothing") {
  crash_points(crash_case<scene>{.name = "lease what came back",
                                 .setup =
                                     [] {
                                       scene s(in_place, {in_place.message, third});
                                       (void)s.q.lease();
                                       return s;
                                     },
                                 .operation = [](scene& s) { s.held.emplace(s.q.lease()); },
                                 .survive =
                                     [](scene& s, crash_point& at) {
                                       nothing_lost_in_the_end(s, at, in_place.message);
                                     }})
      .check();
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of ack leaves the message, or it is done with") {
  for (auto const* const k : {&in_place, &large}) {
    crash_points(crash_case<scene>{.name = std::string("acknowledge a ") + k->name,
                                   .setup = [k] { return scene(*k, {k->message, third}); },
                                   .prepare = [](scene& s) { s.held.emplace(s.q.lease()); },
                                   .operation = [](scene& s) { s.held->ack(); },
                                   .survive =
                                       [k](scene& s, crash_point& at) {
                                         take_all(s);
                                         balance(s, at, {third}, {k->message}, 0, "left the message");
                                         as_ever(s, at);
                                       }})
        .check();
  }
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of give_back loses nothing") {
  crash_points(crash_case<scene>{.name = "give back a message",
                                 .setup = [] { return scene(in_place, {in_place.message, third}); },
                                 .prepare = [](scene& s) { s.held.emplace(s.q.lease()); },
                                 .operation = [](scene& s) { s.held->give_back(); },
                                 .survive = [](scene& s, crash_point& at) { nothing_lost(s, at, in_place.message); }})
      .check();
}

TEST_CASE_METHOD(tidy, "[H33] queue: one who acknowledges puts right what a consumer left that was killed in a lease") {
  for (auto const* const k : {&in_place, &large}) {
    crash_points(crash_case<scene>{.name = std::string("lease a ") + k->name + ", the next is an acknowledgement",
                                   .setup = [k] { return scene(*k, {first, k->message, third}); },
                                   .begun = [](scene& s) { s.held.emplace(s.q.lease()); },
                                   .operation = [](scene& s) { s.held.emplace(s.q.lease()); },
                                   .survive =
                                       [k](scene& s, crash_point& at) {
                                         s.held->ack();
                                         s.held.reset();
                                         nothing_lost_in_the_end(s, at, k->message);
                                       }})
        .check();
  }
}

TEST_CASE_METHOD(tidy, "[H33] queue: a stopped consumer in a lease or a batch holds up consumers only") {
  for (bool const batch : {false, true}) {
    crash_points(crash_case<scene>{.name = batch ? "get many, stopped there" : "lease, stopped there",
                                   .setup = [] { return scene(in_place, {in_place.message, large.message}); },
                                   .operation =
                                       [batch](scene& s) {
                                         if (batch)
                                           (void)s.q.get_many(1);
                                         else
                                           s.held.emplace(s.q.lease());
                                       },
                                   .while_stopped =
                                       [](scene& s, crash_point& at) {
                                         at.expect(s.q.put_for(third, crash_limit), "producers are held up");
                                         at.expect(s.q.size() == 2 || s.q.size() == 3, "the size is wrong");
                                         at.expect(!s.q.empty() && !s.q.full(), "the queue is neither empty nor full");
                                         if (auto lease = s.q.lease_for(5ms)) {
                                           s.seen.push_back(**lease);
                                           lease->ack();
                                         } else {
                                           at.note("held up consumers");
                                         }
                                       },
                                   .survive =
                                       [batch](scene& s, crash_point& at) {
                                         auto const before = s.seen;
                                         std::this_thread::sleep_for(before.empty() || batch ? 0ms : 21ms);
                                         take_all(s);
                                         // What was leased comes back when others may have been taken already.
                                         auto sorted = s.seen;
                                         std::sort(sorted.begin(), sorted.end());
                                         messages all{large.message, third};
                                         if (!batch || s.seen.size() == 3) all.push_back(in_place.message);
                                         std::sort(all.begin(), all.end());
                                         at.expect(sorted == all, "the books do not balance");
                                         as_ever(s, at);
                                       }})
        .check();
  }
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of reserve and commit puts the message whole or not at all") {
  for (bool const stopped : {false, true}) {
    auto reserved = put_case(large);
    reserved.name = stopped ? "reserve and commit, stopped there" : "reserve and commit";
    reserved.operation = [](scene& s) {
      auto room = s.q.reserve(large.message.size());
      std::memcpy(room.data(), large.message.data(), room.size());
      std::move(room).commit();
    };
    if (stopped) {
      reserved.while_stopped = [](scene& s, crash_point& at) {
        at.expect(s.q.get_for(crash_limit) == first, "consumers are held up");
        at.expect(s.q.size() <= 1, "the size is wrong");
        if (auto room = s.q.try_put(third)) s.third_is_in = room;
        if (!s.third_is_in) at.note("held up producers");
      };
      reserved.survive = [](scene& s, crash_point& at) {
        if (!s.third_is_in) at.expect(s.q.put_for(third, crash_limit), "the next put fails");
        take_all(s);
        balance(s, at, {third}, {large.message}, 0, "left the message whole");
        as_ever(s, at);
      };
    }
    crash_points(reserved).check();
  }
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of view and release takes at most that message along") {
  for (auto const* const k : {&in_place, &out_of_block, &large}) {
    auto looked_at = get_case(*k);
    looked_at.name = std::string("view a ") + k->name;
    looked_at.operation = [](scene& s) {
      auto seen = s.q.view();
      seen.release();
    };
    crash_points(looked_at).check();
  }
}

#endif
