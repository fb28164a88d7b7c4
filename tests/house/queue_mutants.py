#!/usr/bin/env python3
"""The model's scenarios see what they are meant to see: queues, and locks with favourites, with one line wrong each are looked
at, and all are caught.

Each mutant is the text of channel/queue_core.hpp and channel/queue_favourite.hpp, or of sync/biased_lock.hpp, with a few
words replaced, under a name of its own; all are compiled into one program. A replacement whose text is not there any more is
an error: adapt it.
"""
import os
import re
import subprocess
import sys
import tempfile

import house

# What such a queue does, [what is replaced, by what ...], the traffic it is looked at with, and the explorer's bounds.
LEASES = "{.each = 2, .capacity = 2, .lease = true}"
TWO_LEASES = "{.consumers = 2, .each = 2, .capacity = 2, .lease = true}"
RUNS = "{.each = 5, .capacity = 3, .chunk = 128, .batches = true, .singly = true}"
TWO_RUNS = "{.consumers = 2, .each = 6, .capacity = 3, .chunk = 128, .batches = true, .singly = true}"
DEATHS = "{.preemptions = 1}"
ALL_LIVE = "{.preemptions = 1, .deaths = 0}"
MUTANTS = [
    ("commits before the record is written", [
        "      copy(to + 8, message);\n",
        "      late_to_ = to + 8;\n      late_ = message;\n",
        "      blocks_ = 0;\n      return queue_status::success;",
        "      copy(late_to_, late_);\n      blocks_ = 0;\n      return queue_status::success;",
        "    unsigned blocks_ = 0;\n",
        "    unsigned blocks_ = 0;\n    std::byte* late_to_ = nullptr;\n    std::span<std::byte const> late_;\n",
    ], "{.each = 2, .capacity = 1}", DEATHS),
    ("changes the position that holds", [
        "      h_.tail_at[(tail_ >> 1 & 1) ^ 1] = at_;",
        "      h_.tail_at[0] = h_.tail_at[1] = at_;",
    ], "{.producers = 2, .each = 1, .capacity = 2}", DEATHS),
    ("takes before it has copied", [
        "    copy(into.resize(f.bytes.size()), f.bytes);\n    g.take(f.block);\n    g.commit(until);",
        "    g.take(f.block);\n    g.commit(until);\n    copy(into.resize(f.bytes.size()), f.bytes);",
    ], "{.each = 2, .capacity = 2, .size = 2000}", "{.preemptions = 2, .deaths = 0}"),
    ("uses a chunk again that is still read", [
        "h_.own_serial[i] < consumers ||",
        "h_.own_serial[i] <= consumers ||",
    ], "{.each = 5, .capacity = 8, .chunk = 48}", DEATHS),
    ("says that a chunk is free before the get counts", [
        "      h_.head.store((head_ + (taken_ << 1)) ^ 1);\n",
        "      h_.head_serial.store(at_.serial, std::memory_order_release);\n"
        "      h_.head.store((head_ + (taken_ << 1)) ^ 1);\n",
    ], "{.each = 8, .capacity = 8, .chunk = 48}", DEATHS),
    ("enters a lease when the message is taken", [
        "    e.word.store(word);\n    head_->holds.fetch_add(1);\n    g.take(0);\n    g.commit(until);",
        "    g.take(0);\n    g.commit(until);\n    e.word.store(word);\n    head_->holds.fetch_add(1);",
    ], LEASES, DEATHS),
    ("counts a lease whose message was not taken", [
        "      if (e.number.load(std::memory_order_relaxed) > taken) {",
        "      if (e.number.load(std::memory_order_relaxed) > taken + 1) {",
    ], LEASES, DEATHS),
    ("gives back and says it to nobody", [
        "    entry_at(h.entry).word.store(is_returned);\n    head_->unsettled.store(1);",
        "    entry_at(h.entry).word.store(is_returned);",
    ], TWO_LEASES, ALL_LIVE),
    ("believes for ever that something came back", [
        "      if (head_->unsettled.load() != 0) head_->unsettled.store(0);\n      return std::nullopt;",
        "      return std::nullopt;",
    ], TWO_LEASES, ALL_LIVE),
    ("sweeps a block that is held", [
        "              return !is_held_block(offset);",
        "              return true;",
    ], TWO_LEASES, DEATHS),
    ("says closed before the dead were asked after", [
        "          if (head_->holds.load() != 0) tidy_holds(until, true);\n",
        "",
    ], "{.each = 2, .capacity = 2, .lease = true, .close_first = true}", DEATHS),
    ("forgets the copy of one that died in a lease", [
        "    head_->litter.store(1);  // a copy for a hold",
        "    // a copy for a hold",
    ], LEASES, DEATHS),
    ("frees the block before the entry", [
        "    e.word.store(is_free);\n    drop(block, until);",
        "    drop(block, until);\n    e.word.store(is_free);",
    ], "{.each = 2, .capacity = 2, .size = 2000, .lease = true}", DEATHS),
    ("owns a reserved block only after the put", [
        "      if (!p.write_elsewhere(block, skip, size, until) || !p.own(block, until)) return queue_status::timeout;\n"
        "      given = true;\n      return p.commit();",
        "      if (!p.write_elsewhere(block, skip, size, until)) return queue_status::timeout;\n"
        "      given = true;\n      auto const s = p.commit();\n      p.own(block, until);\n      return s;",
    ], "{.consumers = 0, .each = 1, .capacity = 1, .size = 2000, .reserve = true}", DEATHS),
    ("says closed while its favourite puts", [
        "    if (!head_->put_lock.dismiss()) return false;\n",
        "",
    ], "{.each = 2, .capacity = 3, .closer = true}", ALL_LIVE),
    ("sleeps without a fence where a favourite wakes", [
        "    if (head_->put_lock.has_favourite()) Backend::heavy_fence();\n",
        "",
    ], "{.each = 3, .capacity = 1}", "{.preemptions = 2, .deaths = 0, .stale = 2}"),
    ("leaves what a dead producer allocated", [
        "        end_hold hold{head_->put_lock, until, [&] { repair_put(until); }};",
        "        end_hold hold{head_->put_lock, until, [&] {}};",
    ], "{.each = 1, .capacity = 1, .size = 2000}", DEATHS),
    ("says that a run is there before it is", [
        "    write(message_row<std::byte>{to + 8, static_cast<std::size_t>(n), size, step});\n",
        "",
        "    h.tail.store((tail + (n << 2)) ^ 2, std::memory_order_release);\n",
        "    h.tail.store((tail + (n << 2)) ^ 2, std::memory_order_release);\n"
        "    write(message_row<std::byte>{to + 8, static_cast<std::size_t>(n), size, step});\n",
    ], RUNS, DEATHS),
    ("takes the first of a run again, as the favourite", [
        "        next += static_cast<std::uint32_t>(row.count * padded(row.size));\n",
        "",
    ], RUNS, DEATHS),
    ("takes the first of a run again, with the lock", [
        "      at_.at += static_cast<std::uint32_t>(padded(at_.size));\n",
        "",
    ], TWO_RUNS, DEATHS),
]

