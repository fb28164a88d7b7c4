/// The life of a worker process of a pool.
#pragma once

#include <polyproc/process/this_process.hpp>
#include <polyproc/task/pool_board.hpp>
#include <polyproc/task/stop.hpp>
#include <polyproc/task/worker_state.hpp>
#include <polyproc/wire/exception.hpp>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class pool_worker {
 public:
  using board_t = pool_board<Backend>;

  pool_worker(board_t board, std::uint32_t number)
      : board_(std::move(board)), number_(number), top_(board_.top()), place_(board_.worker(number)),
        blocks_(board_.offset(), board_t::patience::any) {
    result_.use_for_many(&blocks_, board_t::blocks::many);
  }

  void serve(basic_pool_initializer<Backend> const& initializer) {
    this_threads_worker().number = number_ + 1;
    place_.pid.store(static_cast<std::uint64_t>(Backend::current_pid()), std::memory_order_relaxed);
    try {
      initializer.run();
    } catch (...) {
      report(std::current_exception());
      return;
    }
    memory_at_first_ = top_.memory_growth != 0 ? memory() : 0;
    place_.arrived.store(1);
    board_.ring_bell();
    while (auto const slot = next()) {
      run(*slot);
      if (tired()) break;
    }
    this_threads_worker() = {};
    place_.left.store(idle_ ? 2 : 1);
    top_.leavers.fetch_add(1);
    board_.ring_bell();
  }

 private:
  /// Takes a task, or sleeps until there is one; nothing when it is to end.
  std::optional<std::uint32_t> next() {
    auto ring = board_.tasks();
    auto const control = board_.controls();
    auto const ready = [&] { return ring.any() || place_.leave.load() != 0; };
    auto idle_until = never;
    pace<Backend> asking(idle_recheck);
    bool slept = false;
    for (bool first = true;; first = false) {
      bool const leave = place_.leave.load(std::memory_order_acquire) != 0;
      auto const slot = leave ? ring.none : ring.take(number_, control);
      if (leave || slot != ring.none || idle_) {
        if (slept) top_.workers.idle.pass_on([&] { return ring.any(); });
        if (slot == ring.none) return std::nullopt;
        return slot;
      }
      if (first && top_.idle_time != 0) idle_until = Backend::now() + std::chrono::nanoseconds(top_.idle_time);
      if (top_.workers.watch(number_, ready)) continue;
      auto const how = top_.workers.idle.sleep(idle_until, asking, ready);
      slept = true;
      idle_ = how == std::decay_t<decltype(top_.workers.idle)>::slept::late;  // takes what has come meanwhile all the same
    }
  }

  void run(std::uint32_t number) {
    auto& slot = board_.at(number);
    auto const ticket = board_t::ring::ticket_of(slot.control.load(std::memory_order_relaxed));
    // One of the next tasks will be ours: its memory comes from the pool's processor meanwhile.
    if (auto const soon = board_.tasks().to_come(ticket + 2); soon != board_t::ring::none) board_.fetch_for_writing(soon);
    bool const times = top_.times != 0 || (slot.flags & board_t::note_times) != 0;
    if (times) board_t::note_began(slot, static_cast<std::uint64_t>(stamp()));
    if ((slot.flags & board_t::ring_at_begin) != 0 || ticket >= top_.begun_from.load(std::memory_order_relaxed)) board_.ring_bell();
    current_stop_token<Backend>() = {slot.stop, static_cast<std::uint32_t>(ticket + 1), nullptr};
    blocks_.for_number(board_t::result_of(ticket), board_t::read_offer(slot));
    result_.clear();
    slot.how = board_t::ending::value;
    try {
      reader in(board_t::read_request(slot));
      slot.reading.store(1, std::memory_order_relaxed);
      run_call<Backend>(in, result_);
      put(slot, ticket);
    } catch (...) {
      slot.how = board_t::ending::exception;
      // What was encoded of a value goes nowhere: its holds are given back, and its block is freed while the slot is still ours.
      // Afterwards the pool may free it by its tag, and somebody else have it.
      result_.clear();
      write_problem(slot, ticket, std::current_exception());
    }
    current_stop_token<Backend>() = {};
    if (times) slot.ended = stamp();
    place_.served.store(++served_, std::memory_order_relaxed);
    if (!board_t::ring::finish(slot.control, number_, ticket)) await_the_end();
    result_.sent();
    auto const wanted = slot.wanted.load();
    if ((wanted & board_t::somebody_parks) != 0) {
      slot.turn.fetch_add(1);
      Backend::wake_all(slot.turn);
    }
    if ((wanted & board_t::pool_asks) != 0 || ticket >= top_.done_from.load()) board_.ring_bell();
    result_.shrink();
  }

  void put(typename board_t::slot& to, std::uint64_t ticket) {
    if (!result_.wrote_many()) {
      board_.write_result(to, ticket, result_.view());
      return;
    }
    auto const size = result_.view().size();
    board_t::write_result(to, size, {blocks_.offset_of(result_.take_many()), blocks_.last_room()});
  }

  void write_problem(typename board_t::slot& to, std::uint64_t ticket, std::exception_ptr problem) {
    writer out;
    encode_exception(out, std::move(problem));
    try {
      board_.write_result(to, ticket, out.view());
    } catch (std::bad_alloc const&) {
      writer little;
      encode_exception(little, std::make_exception_ptr(std::bad_alloc()));
      board_.write_result(to, ticket, little.view());
    }
  }

  /// That its initializer has failed.
  void report(std::exception_ptr problem) {
    writer out;
    encode_exception(out, std::move(problem));
    auto const bytes = out.view();
    place_.problem = board_.new_block(bytes.size(), board_.problem_of(number_));
    std::memcpy(arena<Backend>::at(place_.problem, bytes.size()), bytes.data(), bytes.size());
    place_.problem_size = bytes.size();
    place_.arrived.store(2);
    board_.ring_bell();
  }

  /// It was decided to end this process; it is about to happen.
  [[noreturn]] static void await_the_end() noexcept {
    typename board_t::word never_changes{0};
    for (;;) Backend::wait(never_changes, 0, Backend::now() + std::chrono::seconds{60});
  }

  /// Whether it is time for a successor.
  bool tired() {
    if (top_.tasks_per_worker != 0 && served_ >= top_.tasks_per_worker) return true;
    if (top_.memory_growth == 0) return false;
    auto const now = Backend::now();
    if (now < next_look_) return false;
    next_look_ = now + std::chrono::milliseconds{100};
    return memory() > memory_at_first_ + top_.memory_growth;
  }
  static std::uint64_t memory() {
    auto const row = Backend::process_alone(Backend::current_pid());
    return row && row->memory ? *row->memory : 0;
  }
  static std::int64_t stamp() noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Backend::now().time_since_epoch()).count();
  }

  board_t board_;
  std::uint32_t number_;
  typename board_t::head& top_;
  typename board_t::place& place_;
  typename board_t::blocks blocks_;
  writer result_;
  std::uint32_t served_ = 0;
  bool idle_ = false;  // ends for want of work
  std::uint64_t memory_at_first_ = 0;
  time_point next_look_{};
};

template <backend Backend>
void serve_pool(pool_board<Backend> board, std::uint32_t number, basic_pool_initializer<Backend> initializer) {
  pool_worker<Backend>(std::move(board), number).serve(initializer);
}

}  // namespace polyproc::inline v0_1::detail
