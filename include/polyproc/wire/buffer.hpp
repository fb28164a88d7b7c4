/// Where encoded values are written to and read from.
#pragma once

#include <polyproc/wire/error.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace polyproc::inline v0_1 {

/// Where many bytes are to be written to, so that they need not be copied there afterwards.
class large_memory {
 public:
  /// Room for `size` bytes, which are what is wanted, and at least `least`; `size` is what there is then. nullptr: not now.
  /// May throw std::bad_alloc.
  virtual std::byte* get(std::size_t least, std::size_t& size) = 0;
  virtual void give_back(std::byte* memory) noexcept = 0;

 protected:
  ~large_memory() = default;
};

/// Bytes that grow at their end. What std::vector does besides (it must take any element and any iterator) costs more than
/// most of what is written here.
class byte_buffer {
 public:
  byte_buffer() = default;
  byte_buffer(byte_buffer const&) = delete;
  byte_buffer& operator=(byte_buffer const&) = delete;
  ~byte_buffer() { drop(); }

  void append(std::byte const* from, std::size_t count) {
    if (count > capacity_ - size_) grow(count);
    if (count != 0) std::memcpy(data_ + size_, from, count);
    size_ += count;
  }
  /// From so many bytes on memory comes from there.
  void use_for_many(large_memory* where, std::size_t many) noexcept {
    where_ = where;
    many_ = many;
  }
  /// The bytes, if they lie there; the caller's from now on. Else nullptr.
  [[nodiscard]] std::byte* take_many() noexcept {
    if (!there_) return nullptr;
    size_ = capacity_ = 0;
    there_ = false;
    return std::exchange(data_, nullptr);
  }
  void clear() noexcept {
    size_ = 0;
    if (there_) drop();
  }
  void drop() noexcept {
    if (there_) where_->give_back(data_);
    else delete[] data_;
    data_ = nullptr;
    size_ = capacity_ = 0;
    there_ = false;
  }
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] bool is_there() const noexcept { return there_; }

 private:
  void grow(std::size_t more) {
    // After something large there is often something small: it is not to have the large thing copied.
    auto const slack = more >= 4096 ? std::size_t{4096} : 0;
    auto room = std::max({std::size_t{64}, 2 * capacity_, size_ + more + slack});
    auto* larger = where_ != nullptr && room >= many_ ? where_->get(size_ + more, room) : nullptr;
    bool const there = larger != nullptr;
    if (!there) larger = new std::byte[room];
    if (size_ != 0) std::memcpy(larger, data_, size_);
    auto const size = size_;
    drop();
    data_ = larger;
    size_ = size;
    capacity_ = room;
    there_ = there;
  }
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
  large_memory* where_ = nullptr;
  std::size_t many_ = 0;
  bool there_ = false;  // data_ is where_'s
};

/// Appends bytes. Numbers are little-endian. What is written may include handles to shared things: each leaves a hold
/// that the reader takes over; a writer whose bytes are not sent (see sent) gives the holds back when it ends.
class writer {
 public:
  using discard = void (*)(std::uint64_t) noexcept;

  writer() = default;
  /// For what a process is given at its start: streams can go along with these bytes, and with no others.
  struct for_start_t {};
  static constexpr for_start_t for_start{};
  explicit writer(for_start_t) noexcept : passes_(true) {}
  writer(writer const&) = delete;
  writer& operator=(writer const&) = delete;
  ~writer() { discard_all(); }

  void bytes(std::span<std::byte const> more) { bytes_.append(more.data(), more.size()); }

  template <class T>
    requires std::is_arithmetic_v<T>
  void raw(T value) {
    std::byte at[sizeof(T)];
    std::memcpy(at, &value, sizeof(T));
    if constexpr (std::endian::native == std::endian::big) {
      for (std::size_t i = 0; i < sizeof(T) / 2; ++i) std::swap(at[i], at[sizeof(T) - 1 - i]);
    }
    bytes({at, sizeof(T)});
  }

  /// A count: seven bits a byte, the lowest first, the eighth bit says that more follow.
  void count(std::uint64_t n) {
    for (; n >= 0x80; n >>= 7) raw(static_cast<std::uint8_t>(n | 0x80));
    raw(static_cast<std::uint8_t>(n));
  }

  [[nodiscard]] std::span<std::byte const> view() const noexcept { return {bytes_.data(), bytes_.size()}; }
  /// Instead of what raw() wrote at that place.
  template <class T>
    requires std::is_unsigned_v<T>
  void overwrite(std::size_t at, T value) {
    if (at > bytes_.size() || sizeof(T) > bytes_.size() - at)
      throw std::out_of_range("polyproc: writer::overwrite of what was not written");
    for (std::size_t i = 0; i < sizeof(T); ++i) bytes_.data()[at + i] = static_cast<std::byte>(value >> (8 * i));
  }

