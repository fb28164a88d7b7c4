/// FIFOs on Windows: the reader is a place that others connect to. Each writer has a pipe to itself, and the reader takes
/// from whichever has something, never more than one write at a time. All readers in a process share what comes; of several
/// processes that read the same FIFO each has writers of its own.
#pragma once

#include <polyproc/backend/win32_doors.hpp>

#include <map>
#include <mutex>

namespace polyproc::inline v0_1::detail::win32 {

/// What all readers of a FIFO in this process share.
class fifo_side {
 public:
  fifo_side(std::string name, std::wstring const& path, scoped_handle keep)
      : name_(std::move(name)), keep_(std::move(keep)), doors_(maker(path), most_doors) {}
  /// In a child, what it was given: writers and doors.
  fifo_side(std::string name, std::wstring const& path, scoped_handle keep, std::span<std::uint64_t const> parts)
      : name_(std::move(name)), keep_(std::move(keep)), doors_(maker(path), doors_in(parts)) {
    for (auto const one : parts) {
      if ((one & pass_list::door) != 0) continue;
      writers_.push_back(std::make_unique<pipe_stream>(as_handle(one >> 16), one));
      writers_.back()->share_event(doors_.event());
      ++came_;
    }
  }
  fifo_side(fifo_side const&) = delete;
  fifo_side& operator=(fifo_side const&) = delete;
  ~fifo_side() { writers_.clear(); }

  [[nodiscard]] handle_type event() const noexcept { return doors_.event(); }
  /// How many writers there have been.
  [[nodiscard]] std::uint64_t came() {
    std::scoped_lock hold{lock_};
    return came_;
  }

  /// Whether there is something to be read, or the end of all writers that came after the first `since`.
  bool ready(std::uint64_t since) {
    std::scoped_lock hold{lock_};
    return look(since);
  }
  /// nullopt: nothing. 0: the end.
  std::optional<std::size_t> take(std::span<std::byte> out, std::uint64_t since) {
    std::scoped_lock hold{lock_};
    if (!look(since)) return std::nullopt;
    for (std::size_t i = 0; i < writers_.size(); ++i) {
      next_ = (next_ + 1) % writers_.size();
      auto const got = writers_[next_]->read(out, time_point{});
      if (!got || *got == 0) continue;
      look(since);
      return got;
    }
    if (look(since) && writers_.empty()) return 0;
    return std::nullopt;
  }

  /// Whether a child has it now.
  [[nodiscard]] bool given() {
    std::scoped_lock hold{lock_};
    return given_;
  }
  void pass(pass_list& to_child) {
    std::scoped_lock hold{lock_};
    // Who comes while it goes over comes to the child: the pipes are the same.
    for (auto const& one : doors_.all()) static_cast<pipe_door&>(*one).rest();
    auto const words = (name_.size() + 7) / 8;
    to_child.add(keep_.get(), pass_list::fifo, words);
    to_child.numbers.push_back(writers_.size() + doors_.all().size());
    for (std::size_t i = 0; i < words; ++i) {
      std::uint64_t word = 0;
      std::memcpy(&word, name_.data() + 8 * i, (std::min<std::size_t>)(8, name_.size() - 8 * i));
      to_child.numbers.push_back(word);
    }
    for (auto const& one : writers_) one->pass(to_child);
    for (auto const& one : doors_.all()) {
      bool const open = one->look() == door::seen::open;
      to_child.add(static_cast<pipe_door&>(*one).pipe(), open ? 0 : pass_list::door);
    }
  }
  void passed(bool to_child) noexcept {
    std::scoped_lock hold{lock_};
    if (to_child) {
      given_ = true;
      ++came_;  // what is left here reads as ended
      writers_.clear();
      doors_.all().clear();
      return;
    }
    for (auto const& one : doors_.all()) {
      try {
        if (one->idle()) one->begin(event());
      } catch (...) {  // replaced when somebody looks
      }
    }
  }

 private:
  static constexpr std::size_t most_doors = 4;

  static doorway::maker maker(std::wstring const& path) {
    return [path] { return std::make_unique<pipe_door>(path); };
  }
  static std::vector<std::unique_ptr<door>> doors_in(std::span<std::uint64_t const> parts) {
    std::vector<std::unique_ptr<door>> all;
    for (auto const one : parts) {
      if ((one & pass_list::door) != 0) all.push_back(std::make_unique<pipe_door>(scoped_handle(as_handle(one >> 16))));
    }
    return all;
  }

  bool look(std::uint64_t since) {
    bool found = false;
    for (bool again = true; again && !found;) {
      again = false;
      ResetEvent(event());
      while (auto came = doors_.take()) {
        came->share_event(event());
        writers_.push_back(std::move(came));
        ++came_;
      }
      for (std::size_t i = 0; i < writers_.size();) {
        auto& one = static_cast<pipe_stream&>(*writers_[i]);
        again = again || !one.looking();  // then the event is reset
        bool const sees = one.ready();
        if (sees && one.has_ended()) {
          writers_.erase(writers_.begin() + static_cast<std::ptrdiff_t>(i));
          continue;
        }
        found = found || sees;
        ++i;
      }
      found = found || (writers_.empty() && came_ > since);
    }
    if (found) SetEvent(event());
    return found;
  }