# Locks whose favourites go wrong: [what is replaced, by what ...], how many users, how often each, and the bounds.
STALE = "{.preemptions = 2, .deaths = 0, .stale = 2}"
FAVOURITES = [
    ("looks for the favourite without a fence", [
        "    favourite_.store(0);\n    Backend::heavy_fence();\n    auto const end = await",
        "    favourite_.store(0);\n    auto const end = await",
    ], 2, 2, STALE),
    ("does not wait for the favourite", [
        "    auto const end = await(its, deadline);",
        "    auto const end = stay::over; (void)&biased_lock::await;",
    ], 2, 2, ALL_LIVE),
    ("lets the favourite in without a second look", [
        "      if (lock.favourite_.load(std::memory_order_relaxed) != word) leave();",
        "",
    ], 2, 2, ALL_LIVE),
    ("leaves without telling", [
        "      l.tell();",
        "",
    ], 2, 2, ALL_LIVE),
    ("takes a favourite that died for one that left", [
        "    return end == stay::died ? lock_outcome::locked_dirty : outcome;",
        "    return outcome;",
    ], 2, 2, DEATHS),
    ("gives the seat of one who lives to the next", [
        "      if (who != me && who != 0 && Backend::alive(who)) continue;",
        "",
    ], 3, 4, "{.preemptions = 3, .deaths = 0, .seconds = 60}"),
    ("forgets the favourite that a dying one was about to dismiss", [
        "    favourite_.store(0);\n    Backend::heavy_fence();\n    auto const end",
        "    current_.store(0);\n    favourite_.store(0);\n    Backend::heavy_fence();\n    auto const end",
    ], 3, 2, "{.preemptions = 2, .deaths = 1}"),
    ("leaves with an order that is too weak", [
        "      l.seats_[word_ & seat_mask].busy.store(0, std::memory_order_release);",
        "      l.seats_[word_ & seat_mask].busy.store(0, std::memory_order_relaxed);",
    ], 2, 2, ALL_LIVE),
]


