/// Waiting on a shared word where the kernel has no call for it. Kernel objects that are open or shut ("gates":
/// manual-reset events, pipes with or without a byte in them) are what sleepers wait for; a number per bucket of
/// words, the epoch, says which gate that is.
///
/// The state of a bucket is one word: epoch << 1 | occupied. It and the gates are all there is; no sleeper is
/// written down anywhere, so none can leave anything behind by dying.
///
///   A sleeper  1. sets `occupied`, learning the epoch e from the same instruction,
///              2. returns if its word is not what it expects,
///              3. waits for gate e or gate e + 1 (modulo their number) to be open,
///              4. then moves the epoch on if that is still e (below).
///   A waker    1. reads the state, by an instruction that also writes it; if it is not occupied, that is all,
///              2. opens gate e,
///              3. moves the epoch on.
///   To move on 1. compare-exchange (e, occupied) -> (e + 1, not occupied); whoever succeeds
///              2. shuts gate e + 3, so that it is shut before it can mean anything, and
///              3. if the epoch has passed e + 2 meanwhile, opens it again: it may have been a signal already.
///
/// So while the epoch is e, gates e, e + 1 and e + 2 are shut and all others are open.
///
/// Why no wake is missed: all accesses of the state by both sides are read-modify-writes, thus totally ordered and
/// each synchronizing with the next. If the sleeper's comes after the waker's, the sleeper sees the word as the
/// waker left it. If it comes before, the waker sees `occupied` with the same e and opens gate e; or the epoch
/// has moved on from e, and that happens only after gate e was opened.
///
/// What can still go wrong: a sleeper that is kept from running between its steps 1 and 3 (where gates are looked
/// at again after waking, as pipes are: until it runs), while others come, sleep and are woken, finds the epoch
/// further on. It sees that by one of its two gates, unless the epoch is then a multiple of `gates` ahead, or one
/// less. In that case it sleeps until the next time that somebody is woken in its bucket. In a bucket that four pairs
/// of threads share, on two processors, none of 8000 waits was overslept with two of eight gates; one in twenty was
/// with one of four, and as many with two of four on Windows.
///
/// Death at any step: a sleeper leaves `occupied`, which costs the next waker two calls. A waker dead between its
/// steps 2 and 3 has opened the gate: the sleepers pass and one of them moves the epoch on. One dead between
/// steps 1 and 2 of moving on leaves a gate open that ought to be shut: the sleepers of that epoch return at
/// once, for no reason, and moving on they put the gates right. One dead before opening the gate has woken
/// nobody, like one that dies before it calls; one dead between 2 and 3 of moving on may have taken back a signal.
/// Callers look again every now and then because of these (sync/waiting.hpp).
///
/// `Gates` provides, as static members:
///   buckets, gates              how many there are of each; gates a power of two, at least 8
///   std::byte* state()          state_bytes of zeroed memory shared by all who may wait for each other, aligned
///                               to 64, at the same place in every call; nullptr when there is none
///   std::uint64_t key(void const* word)   the same for waiter and waker of one word; see parking_key
///   bool prepare(bucket, gate)  makes sure that the gate exists and goes on existing while this process lives;
///                               false when it cannot
///   open(bucket, gate), shut(bucket, gate)
///   bool wait(bucket, gate, other, deadline)   until one of both gates is open: true; false at the deadline or on
///                               an error
///   handle(bucket, gate)        of a gate that was prepared: what the backend's wait_any takes
///   pause(deadline)             sleeps a millisecond or two, no longer than the deadline
/// all noexcept.
#pragma once

#include <polyproc/backend/concept.hpp>

namespace polyproc::inline v0_1::detail {

/// Names a word for all processes of the family: its offset if it lies in the family's memory, else its address
/// together with the process that owns it.
inline std::uint64_t parking_key(void const* word, family_segment family, long pid) noexcept {
  auto const at = reinterpret_cast<std::uintptr_t>(word);
  auto const base = reinterpret_cast<std::uintptr_t>(family.base);
  if (at - base < family.size) return at - base;
  return at + (static_cast<std::uint64_t>(pid) << 40);
}

template <class Gates>
struct gate_parking {
  /// Each bucket has a cache line of its own.
  static constexpr std::size_t state_bytes = std::size_t{64} * Gates::buckets;
  static_assert(Gates::gates >= 8 && (Gates::gates & (Gates::gates - 1)) == 0);

