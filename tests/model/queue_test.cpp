// timeout: 1500
// A queue's puts and gets, whole or not at all, with a death at every step. Its messages lie in plain memory, so there are
// points after each operation as well as before.

#include "model/queue_traffic.hpp"

namespace {

void holds(char const* what, traffic_plan p, model::bounds b) {
  traffic<> t(p);
  b.after = true;
  b.time = 20s;
  model::holds(what, t, b);
}

}  // namespace

TEST_CASE("[H33] queue: a death at every step of put and get") {
  bool const deep = model::campaign();
  holds("queue, one to one", {.each = 2, .capacity = 1}, {.preemptions = deep ? 3 : 1});
  holds("queue, one to one", {.each = 2, .capacity = 1}, {.preemptions = 2, .seconds = deep ? 1e9 : 15});
  holds("queue, one to one, over three chunks", {.each = 5, .capacity = 8, .chunk = 48}, {.preemptions = deep ? 2 : 1});
  holds("queue, one to one, blocks", {.each = 1, .capacity = 1, .size = 2000}, {.preemptions = deep ? 3 : 1});
  holds("queue, two producers", {.producers = 2, .each = 1, .capacity = 2}, {.preemptions = deep ? 2 : 1});
  holds("queue, two producers, room for one", {.producers = 2, .each = 1, .capacity = 1}, {.preemptions = deep ? 2 : 1});
  holds("queue, two consumers", {.consumers = 2, .each = 2, .capacity = 2},
        {.preemptions = deep ? 2 : 1, .seconds = deep ? 1e9 : 10});
  if (deep) holds("queue, one to one", {.each = 2, .capacity = 1}, {.preemptions = 2, .deaths = 2});
}

TEST_CASE("[H33] queue: a death at every step of batches and leases") {
  bool const deep = model::campaign();
  holds("queue, batches", {.each = 3, .capacity = 2, .batches = true}, {.preemptions = deep ? 3 : 1});
  holds("queue, batches over chunks", {.each = 5, .capacity = 8, .chunk = 48, .batches = true},
        {.preemptions = deep ? 2 : 1});
  holds("queue, runs", {.each = 5, .capacity = 2, .batches = true}, {.preemptions = deep ? 2 : 1});
  holds("queue, runs taken singly", {.each = 5, .capacity = 3, .chunk = 128, .batches = true, .singly = true},
        {.preemptions = deep ? 2 : 1});
  holds("queue, runs for two", {.consumers = 2, .each = 6, .capacity = 3, .chunk = 128, .batches = true},
        {.preemptions = 1, .seconds = deep ? 1e9 : 10});
  holds("queue, leases", {.each = 2, .capacity = 2, .lease = true}, {.preemptions = deep ? 2 : 1});
  holds("queue, leases, closed in the end", {.each = 2, .capacity = 2, .lease = true, .close_first = true},
        {.preemptions = 1});
  holds("queue, leases of two", {.consumers = 2, .each = 2, .capacity = 2, .lease = true},
        {.preemptions = 1, .seconds = deep ? 1e9 : 10});
  holds("queue, leased blocks", {.each = 1, .capacity = 2, .size = 2000, .lease = true}, {.preemptions = deep ? 2 : 1});
}

TEST_CASE("[H33] queue: a death at every step of what is written and read in place") {
  bool const deep = model::campaign();
  holds("queue, reserved, left in the queue", {.consumers = 0, .each = 1, .capacity = 1, .size = 2000, .reserve = true},
        {.preemptions = 1});
  holds("queue, reserved", {.each = 1, .capacity = 1, .size = 2000, .reserve = true}, {.preemptions = deep ? 2 : 1});
  holds("queue, looked at in place", {.each = 1, .capacity = 1, .size = 2000, .view = true}, {.preemptions = deep ? 2 : 1});
  if (deep)
    holds("queue, both, of two", {.consumers = 2, .each = 2, .capacity = 2, .size = 2000, .reserve = true, .view = true},
          {.preemptions = 1, .seconds = 300});
}

TEST_CASE("[H37] queue: closed at any time, with a death at every step") {
  bool const deep = model::campaign();
  holds("queue, closed", {.each = 2, .capacity = 1, .closer = true}, {.preemptions = deep ? 2 : 1});
  holds("queue, closed while there is room", {.each = 3, .capacity = 4, .closer = true}, {.preemptions = deep ? 2 : 1});
  holds("queue, reserved, closed", {.each = 1, .capacity = 1, .size = 2000, .reserve = true, .closer = true},
        {.preemptions = deep ? 2 : 1, .deaths = deep ? 1 : 0});
}

TEST_CASE("[H33] queue: no wake is lost, with loads that may be stale") {
  bool const deep = model::campaign();
  holds("queue, one to one", {.each = 2, .capacity = 1}, {.preemptions = 2, .deaths = 0, .stale = 3});
  holds("queue, two producers", {.producers = 2, .each = 1, .capacity = 1}, {.preemptions = deep ? 3 : 2, .deaths = 0});
  holds("queue, two consumers", {.consumers = 2, .each = 2, .capacity = 2}, {.preemptions = deep ? 3 : 2, .deaths = 0});
}

TEST_CASE("[H33] queue: timed forms come back in time, whoever is stopped for ever") {
  bool const deep = model::campaign();
  holds("queue, timed", {.each = 2, .capacity = 1, .timed = true}, {.preemptions = deep ? 2 : 1, .deaths = 0, .stops = 1});
  holds("queue, timed, blocks", {.each = 1, .capacity = 1, .size = 2000, .timed = true},
        {.preemptions = 1, .deaths = deep ? 1 : 0, .stops = 1});
}
