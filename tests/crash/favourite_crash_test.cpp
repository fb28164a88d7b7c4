// timeout: 1500
// alone
//
// The same for one who is the favourite of the queue's ends (sync/biased_lock.hpp), and puts and gets without a lock.

#include "crash/queue_scene.hpp"

#if defined(POLYPROC_NO_CRASH_POINTS)

TEST_CASE("[H33] a kill at any instruction of a favourite") { crash_points_skipped(POLYPROC_NO_CRASH_POINTS); }

#else

using namespace queue_crash;

namespace {

/// The child becomes the favourite of both ends; the queue is then as it was.
void become_favourite(scene& s) {
  if (!polyproc::native_backend::has_light_fences()) return;
  for (int i = 0; i < 100; ++i) {
    s.q.put(first);
    (void)s.q.get();
  }
}

crash_case<scene> put_by_favourite() {
  auto made = put_case(in_place);
  made.name = "put a message in place, by the favourite";
  made.setup = [] { return scene(8); };
  made.prepare = become_favourite;
  return made;
}
crash_case<scene> get_by_favourite() {
  auto made = get_case(in_place);
  made.name = "get a message in place, by the favourite";
  made.setup = [] {
    scene s(8);
    s.before = {third};
    return s;
  };
  made.prepare = [](scene& s) {
    become_favourite(s);
    s.q.put(in_place.message);
    s.q.put(third);
  };
  return made;
}

}  // namespace

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of a favourite's put leaves the message whole or not at all") {
  crash_points(put_by_favourite()).check();
}

TEST_CASE_METHOD(tidy, "[H33] queue: a kill at any instruction of a favourite's get takes at most that message along") {
  crash_points(get_by_favourite()).check();
}

TEST_CASE_METHOD(tidy, "[H33] queue: a favourite that is stopped in a put holds up producers only, and their deadlines hold") {
  auto stopped = put_by_favourite();
  stopped.name += ", stopped there";
  stopped.while_stopped = [](scene& s, crash_point& at) {
    at.expect(s.q.size() <= 1 && !s.q.full(), "the size is wrong");
    s.third_is_in = s.q.put_for(third, 5ms);
    if (!s.third_is_in) at.note("held up producers");
  };
  stopped.survive = [](scene& s, crash_point& at) {
    if (!s.third_is_in) at.expect(s.q.put_for(third, crash_limit), "the next put fails");
    take_all(s);
    balance(s, at, {third}, {in_place.message}, 0, "left the message whole");
    as_ever(s, at);
  };
  crash_points(stopped).check();
}

TEST_CASE_METHOD(tidy, "[H33] queue: a favourite that is stopped in a get holds up consumers only, and their deadlines hold") {
  auto stopped = get_by_favourite();
  stopped.name += ", stopped there";
  stopped.while_stopped = [](scene& s, crash_point& at) {
    at.expect(s.q.put_for(third, crash_limit), "producers are held up");
    at.expect(s.q.size() == 2 || s.q.size() == 3, "the size is wrong");
    if (auto got = s.q.get_for(5ms))
      s.seen.push_back(std::move(*got));
    else
      at.note("held up consumers");
  };
  stopped.survive = [](scene& s, crash_point& at) {
    take_all(s);
    balance(s, at, {third, third}, {in_place.message}, 0, "left the message");
    as_ever(s, at);
  };
  crash_points(stopped).check();
}

TEST_CASE_METHOD(tidy, "[H37] queue: closed while a favourite is stopped or killed in a put: no put afterwards, and what was put is got") {
  auto closed = put_by_favourite();
  closed.name += ", while the queue is closed";
  closed.while_stopped = [](scene& s, crash_point& at) {
    s.q.close();
    at.expect(s.q.is_closed(), "the queue is not closed");
    at.expect(!s.q.try_put(third), "a put into a closed queue");
    polyproc::queue_status why{};
    auto const got = s.q.get_for(5ms, why);
    if (got) s.seen.push_back(*got);
    if (!got && why != polyproc::queue_status::closed) at.note("held up the end");
  };
  closed.survive = [](scene& s, crash_point& at) {
    if (!s.q.is_closed()) s.q.close();  // when the way is recorded
    polyproc::queue_status why{};
    while (auto got = s.q.get_for(crash_limit, why)) s.seen.push_back(std::move(*got));
    at.expect(why == polyproc::queue_status::closed, "the queue has no end");
    balance(s, at, {}, {in_place.message}, 0, "left the message whole");
    at.expect(!s.q.try_put(third), "a put into a closed queue");
  };
  crash_points(closed).check();
}

#endif