  /// Until the word's bucket is woken, the deadline, or no reason; at once if word != expected.
  static void wait(std::atomic<std::uint32_t> const& word, std::uint32_t expected, time_point deadline) noexcept {
    std::byte* const memory = Gates::state();
    if (memory == nullptr) {
      if (word.load(std::memory_order_acquire) == expected) Gates::pause(deadline);
      return;
    }
    unsigned const bucket = bucket_of(&word);
    auto& state = state_of(memory, bucket);
    // The gate is made before it is announced that somebody waits for it: its last user may be the waker, and
    // take the opened gate with it.
    auto const seen = state.load(std::memory_order_relaxed);
    if (!Gates::prepare(bucket, gate_of(seen)) || !Gates::prepare(bucket, gate_of(seen + 2))) {
      if (word.load(std::memory_order_acquire) == expected) Gates::pause(deadline);
      return;
    }
    auto const now = state.fetch_or(occupied, std::memory_order_acq_rel) | occupied;
    if ((now | occupied) != (seen | occupied)) return;  // somebody was woken meanwhile; the caller looks again
    if (word.load(std::memory_order_acquire) != expected) return;
    if (Gates::wait(bucket, gate_of(now), gate_of(now + 2), deadline)) move_on(state, bucket, now);
  }

  /// The same for many words at once, and whatever else can be waited for by handles: wait_any(handles, deadline) gives the
  /// index of one that is ready. Gates::handle(bucket, gate) is what is waited for. A word for which has_gate(word) is
  /// false is looked at every 2 ms.
  template <class Handle, class Word, class HasGate, class WaitAny>
  static void wait_for_some(std::span<word_wait<Word> const> words, std::span<Handle const> others, time_point deadline,
                            HasGate&& has_gate, WaitAny&& wait_any) {
    std::byte* const memory = Gates::state();
    struct sleeping {
      unsigned bucket;
      std::uint32_t state;
    };
    std::vector<sleeping> asleep;
    std::vector<Handle> handles;
    for (auto const& one : words) {
      if (one.word->load(std::memory_order_acquire) != one.expected) return;
      if (memory == nullptr || !has_gate(one.word)) continue;
      unsigned const bucket = bucket_of(one.word);
      auto& state = state_of(memory, bucket);
      auto const seen = state.load(std::memory_order_relaxed);
      if (!Gates::prepare(bucket, gate_of(seen)) || !Gates::prepare(bucket, gate_of(seen + 2))) continue;
      auto const now = state.fetch_or(occupied, std::memory_order_acq_rel) | occupied;
      if (now != (seen | occupied) || one.word->load(std::memory_order_acquire) != one.expected) return;
      asleep.push_back({bucket, now});
      handles.push_back(Gates::handle(bucket, gate_of(now)));
      handles.push_back(Gates::handle(bucket, gate_of(now + 2)));
    }
    handles.insert(handles.end(), others.begin(), others.end());
    bool const all = asleep.size() == words.size();
    auto const soon = std::chrono::steady_clock::now() + std::chrono::milliseconds{2};
    auto const ready = wait_any(std::span<Handle const>(handles), all ? deadline : std::min(deadline, soon));
    if (!ready || *ready / 2 >= asleep.size()) return;
    auto const& woken = asleep[*ready / 2];
    move_on(state_of(memory, woken.bucket), woken.bucket, woken.state);
  }

  /// Wakes all who wait for a word of the same bucket. One instruction when nobody does.
  static void wake(std::atomic<std::uint32_t> const& word) noexcept {
    std::byte* const memory = Gates::state();
    if (memory == nullptr) return;
    unsigned const bucket = bucket_of(&word);
    auto& state = state_of(memory, bucket);
    auto const now = state.fetch_add(0, std::memory_order_acq_rel);
    if ((now & occupied) == 0) return;
    Gates::open(bucket, gate_of(now));
    move_on(state, bucket, now);
  }

 private:
  static constexpr std::uint32_t occupied = 1;

  static unsigned gate_of(std::uint32_t state) noexcept { return (state >> 1) % Gates::gates; }

  static std::atomic<std::uint32_t>& state_of(std::byte* memory, unsigned bucket) noexcept {
    return *reinterpret_cast<std::atomic<std::uint32_t>*>(memory + std::size_t{64} * bucket);
  }

  static unsigned bucket_of(void const* word) noexcept {
    auto const mixed = (Gates::key(word) >> 2) * 0x9E3779B97F4A7C15ULL;
    return static_cast<unsigned>((mixed >> 32) % Gates::buckets);
  }

  static void move_on(std::atomic<std::uint32_t>& state, unsigned bucket, std::uint32_t from) noexcept {
    std::uint32_t expected = from;
    std::uint32_t const next = (from & ~occupied) + 2;
    if (!state.compare_exchange_strong(expected, next, std::memory_order_acq_rel)) return;
    unsigned const gate = gate_of(next + 4);
    Gates::shut(bucket, gate);
    // Moved on by others while we were at it: the gate we shut may have been opened for sleepers by then.
    std::uint32_t const passed = ((state.load(std::memory_order_acquire) & ~occupied) - next) / 2;
    if (passed >= 2) Gates::open(bucket, gate);
  }
};

}  // namespace polyproc::inline v0_1::detail
