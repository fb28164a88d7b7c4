// timeout: 600
// alone
//
// A process is killed, or stopped, after every single instruction of what only a joinable_queue does. See crash_points.hpp.

#include "crash/crash_points.hpp"
#include "process/start_methods.hpp"

#if defined(POLYPROC_NO_CRASH_POINTS)

TEST_CASE("joinable_queue: a kill at any instruction") { crash_points_skipped(POLYPROC_NO_CRASH_POINTS); }

#else

namespace {

using namespace std::chrono_literals;

struct work {
  polyproc::joinable_queue<int> q{8};
  std::vector<int> got = {};
};

work with(int count) {
  work w;
  for (int i = 1; i <= count; ++i) w.q.put(i);
  return w;
}
/// Takes what is left, says so of each, and then nothing is unfinished, for whoever may have died.
void finish(work& w, crash_point& at) {
  while (auto one = w.q.get_for(0ms)) {
    w.got.push_back(*one);
    w.q.task_done();
  }
  at.expect(w.q.join_for(crash_limit), "join waits for one who cannot come");
  at.expect(w.q.unfinished() == 0, "something is unfinished");
  bool refused = false;
  try {
    w.q.task_done();
  } catch (std::logic_error const&) {
    refused = true;
  }
  at.expect(refused, "one more could be finished than was put");
  // And as ever.
  w.q.put(9);
  at.expect(!w.q.join_for(0ms), "join does not wait for what was put");
  at.expect(w.q.get_for(crash_limit) == 9, "the next message is not there");
  w.q.task_done();
  at.expect(w.q.join_for(crash_limit), "the next join fails");
}

crash_case<work> getting() {
  return {.name = "get from a joinable_queue",
          .setup = [] { return with(2); },
          .operation = [](work& w) { (void)w.q.get(); },
          .survive =
              [](work& w, crash_point& at) {
                finish(w, at);
                at.expect(w.got == std::vector{2} || w.got == std::vector{1, 2}, "the messages are wrong");
                if (w.got.size() == 2) at.note("left the message");
              }};
}
crash_case<work> finishing() {
  return {.name = "task_done",
          .setup = [] { return with(2); },
          .prepare = [](work& w) { (void)w.q.get(); },
          .operation = [](work& w) { w.q.task_done(); },
          .survive =
              [](work& w, crash_point& at) {
                finish(w, at);
                at.expect(w.got == std::vector{2}, "the messages are wrong");
              }};
}
/// The books, in which a process that is dead had taken three, and others have finished two of those.
struct books {
  polyproc::detail::queue_takers<polyproc::native_backend> takers;
  using polyproc_shareable = void;
};
crash_case<polyproc::shared<books>> burying() {
  return {.name = "burying a dead taker",
          .setup =
              [] {
                constexpr std::uint64_t dead = 1;  // nobody's
                polyproc::shared<books> b;
                b->takers.of(dead).taken.store(3);
                b->takers.of(polyproc::native_backend::process_self()).done.store(2);
                return b;
              },
          .operation = [](polyproc::shared<books>& b) { (void)b->takers.bury(polyproc::never); },
          .survive =
              [](polyproc::shared<books>& b, crash_point& at) {
                // (Half done it may look like more than it was, for then nobody stops waiting too soon.)
                if (b->takers.unfinished() != 0) at.note("left the dead one's");
                at.expect(b->takers.bury(polyproc::never), "the books are held");
                at.expect(b->takers.unfinished() == 0, "the dead one's is unfinished");
                auto& mine = b->takers.of(polyproc::native_backend::process_self());
                mine.taken.fetch_add(1);
                at.expect(b->takers.unfinished() == 1, "what is taken now is not counted");
                mine.done.fetch_add(1);
                at.expect(b->takers.unfinished() == 0, "what is finished now is not counted");
              }};
}

}  // namespace

TEST_CASE_METHOD(tidy, "joinable_queue: a kill at any instruction of a get leaves nothing that join would wait for") {
  crash_points(getting()).check();
}

TEST_CASE_METHOD(tidy, "joinable_queue: a kill at any instruction of task_done leaves nothing that join would wait for") {
  crash_points(finishing()).check();
}

TEST_CASE_METHOD(tidy, "joinable_queue: a kill at any instruction while the books of one who died are put right") {
  crash_points(burying()).check();
}

TEST_CASE_METHOD(tidy, "joinable_queue: one that is stopped at any instruction holds up no producer and no deadline") {
  for (auto stopped : {getting(), finishing()}) {
    stopped.name += ", stopped there";
    stopped.while_stopped = [](work& w, crash_point& at) {
      at.expect(w.q.put_for(4, crash_limit), "a producer is held up");
      at.expect(!w.q.join_for(1ms), "join does not wait for what was put");
      if (auto const one = w.q.get_for(5ms)) {
        w.got.push_back(*one);
        w.q.task_done();
      } else {
        at.note("held up consumers");
      }
    };
    stopped.survive = [](work& w, crash_point& at) {
      finish(w, at);
      at.expect(!w.got.empty() && w.got.back() == 4, "the messages are wrong");
    };
    crash_points(stopped).check();
  }
}

#endif