  /// A stream (the backend's stream_number) goes along; it stays the caller's, who closes it when the start has succeeded.
  /// Throws std::logic_error where none can.
  void pass(std::uint64_t stream) {
    if (!passes_)
      throw std::logic_error("polyproc: a stream or connection can be an argument of a process, not of a task or part of a "
                             "message: only a process that is being started can be given one");
    count(passed_.size());
    passed_.push_back(stream);
  }
  [[nodiscard]] std::span<std::uint64_t const> passed() const noexcept { return passed_; }
  [[nodiscard]] bool is_for_start() const noexcept { return passes_; }

  /// As new, but for the memory it has.
  void clear() noexcept {
    discard_all();
    bytes_.clear();
  }

  /// As new, and without its memory if that is much.
  void shrink() noexcept {
    clear();
    if (bytes_.capacity() > 65536) bytes_.drop();
  }
  /// Many bytes (so many, and more) are to be written there from the beginning; nullptr: as others. What was written is gone.
  void use_for_many(large_memory* where, std::size_t many) noexcept {
    shrink();
    bytes_.use_for_many(where, many);
  }
  /// No more of that; what was written stays, if it does not lie there.
  void use_bytes_alone() noexcept { bytes_.use_for_many(nullptr, 0); }
  /// Where they lie then, the caller's from now on; nullptr: they lie here. The holds stay.
  [[nodiscard]] std::byte* take_many() noexcept { return bytes_.take_many(); }
  [[nodiscard]] bool wrote_many() const noexcept { return bytes_.is_there(); }
  /// They lie somewhere else now. The holds stay.
  void forget_bytes() noexcept { bytes_.drop(); }
  /// Whether there is anything that sent() would change.
  [[nodiscard]] bool has_holds() const noexcept { return !holds_.empty() || !undecided_.empty(); }

  /// What is written may be read by a program that is not of this family: what only means something within it (a handle to
  /// a block of its memory) must not be.
  void for_strangers() noexcept { strangers_ = true; }
  [[nodiscard]] bool is_for_strangers() const noexcept { return strangers_; }
  /// For codecs of such handles. Throws handle_error.
  void must_stay_in_family(char const* what) const {
    if (strangers_)
      throw handle_error(std::string("polyproc: a handle to a ") + what +
                         " without a name means nothing to a program of another family; send its contents, or give it a name");
  }

  /// `give_back(what)` is called unless sent() is.
  void on_discard(discard give_back, std::uint64_t what) { holds_.push_back({give_back, what, false}); }
  /// The same for something that has one owner: also a child that is a copy of this process takes it over.
  void on_discard_of_owned(discard give_back, std::uint64_t what) { holds_.push_back({give_back, what, true}); }
  /// `settled(of)` is called once it is known whether the bytes go or not, and before what was not sent is given back: until
  /// then they may wait for long, and nobody will see them if this process dies.
  void on_settled(discard settled, std::uint64_t of) { undecided_.push_back({settled, of}); }
  /// Both, or neither when there is no memory for that.
  void on_discard_and_settled(discard give_back, std::uint64_t what, discard settled, std::uint64_t of) {
    on_settled(settled, of);
    try {
      on_discard(give_back, what);
    } catch (...) {
      undecided_.pop_back();
      throw;
    }
  }
  /// The bytes are on their way: whoever reads them has the holds now.
  void sent() noexcept {
    settle();
    holds_.clear();
  }
  /// The same, for a sender who can find out that nobody has read them: the holds, to be given back then.
  struct hold {
    discard give_back;
    std::uint64_t what;
    bool owned;
  };
  using hold_list = std::vector<hold>;
  [[nodiscard]] hold_list sent_with_holds() noexcept {
    settle();
    return std::exchange(holds_, {});
  }
  /// The same when the reader is a copy of this process, which has by that all but what has one owner.
  [[nodiscard]] hold_list sent_to_copy() noexcept {
    settle();
    auto all = std::exchange(holds_, {});
    std::erase_if(all, [](hold const& h) {
      if (!h.owned) h.give_back(h.what);
      return !h.owned;
    });
    return all;
  }

 private:
  void settle() noexcept {
    for (auto const& u : undecided_) u.settled(u.of);
    undecided_.clear();
  }
  void discard_all() noexcept {
    settle();
    for (auto const& h : holds_) h.give_back(h.what);
    holds_.clear();
  }
  byte_buffer bytes_;
  hold_list holds_;
  struct undecided {
    discard settled;
    std::uint64_t of;
  };
  std::vector<undecided> undecided_;
  bool strangers_ = false;
  std::vector<std::uint64_t> passed_;
  bool passes_ = false;
};

/// Reads what a writer wrote, trusting nothing: everything that does not fit is a decode_error.
class reader {
 public:
  explicit reader(std::span<std::byte const> from) noexcept : all_(from) {}

  [[nodiscard]] std::size_t remaining() const noexcept { return all_.size() - at_; }
  [[nodiscard]] std::size_t offset() const noexcept { return at_; }

