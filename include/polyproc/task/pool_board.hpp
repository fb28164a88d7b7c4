/// What a pool and its workers share: for each worker one place where its task is laid down and its result is picked up.
///
///   state of a place:  idle --(pool)--> given --(worker)--> running --(worker)--> done --(pool)--> idle
///
/// Who may write what: the pool writes `request` while idle, the worker writes `result` while running; each transition is
/// one atomic operation by the side named on its arrow. The state says what a worker's death costs:
///   idle     nothing;
///   given    nothing: the task was not begun, and is given to another;
///   running  that one task: its future fails with worker_lost;
///   done     nothing: the result is whole.
/// Requests and results too large for the place lie in blocks of the arena tagged {board, place + 1}; after a worker's
/// death the pool frees all blocks with its tag. Results ring `bell`, on which the pool parks; a worker that dies between
/// done and the bell is found when the pool looks after its busy workers.
#pragma once

#include <polyproc/memory/handle.hpp>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class pool_board {
 public:
  enum state : std::uint32_t { idle, given, running, done };
  enum class ending : std::uint32_t { value, exception };

  static constexpr std::size_t room = 3968;
  struct letter {
    std::uint64_t size;
    std::uint64_t block;  // 0: in the place itself
    std::byte data[room];
  };
  struct alignas(64) place {
    typename Backend::template atomic<std::uint32_t> now;
    typename Backend::template atomic<std::uint32_t> arrived;  // the worker has begun to serve
    typename Backend::template atomic<std::uint32_t> leave;    // the worker is to end when it is idle
    ending how;
    letter request;
    letter result;
  };
  struct alignas(64) head {
    typename Backend::template atomic<std::uint32_t> bell;
    std::uint32_t places;
  };

  explicit pool_board(std::uint32_t places)
      : block_(attachment<Backend>::create(sizeof(head) + places * sizeof(place), fingerprint(), layout)) {
    top().places = places;
  }

  [[nodiscard]] head& top() const noexcept { return *reinterpret_cast<head*>(block_->contents()); }
  [[nodiscard]] place& at(std::uint32_t i) const noexcept {
    return reinterpret_cast<place*>(block_->contents() + sizeof(head))[i];
  }

  /// Lays bytes down. Throws std::bad_alloc; the letter is empty then.
  void write(letter& to, std::uint32_t place_number, std::span<std::byte const> bytes) const {
    to.block = 0;
    to.size = 0;
    auto* at = to.data;
    if (bytes.size() > room) {
      to.block = arena<Backend>::allocate(bytes.size(), {block_->offset(), place_number + 1});
      at = arena<Backend>::at(to.block, bytes.size());
    }
    to.size = bytes.size();
    if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
  }
  [[nodiscard]] std::span<std::byte const> read(letter const& from) const {
    auto const size = static_cast<std::size_t>(from.size);
    return {from.block == 0 ? from.data : arena<Backend>::at(from.block, size), size};
  }
  static void clear(letter& what) noexcept {
    if (auto const block = std::exchange(what.block, 0); block != 0) arena<Backend>::free(block);
    what.size = 0;
  }

  /// After a worker's death: its place as new.
  void reset(std::uint32_t place_number) const noexcept {
    auto& p = at(place_number);
    arena<Backend>::sweep([&](block_tag const& tag, std::uint64_t) {
      return tag.owner == block_->offset() && tag.number == place_number + 1;
    });
    p.request.block = p.result.block = 0;
    p.arrived.store(0);
    p.leave.store(0);
    p.now.store(idle);
  }

  static constexpr std::uint64_t fingerprint() { return 0x626f617264ULL ^ sizeof(place); }
  static constexpr std::uint64_t layout = 1;
  static constexpr char const* handle_name = "pool";

 private:
  friend handle_codec<pool_board, Backend>;
  explicit pool_board(attachment_ref<Backend> block) noexcept : block_(std::move(block)) {}
  attachment_ref<Backend> block_;
};

}  // namespace polyproc::inline v0_1::detail

namespace polyproc::inline v0_1 {
template <backend Backend>
struct codec<detail::pool_board<Backend>> : detail::handle_codec<detail::pool_board<Backend>, Backend> {};
}  // namespace polyproc::inline v0_1
