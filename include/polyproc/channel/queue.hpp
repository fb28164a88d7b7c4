/// A queue of values between any number of threads of any number of processes.
#pragma once

#include <polyproc/backend/native.hpp>
#include <polyproc/channel/queue_face.hpp>
#include <polyproc/channel/queue_link.hpp>

namespace polyproc::inline v0_1 {

template <class T, backend Backend>
class basic_queue_sender;
template <class T, backend Backend>
class basic_queue_receiver;

/// A handle to a first-in-first-out queue; copies refer to the same queue, and a copy may be an argument of a process or
/// task or a message in another queue. T is whatever the codec can carry; values are encoded by the caller of put, so that
/// an error surfaces there. Messages may have any size.
///
/// Order: one order for all producers, that in which their puts were committed. A put happens whole or not at all. Any
/// process may be killed at any instruction: the others go on, a killed producer's last message is there whole or not at
/// all, and a killed consumer takes at most one message with it (none, if it had leased it). A process that is stopped
/// inside an operation holds up its own side; the timed forms return in time all the same.
///
/// Time: every `*_for` and `*_until` form returns at most 20 ms late on an idle machine; `try_*` forms do not wait for
/// room or for messages.
///
/// Memory: as much as the messages that are in it need, and 64 KiB of its own, of which only what was used is real.
template <class T, backend Backend = native_backend>
class basic_queue : public detail::puts_into_queue<basic_queue<T, Backend>, T, Backend>,
                    public detail::gets_from_queue<basic_queue<T, Backend>, T, Backend>,
                    public detail::looks_at_queue<basic_queue<T, Backend>>,
                    public detail::queue_times<Backend> {
  static_assert(encodable<T>, "polyproc: a queue carries values that the codec can encode; T is not one of them");
  using link = detail::queue_link<Backend>;

 public:
  using value_type = T;
  using sender_type = basic_queue_sender<T, Backend>;
  using receiver_type = basic_queue_receiver<T, Backend>;

  /// Bounded by memory alone: a put does not wait for room. Throws std::bad_alloc, std::system_error.
  basic_queue() : link_(link::create(detail::queue_core<Backend>::unbounded, fingerprint())) {}
  /// Room for exactly `capacity` messages (1 to 2^32). Throws std::bad_alloc, std::system_error; std::invalid_argument
  /// for a capacity out of range.
  explicit basic_queue(std::size_t capacity) : link_(link::create(link::checked(capacity), fingerprint())) {}

  /// The same queue for those who only put, or only get. That a process can only get is what lets others find out that
  /// nobody can put any more.
  [[nodiscard]] sender_type sender() const { return sender_type(link_.with(true)); }
  [[nodiscard]] receiver_type receiver() const { return receiver_type(link_.with(false)); }

  /// Whether two handles refer to the same queue.
  friend bool operator==(basic_queue const& a, basic_queue const& b) noexcept { return a.link_ == b.link_; }

 private:
  friend detail::puts_into_queue<basic_queue, T, Backend>;
  friend detail::gets_from_queue<basic_queue, T, Backend>;
  friend detail::looks_at_queue<basic_queue>;
  friend detail::queue_handle_codec<basic_queue, Backend>;
  template <class, class>
  friend class detail::queue_reservation;
  template <class, class>
  friend class detail::queue_view;
  template <class, class>
  friend class basic_lease;
  friend sender_type;
  friend receiver_type;

  explicit basic_queue(detail::queue_link_ref<Backend> to) noexcept : link_(std::move(to)) {}

  static constexpr bool can_put = true;
  static constexpr std::uint64_t fingerprint() { return type_fingerprint<T>() ^ 0x7175657565ULL; }
  static constexpr char const* handle_name = "queue";

  [[nodiscard]] auto core() const noexcept { return link_->core(); }
  [[nodiscard]] auto asker() const noexcept { return link_->asker(); }
  [[nodiscard]] std::uint64_t me() const noexcept { return link_->process(); }

  detail::queue_link_ref<Backend> link_;
};

/// A handle to a queue<T> with which one can put, look and close. Travels like the queue.
template <class T, backend Backend = native_backend>
class basic_queue_sender : public detail::puts_into_queue<basic_queue_sender<T, Backend>, T, Backend>,
                           public detail::looks_at_queue<basic_queue_sender<T, Backend>>,
                           public detail::queue_times<Backend> {
 public:
  using value_type = T;

  friend bool operator==(basic_queue_sender const& a, basic_queue_sender const& b) noexcept { return a.link_ == b.link_; }

 private:
  friend basic_queue<T, Backend>;
  friend detail::puts_into_queue<basic_queue_sender, T, Backend>;
  friend detail::looks_at_queue<basic_queue_sender>;
  friend detail::queue_handle_codec<basic_queue_sender, Backend>;
  template <class, class>
  friend class detail::queue_reservation;

  explicit basic_queue_sender(detail::queue_link_ref<Backend> to) noexcept : link_(std::move(to)) {}

  static constexpr bool can_put = true;
  static constexpr std::uint64_t fingerprint() { return basic_queue<T, Backend>::fingerprint(); }
  static constexpr char const* handle_name = "queue";

  [[nodiscard]] std::uint64_t me() const noexcept { return link_->process(); }
  [[nodiscard]] auto core() const noexcept { return link_->core(); }

  detail::queue_link_ref<Backend> link_;
};

/// A handle to a queue<T> with which one can get, look and close. Travels like the queue.
template <class T, backend Backend = native_backend>
class basic_queue_receiver : public detail::gets_from_queue<basic_queue_receiver<T, Backend>, T, Backend>,
                             public detail::looks_at_queue<basic_queue_receiver<T, Backend>>,
                             public detail::queue_times<Backend> {
 public:
  using value_type = T;

  friend bool operator==(basic_queue_receiver const& a, basic_queue_receiver const& b) noexcept {
    return a.link_ == b.link_;
  }

 private:
  friend basic_queue<T, Backend>;
  friend detail::gets_from_queue<basic_queue_receiver, T, Backend>;
  friend detail::looks_at_queue<basic_queue_receiver>;
  friend detail::queue_handle_codec<basic_queue_receiver, Backend>;
  template <class, class>
  friend class detail::queue_view;
  template <class, class>
  friend class basic_lease;

  explicit basic_queue_receiver(detail::queue_link_ref<Backend> to) noexcept : link_(std::move(to)) {}

  static constexpr bool can_put = false;
  static constexpr std::uint64_t fingerprint() { return basic_queue<T, Backend>::fingerprint(); }
  static constexpr char const* handle_name = "queue";

  [[nodiscard]] auto core() const noexcept { return link_->core(); }
  [[nodiscard]] auto asker() const noexcept { return link_->asker(); }
  [[nodiscard]] std::uint64_t me() const noexcept { return link_->process(); }

  detail::queue_link_ref<Backend> link_;
};

/// Handles travel as references to the same queue.
template <class T, backend Backend>
struct codec<basic_queue<T, Backend>> : detail::queue_handle_codec<basic_queue<T, Backend>, Backend> {};
template <class T, backend Backend>
struct codec<basic_queue_sender<T, Backend>> : detail::queue_handle_codec<basic_queue_sender<T, Backend>, Backend> {};
template <class T, backend Backend>
struct codec<basic_queue_receiver<T, Backend>> : detail::queue_handle_codec<basic_queue_receiver<T, Backend>, Backend> {};

template <class T>
using queue = basic_queue<T>;
template <class T>
using queue_sender = basic_queue_sender<T>;
template <class T>
using queue_receiver = basic_queue_receiver<T>;

}  // namespace polyproc::inline v0_1