def body_of(text, head):
    begin = text.index(head)
    return text[begin:text.index("}  // namespace polyproc::inline v0_1::detail", begin)]


def copy_of(text, names, number, changes):
    for old, new in zip(changes[::2], changes[1::2]):
        if text.count(old) != 1:
            sys.exit(f"queue_mutants.py: {text.count(old)} times in {names[-1]}, not once: {old!r}")
        text = text.replace(old, new)
    for name in names:
        text = re.sub(rf"\b{name}\b", f"{name}_{number}", text)
    return text


def main():
    compiler = house.gcc()
    if not compiler or not sys.platform.startswith("linux"):
        print("SKIPPED: no g++ here")
        return house.SKIPPED
    text = house.read(os.path.join(house.INCLUDE, "polyproc", "channel", "queue_core.hpp"))
    favourite = house.read(os.path.join(house.INCLUDE, "polyproc", "channel", "queue_favourite.hpp"))
    lock = house.read(os.path.join(house.INCLUDE, "polyproc", "sync", "biased_lock.hpp"))
    queue = body_of(favourite, "template <sync_backend Backend>\nstruct queue_favourite {") + \
        body_of(text, "template <memory_backend Backend, class Store = family_store<Backend>>\nclass queue_core {")
    lock = body_of(lock, "template <sync_backend Backend, class Waiting = waiting::adaptive>\nclass biased_lock {")
    parts = ['#include "model/favourite.hpp"', '#include "model/queue_traffic.hpp"', "namespace polyproc::inline v0_1::detail {"]
    parts += [copy_of(queue, ["queue_favourite", "queue_core"], i, one[1]) for i, one in enumerate(MUTANTS)]
    parts += [copy_of(lock, ["biased_lock"], i, one[1]) for i, one in enumerate(FAVOURITES)]
    parts += ["}", "namespace {", "int escaped = 0;",
              "void tell(char const* what, model::result const& r) {",
              "  if (r.failure.empty()) ++escaped;",
              '  std::printf("one that %s: %s after %llu runs: %s\\n", what, r.failure.empty() ? "NOT FOUND" : "found",',
              "              static_cast<unsigned long long>(r.runs), r.failure.substr(0, r.failure.find('\\n')).c_str());",
              "  std::fflush(stdout);", "}",
              "template <class Core>", "void look(char const* what, traffic_plan p, model::bounds b) {",
              "  traffic<Core> t(p);", "  b.after = true;", "  b.time = 20s;",
              "  tell(what, model::explorer::get().run(b, t));", "}",
              "template <class Lock>", "void look(char const* what, int users, int times, model::bounds b) {",
              "  favourites<Lock> f(users, times);",
              "  tell(what, model::explorer::get().run(b, f));", "}", "}", "int main() {"]
    for i, (what, _, plan, bounds) in enumerate(MUTANTS):
        parts.append(f'  look<polyproc::detail::queue_core_{i}<model_backend, queue_store>>("{what}", {plan}, {bounds});')
    for i, (what, _, users, times, bounds) in enumerate(FAVOURITES):
        parts.append(f'  look<polyproc::detail::biased_lock_{i}<model_backend, polyproc::waiting::block>>("{what}", {users}, {times}, {bounds});')
    parts += ["  return escaped;", "}"]
    with tempfile.TemporaryDirectory() as there:
        source, program = os.path.join(there, "mutants.cpp"), os.path.join(there, "mutants")
        with open(source, "w", encoding="utf-8") as file:
            file.write("\n".join(parts) + "\n")
        tests = os.path.join(house.ROOT, "tests")
        subprocess.run([compiler, "-std=c++20", "-O1", "-w", "-I", house.INCLUDE, "-I", tests, source, "-o", program,
                        "-pthread"], check=True)
        escaped = subprocess.run([program], check=False, timeout=500).returncode
    print(f"{len(MUTANTS) + len(FAVOURITES)} mutants, {escaped} not found")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
