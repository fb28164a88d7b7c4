/// The thread on which callbacks run that nobody waits for. There is one while there is something to wait for or to run, and
/// none otherwise.
#pragma once

#include <polyproc/process/child.hpp>

#include <deque>
#include <thread>

namespace polyproc::inline v0_1::detail {

template <backend Backend>
class dispatcher {
 public:
  using control = child_control<Backend>;

  /// Never destroyed: exit handlers use it.
  static dispatcher& get() {
    static bool const once = [] {
      there().store(new dispatcher, std::memory_order_release);
      std::atexit([] { get().finish(); });
      Backend::at_fork_child([] {
        // A thread that does not exist here may have been changing it: it is left alone.
        auto* const copy = there().load(std::memory_order_acquire);
        copy->close_bell();
        auto* const made = new dispatcher;
        made->left_alone_ = copy;
        there().store(made, std::memory_order_release);
      });
      return true;
    }();
    (void)once;
    return *there().load(std::memory_order_acquire);
  }

  /// Runs its callbacks when it has ended. Throws std::system_error when there can be no thread.
  void watch(std::shared_ptr<control> child) {
    std::scoped_lock hold{lock_};
    watched_.push_back(std::move(child));
    try {
      wake();
    } catch (...) {
      watched_.pop_back();
      throw;
    }
  }
  /// Runs it soon.
  void post(callback<> call) {
    std::scoped_lock hold{lock_};
    calls_.push_back(std::move(call));
    try {
      wake();
    } catch (...) {
      calls_.pop_back();
      throw;
    }
  }

  /// Until all that was posted has run and the thread is gone. Children that still run are not waited for.
  void finish() noexcept {
    std::uint32_t seen = 0;
    {
      std::scoped_lock hold{lock_};
      if (!running_ || std::this_thread::get_id() == thread_) return;
      finishing_ = true;
      ring();
      seen = ended_.load();
    }
    while (ended_.load() == seen) Backend::wait(ended_, seen, Backend::now() + std::chrono::milliseconds{20});
    std::scoped_lock hold{lock_};
    finishing_ = false;
  }

 private:
  using handle = typename Backend::handle;

  static std::atomic<dispatcher*>& there() noexcept {
    static constinit std::atomic<dispatcher*> one{nullptr};
    return one;
  }

  /// With lock_ held.
  void wake() {
    if (running_) {
      ring();
      return;
    }
    auto const [read, write] = Backend::pipe_create();
    bell_[0] = read;
    bell_[1] = write;
    rung_ = false;
    try {
      std::thread made([this] { run(); });
      thread_ = made.get_id();
      running_ = true;
      made.detach();  // it is waited for by finish()
    } catch (std::system_error const& refused) {
      close_bell();
      throw std::system_error(refused.code(), "polyproc: the making of a thread for callbacks");
    } catch (...) {
      close_bell();
      throw;
    }
  }
  /// With lock_ held.
  void ring() noexcept {
    if (std::exchange(rung_, true)) return;
    std::byte const one{};
    try {
      Backend::pipe_write(bell_[1], {&one, 1});
    } catch (...) {  // it looks again by itself
    }
  }
  void close_bell() noexcept {
    for (auto& end : bell_) Backend::handle_close(std::exchange(end, Backend::invalid_handle));
  }

  void run() noexcept {
    Backend::begin_own_thread("polyproc-calls");
    std::unique_lock hold{lock_};
    for (;;) {
      while (!calls_.empty()) {
        auto call = std::move(calls_.front());
        calls_.pop_front();
        hold.unlock();
        guarded_run<Backend>(call);
        hold.lock();
      }
      auto const children = watched_;
      if (children.empty() || finishing_) break;
      hold.unlock();
      auto over = look(children);
      hold.lock();
      std::erase_if(watched_, [&](auto const& child) { return std::find(over.begin(), over.end(), child) != over.end(); });
      if (over.empty()) continue;
      hold.unlock();
      for (auto const& child : over) run_callbacks(*child);
      hold.lock();
    }
    // Those that end at the same time as this process.
    auto const rest = finishing_ ? std::exchange(watched_, {}) : std::vector<std::shared_ptr<control>>{};
    hold.unlock();
    for (auto const& child : rest) run_callbacks(*child);
    hold.lock();
    close_bell();
    running_ = false;
    ended_.fetch_add(1);
    Backend::wake_all(ended_);
  }

  /// Waits until one of them has ended or the bell rings; those that have ended.
  std::vector<std::shared_ptr<control>> look(std::vector<std::shared_ptr<control>> const& children) noexcept {
    std::vector<std::shared_ptr<control>> over;
    std::vector<handle> handles{bell_[0]};
    bool some_over = false;
    for (auto const& child : children) {
      auto const end = child->watch();
      some_over |= end == Backend::invalid_handle;
      if (end != Backend::invalid_handle) handles.push_back(end);
    }
    try {
      auto const deadline = some_over ? time_point{} : Backend::now() + std::chrono::milliseconds{500};
      auto const ready = Backend::wait_any(handles, deadline);
      if (ready == 0) {
        std::scoped_lock hold{lock_};
        std::byte one{};
        (void)Backend::pipe_read(bell_[0], {&one, 1});
        rung_ = false;
      }
      for (auto const& child : children)
        if (child->wait(time_point{})) over.push_back(child);
      // It has closed its end of a pipe, and lives on.
      if (over.empty() && ready.value_or(0) > 0) std::this_thread::sleep_for(std::chrono::milliseconds{10});
    } catch (std::exception const& problem) {
      log<Backend>(log_level::details, std::string("the thread that runs callbacks: ") + problem.what());
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    for (auto const& child : children) child->unwatch();
    return over;
  }

  static void run_callbacks(control& child) noexcept {
    for (auto& call : child.take_callbacks()) guarded_run<Backend>([&] { call(child.status()); });
  }

  std::mutex lock_;
  typename Backend::template atomic<std::uint32_t> ended_{0};
  std::thread::id thread_;
  std::vector<std::shared_ptr<control>> watched_;
  std::deque<callback<>> calls_;
  std::array<handle, 2> bell_{Backend::invalid_handle, Backend::invalid_handle};
  bool rung_ = false;
  bool running_ = false;
  bool finishing_ = false;
  dispatcher const* left_alone_ = nullptr;  // keeps in sight of a leak checker what a fork has copied
};

}  // namespace polyproc::inline v0_1::detail
