/// A task of a pool of processes, as the pool's own process has it.
#pragma once

#include <polyproc/memory/kept_blocks.hpp>
#include <polyproc/task/outcome.hpp>
#include <polyproc/task/task_options.hpp>

#include <map>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class pool_core;

/// Where it is, and whose it is to complete it, is said by `at`, under the pool's lock; only who has set `over` completes it.
template <backend Backend>
class pool_task {
 public:
  enum class place : std::uint8_t {
    waiting,  ///< In the pool's own list.
    slot,     ///< Given to the workers, or begun by one of them.
    between,  ///< Lost with its worker, and being encoded to be repeated.
    over,     ///< Somebody is completing it, or has.
  };
  enum class reason : std::uint8_t { none, cancelled, pool_ends, limit, deadline };
  /// Whether its outcome will be task_cancelled.
  static constexpr bool is_cancelled(reason why) noexcept { return why == reason::cancelled || why == reason::pool_ends; }

  pool_task() = default;
  pool_task(pool_task const&) = delete;
  pool_task& operator=(pool_task const&) = delete;
  virtual ~pool_task() = default;

  /// Decodes the value from that slot and completes the outcome with it. May throw what decoding throws.
  virtual void succeed(reader& value, std::uint32_t slot) = 0;
  /// Takes over what the value holds, and drops it. May throw what decoding throws.
  virtual void discard(reader& value) = 0;
  [[nodiscard]] virtual outcome_base<Backend>& result() noexcept = 0;

  /// What only few tasks have.
  struct rarely {
    task_options options;
    callback<writer&> encode_again;  // if it may be repeated
    unsigned tries = 0;
    bool in_deadlines = false;
    typename std::multimap<time_point, std::shared_ptr<pool_task>>::iterator deadline{};
    time_point end_by = never;     // once it was asked to stop: when its worker is to be ended
    std::uint64_t block = 0;       // of the arena, that holds its request, if that is large
    std::uint64_t block_size = 0;
    std::uint64_t block_room = 0;
    typename kept_blocks<Backend>::block offered;  // for its result
  };
  [[nodiscard]] rarely& rare() {
    if (!more) more = std::make_unique<rarely>();
    return *more;
  }
  [[nodiscard]] std::uint64_t block() const noexcept { return more ? more->block : 0; }

  /// The request, while it is not in a slot, or if it holds anything. A small one that holds nothing does not keep its writer
  /// while it waits.
  std::unique_ptr<writer> call;
  static constexpr std::size_t little_room = 48;
  std::byte little[little_room];
  std::uint8_t little_size = 0;  // 0: it is not there
  std::unique_ptr<rarely> more;
  int priority = 0;
  place at = place::waiting;
  reason why = reason::none;  // it was asked to stop

  /// For those who wait without the lock: in which slot it is, as which ticket; or none.
  static constexpr std::uint64_t nowhere = ~std::uint64_t{0};
  typename Backend::template atomic<std::uint64_t> where{nowhere};
  /// Somebody wants it to be completed though nobody asks.
  std::atomic<bool> asked_for{false};

  [[nodiscard]] std::string label() const {
    return more && !more->options.name.empty() ? " (" + more->options.name + ")" : std::string();
  }
};

template <class R, backend Backend>
class typed_task final : public outcome<R, Backend>, public pool_task<Backend> {
 public:
  explicit typed_task(std::shared_ptr<pool_core<Backend>> of) noexcept : pool_(std::move(of)) {}
  ~typed_task() override {
    if (this->call && !pool_->is_here()) this->call->sent();  // what it holds is the other process's to give back
  }

  void succeed(reader& value, std::uint32_t slot) override {
    if constexpr (std::is_void_v<R>) {
      value.expect_end();
      pool_->let_go_of(*this, slot);
      outcome<R, Backend>::succeed({});
    } else {
      auto made = decode<R>(value);
      value.expect_end();
      pool_->let_go_of(*this, slot);
      outcome<R, Backend>::succeed(std::move(made));
    }
  }
  void discard(reader& value) override {
    if constexpr (!std::is_void_v<R>) (void)decode<R>(value);
  }
  [[nodiscard]] outcome_base<Backend>& result() noexcept override { return *this; }

  void must_complete() noexcept override {
    if (belongs_here()) pool_->ask_for(*this);
  }
  void glance() noexcept override {
    if (belongs_here()) pool_->glance(*this);
  }
  bool wait(time_point deadline) noexcept override {
    return this->ready() || !belongs_here() || pool_->help(*this, deadline) || this->park(deadline);
  }
  bool cancel() override { return belongs_here() && pool_->cancel(*this); }
  bool belongs_here() noexcept override {
    if (pool_->is_here()) return true;
    this->give_up_copy("polyproc: this future is a copy that a fork has made; its task belongs to the process that submitted it, "
                       "which alone can wait for it or cancel it");
    return false;
  }

 private:
  std::shared_ptr<pool_core<Backend>> pool_;
};

}  // namespace polyproc::inline v0_1::detail