  std::span<std::byte const> bytes(std::size_t n) {
    if (n > remaining())
      fail(std::to_string(n) + " more bytes were expected and " + std::to_string(remaining()) + " are there");
    at_ += n;
    return all_.subspan(at_ - n, n);
  }

  template <class T>
    requires std::is_arithmetic_v<T>
  T raw() {
    std::byte at[sizeof(T)];
    std::memcpy(at, bytes(sizeof(T)).data(), sizeof(T));
    if constexpr (std::endian::native == std::endian::big) {
      for (std::size_t i = 0; i < sizeof(T) / 2; ++i) std::swap(at[i], at[sizeof(T) - 1 - i]);
    }
    T value;
    std::memcpy(&value, at, sizeof(T));
    return value;
  }

  std::uint64_t count() {
    std::uint64_t n = 0;
    for (int shift = 0;; shift += 7) {
      auto const part = raw<std::uint8_t>();
      if (shift == 63 && part > 1) fail("a count is too large");
      n |= std::uint64_t{part & 0x7FU} << shift;
      if (part < 0x80) {
        if (part == 0 && shift > 0) fail("a count is written longer than it is");
        return n;
      }
    }
  }

  /// A count of things of at least `least` bytes each: no more than can still follow.
  std::size_t count_of(std::size_t least) {
    auto const n = count();
    if (n > remaining() / least) fail("a count of " + std::to_string(n) + " is more than the rest can hold");
    return static_cast<std::size_t>(n);
  }

  /// Throws if anything is left. From then on the bytes are not needed any more.
  void expect_end() const {
    if (remaining() != 0) fail(std::to_string(remaining()) + " bytes are left over");
    if (read_through_ != nullptr) read_through_(whose_);
  }
  /// `call(of)` at expect_end.
  void when_read_through(void (*call)(void*), void* of) noexcept {
    read_through_ = call;
    whose_ = of;
  }

  /// What pass() wrote: the stream's number in this process. decode_error where no streams came along.
  std::uint64_t passed() {
    auto const place = count();
    if (take_passed_ == nullptr) fail("a stream or connection cannot be part of a message");
    return take_passed_(static_cast<std::size_t>(place));
  }
  /// `take(place)`: where they are.
  void take_passed_by(std::uint64_t (*take)(std::size_t)) noexcept { take_passed_ = take; }

  [[noreturn]] void fail(std::string const& problem) const { throw decode_error(problem, at_); }

  /// Who wrote these bytes may be no program of this family.
  void from_strangers() noexcept { strangers_ = true; }
  /// For codecs of handles that only mean something within it: a stranger could name any place, and holds nobody has taken.
  void must_come_from_family(char const* what) {
    if (without_handles_) fail(std::string("a handle to a ") + what + " cannot be read here");
    handles_ = true;
    if (strangers_) fail(std::string("a handle to a ") + what + " without a name came from a program of another family");
  }

  /// Whether such a handle was read, or was about to be: then the value has taken over what came with the bytes, and they can
  /// not be read once more.
  [[nodiscard]] bool has_handles() const noexcept { return handles_; }
  /// The first such handle is a decode_error, before anything is taken over.
  void without_handles() noexcept { without_handles_ = true; }

  /// One level of nesting, for as long as it lives: bytes from a stranger must not use up the stack. `room`: how large the
  /// values are that this level holds one of while it reads it, where types can contain themselves (by a container, or by a
  /// codec of one's own); what a type contains otherwise has its limit in the type.
  class level {
   public:
    explicit level(reader& in, std::size_t room = 0) : in_(in), room_(room) {
      if (in.depth_ == most_levels) in.fail("values are nested deeper than " + std::to_string(most_levels));
      if (room != 0 && in.rooms_ >= few_rooms && in.room_ + room > most_room)
        in.fail("values nested in each other take more than " + std::to_string(most_room) + " bytes at once");
      ++in.depth_;
      in.room_ += room;
      if (room != 0) ++in.rooms_;
    }
    level(level const&) = delete;
    level& operator=(level const&) = delete;
    ~level() {
      --in_.depth_;
      in_.room_ -= room_;
      if (room_ != 0) --in_.rooms_;
    }

   private:
    static constexpr int most_levels = 200;
    static constexpr int few_rooms = 8;  // so many may be of any size
    static constexpr std::size_t most_room = 131072;
    reader& in_;
    std::size_t room_;
  };

 private:
  std::span<std::byte const> all_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int rooms_ = 0;
  std::size_t room_ = 0;
  bool strangers_ = false;
  bool handles_ = false;
  bool without_handles_ = false;
  void (*read_through_)(void*) = nullptr;
  void* whose_ = nullptr;
  std::uint64_t (*take_passed_)(std::size_t) = nullptr;
};

}  // namespace polyproc::inline v0_1