  std::mutex lock_;
  std::string const name_;
  scoped_handle keep_;
  doorway doors_;
  std::vector<std::unique_ptr<looking_stream>> writers_;
  std::size_t next_ = 0;
  std::uint64_t came_ = 0;
  bool given_ = false;
};

/// The reading end of a FIFO.
class fifo_stream final : public stream_state {
 public:
  fifo_stream(std::shared_ptr<fifo_side> side, std::uint64_t since) noexcept : side_(std::move(side)), since_(since) {}

  std::optional<std::size_t> read(std::span<std::byte> out, time_point deadline) override {
    for (;;) {
      if (auto const got = side_->take(out, since_)) return got;
      if (!wait(deadline)) return std::nullopt;
      if (std::chrono::steady_clock::now() >= deadline) return side_->take(out, since_);
    }
  }
  std::optional<std::size_t> write(std::span<std::byte const>, time_point) override {
    throw std::system_error(std::make_error_code(std::errc::bad_file_descriptor),
                            "polyproc: a FIFO was opened for reading");
  }
  bool ready() override { return side_->ready(since_); }
  [[nodiscard]] handle_type event() const noexcept override { return side_->event(); }
  handle_type handle() override {
    ready();
    return event();
  }
  std::unique_ptr<stream_state> copy() override { return std::make_unique<fifo_stream>(side_, since_); }
  void pass(pass_list& to_child) override {
    if (side_.use_count() > 1)
      throw std::system_error(std::make_error_code(std::errc::operation_not_supported),
                              "polyproc: on Windows one reading end of a FIFO cannot be passed on while this process has"
                              " others of it");
    ready();  // takes in who is there
    side_->pass(to_child);
  }
  void passed(bool to_child) noexcept override { side_->passed(to_child); }

 private:
  std::shared_ptr<fifo_side> side_;
  std::uint64_t since_;
};

/// What is to exist for others as long as this process wants it: FIFOs that it has created. An event that is set says that
/// the name was removed, though others have it open.
class fifo_names {
 public:
  static bool create(place_name const& place, std::string const& name) {
    scoped_handle event{CreateEventW(only_for_user(), 1, 0, place.event.c_str())};
    auto const why = GetLastError();
    if (event.get() == nullptr && why == error_invalid_handle) throw_place("CreateEventW", name, std::errc::file_exists);
    if (event.get() == nullptr) throw_place("CreateEventW", name, why);
    if (why == error_already_exists) {
      if (WaitForSingleObject(event.get(), 0) != wait_signaled) return false;
      ResetEvent(event.get());
    }
    std::scoped_lock hold{lock()};
    created()[place.event] = std::move(event);
    return true;
  }
  static bool remove(place_name const& place, std::string const& name) {
    {
      auto const event = open(place, name);
      if (event.get() == nullptr) return false;
      SetEvent(event.get());
    }
    std::scoped_lock hold{lock()};
    created().erase(place.event);
    return true;
  }
  /// None: it is not there.
  static scoped_handle open(place_name const& place, std::string const& name) {
    scoped_handle event{OpenEventW(synchronize | event_modify, 0, place.event.c_str())};
    if (event.get() == nullptr && GetLastError() != error_file_not_found) throw_place("OpenEventW", name, GetLastError());
    if (event.get() != nullptr && WaitForSingleObject(event.get(), 0) == wait_signaled) event.reset();
    return event;
  }
  /// For one more reader.
  static std::unique_ptr<fifo_stream> reader(place_name const& place, std::string const& name, scoped_handle keep) {
    std::scoped_lock hold{lock()};
    std::erase_if(sides(), [](auto const& one) { return one.second.expired(); });
    auto side = sides()[place.pipe].lock();
    if (!side || side->given()) {
      side = std::make_shared<fifo_side>(name, place.pipe, std::move(keep));
      sides()[place.pipe] = side;
    }
    auto const since = side->came();
    return std::make_unique<fifo_stream>(std::move(side), since);
  }
  /// In a child, what its parent has passed.
  static std::unique_ptr<fifo_stream> reader(std::span<std::uint64_t const> from_parent) {
    scoped_handle keep{as_handle(from_parent[0] >> 16)};
    auto const words = static_cast<std::size_t>(from_parent[0] >> 8 & 0xFF);
    std::string name(8 * words, '\0');
    std::memcpy(name.data(), from_parent.data() + 2, name.size());
    name.resize(name.find_last_not_of('\0') + 1);
    place_name const place(name, "fifo");
    auto side = std::make_shared<fifo_side>(name, place.pipe, std::move(keep), from_parent.subspan(2 + words));
    std::scoped_lock hold{lock()};
    sides()[place.pipe] = side;
    return std::make_unique<fifo_stream>(std::move(side), 0);
  }

 private:
  static lasting_mutex& lock() {
    static constinit lasting_mutex it;
    return it;
  }
  /// Never destroyed: the system closes them.
  static std::map<std::wstring, scoped_handle>& created() {
    static auto* const all = new std::map<std::wstring, scoped_handle>;
    return *all;
  }
  static std::map<std::wstring, std::weak_ptr<fifo_side>>& sides() {
    static auto* const all = new std::map<std::wstring, std::weak_ptr<fifo_side>>;
    return *all;
  }
};

}  // namespace polyproc::inline v0_1::detail::win32
