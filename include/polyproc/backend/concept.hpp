/// What a backend must provide. A backend is a struct of static functions and types; every class of the
/// library that touches the operating system takes one as its last template parameter. This page is the
/// specification: each requirement is documented where it is declared, and one conformance suite
/// (tests/backend/) runs over every backend.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace polyproc::inline v0_1 {

/// The clock of every deadline: monotonic, and the same in all processes of one machine.
using time_point = std::chrono::steady_clock::time_point;

/// A deadline that does not come.
inline constexpr time_point never = time_point::max();

/// Where a piece of code lives, in terms that another run of the same build understands.
struct code_location {
  std::string module;        ///< Empty for the program itself, else the absolute path of the shared library.
  std::uint64_t build = 0;   ///< A hash that changes with every build of that module.
  std::uint64_t offset = 0;  ///< Bytes from the module's load address.
};

/// How a child ended, as the operating system tells it.
enum class end_kind : std::uint8_t {
  code,     ///< It returned or called exit; `value` is the code.
  signal,   ///< A signal ended it; `value` is the signal's number (Windows: 15 terminate, 9 kill, 11 a fault).
  unknown,  ///< Somebody else took the status. Never reported as success.
};

struct end_status {
  end_kind kind = end_kind::unknown;
  int value = 0;
  bool core = false;      ///< A core file was written.
  std::uint32_t raw = 0;  ///< The system's own number (wait status, or the Windows exit code).

  friend bool operator==(end_status const&, end_status const&) = default;
};

/// How a child differs from the process that starts it.
template <class Handle, Handle None>
struct child_start {
  /// Reaches the child's adopt(): the offset of memory of the family whose first 8 bytes are zero and belong to the backend
  /// until the child's status was taken (an atomic<uint64_t>).
  std::uint64_t work = 0;
  /// The system ends the child when this process ends, however it ends, whichever thread started it, even if the child is
  /// stopped.
  bool daemon = false;
  /// A process group (Windows: a job) of its own, so that kill_tree finds also those that it leaves behind.
  bool group = false;
  /// Ctrl-C does nothing to it.
  bool ignore_interrupt = false;
  /// Only for start_fork: signals stay as they are here.
  bool as_it_is = false;
  /// Its standard input, output and error; None: the one that this process has.
  std::array<Handle, 3> streams{None, None, None};
  /// Streams (stream_number) that the child has from the start besides, at most B::most_passed; it finds each by its place
  /// here (take_passed). They stay this process's too, until it closes them.
  std::span<std::uint64_t const> pass{};
  /// Only for start_fork, whose child has copies of everything: those streams and acceptors that are not in `pass` are not
  /// kept open there (what is left of them reads as ended).
  bool only_passed = false;
  /// All of its environment, NAME=value in UTF-8; nullptr: as it is here.
  std::vector<std::string> const* environment = nullptr;
  /// Set by start_fork when there was a copy, even if it had to be ended again because it cannot be watched.
  mutable bool copied = false;
};

/// A word that is waited for together with others.
template <class Word>
struct word_wait {
  Word const* word = nullptr;
  std::uint32_t expected = 0;
};

/// What a process is doing.
enum class process_state : std::uint8_t {
  fresh,    ///< Not started.
  ready,    ///< Could run, and waits for a processor.
  running,  ///< On a processor; also where the system does not tell this from ready.
  blocked,  ///< Waits for something.
  stopped,  ///< Paused from outside.
  ended,    ///< Ended; its status may still have to be taken.
  unknown,  ///< The system does not say.
};

/// A line of the table of processes. What the system cannot tell is not there.
struct process_row {
  long pid = 0;
  long parent = 0;
  process_state state = process_state::unknown;
  std::string name;                                 ///< Of the program; may be cut short. UTF-8.
  std::string user;                                 ///< By name where there is one; empty if unknown.
  std::optional<unsigned> threads;
  std::optional<std::chrono::microseconds> cpu_time;  ///< User and system together.
  std::optional<std::uint64_t> memory;              ///< Bytes resident.
  std::optional<unsigned> descriptors;              ///< Open ones (Windows: handles).
  std::optional<int> priority;                      ///< Niceness: -20 is served first, 19 last.
};

/// How open_stream opens a file.
enum class stream_mode : std::uint8_t { null_in, null_out, read, write, append };

/// Where a stream can be had: by a name on this machine, or by host and port.
struct endpoint {
  enum class kind : std::uint8_t {
    local,  ///< Of this user's programs on this machine only. Unix: a socket file. Windows: a named pipe.
    tcp,    ///< IPv4 or IPv6.
  };
  kind how = kind::local;
  /// local: a name as of named memory, of at most 60 characters, or (not on Windows) a path, known by its '/'.
  /// tcp: an address in figures, or a host's name; empty: this machine only (127.0.0.1).
  std::string name{};
  std::uint16_t port = 0;  ///< tcp only; 0: any that is free, for listen.

  friend bool operator==(endpoint const&, endpoint const&) = default;
};

namespace detail {
/// Of the time until `deadline`: for one of `left` addresses of a host that are tried one after the other.
inline time_point share_of(time_point deadline, time_point now, std::size_t left) noexcept {
  if (deadline == never || deadline <= now || left <= 1) return deadline;
  return now + (deadline - now) / static_cast<time_point::rep>(left);
}
/// From this one on.
template <class Entry>
std::size_t addresses_left(Entry const* one) noexcept {
  std::size_t count = 0;
  for (; one != nullptr; one = one->next) ++count;
  return count;
}
}  // namespace detail

/// One of those who are waited for together (streams_wait).
template <class Stream>
struct stream_look {
  Stream stream{};
  bool ready = false;
};

/// What can be asked of a child from outside.
enum class child_request : std::uint8_t {
  interrupt,  ///< SIGINT. Windows: as terminate.
  terminate,  ///< SIGTERM; the child may handle it. Windows: ends it, with a code that reads as signal 15.
  kill,       ///< Ends it at once.
  stop,       ///< Pauses it at whatever instruction it is.
  resume,     ///< Lets a paused one go on.
};

/// The family's shared memory: one sparse mapping that every process started by polyproc from a common
/// root has, at an address of its own. Whatever is shared is an offset into it, and so can travel as a number.
struct family_segment {
  std::byte* base = nullptr;
  std::size_t size = 0;
};

/// Memory with a name, for programs that are not of one family. `base` is aligned to a page; nullptr if size is 0.
struct named_memory {
  std::byte* base = nullptr;
  std::size_t size = 0;
  std::uintptr_t keep = 0;  ///< The backend's own.
};

/// What locks and queues need: atomics, time, identity and liveness of threads, parking on a shared word.
/// Split from `backend` so that a model of these alone can be put under the shipping algorithms.
template <class B>
concept sync_backend = requires(typename B::template atomic<std::uint32_t>& word,
                                typename B::template atomic<std::uint64_t>& wide, std::uint64_t id,
                                time_point deadline) {
  // Atomics with the interface of std::atomic; lock-free, valid in memory shared between processes,
  // all-zero bytes are the value 0, and trivially destructible.
  requires std::is_trivially_destructible_v<typename B::template atomic<std::uint64_t>>;

  // The present time on the clock of deadlines.
  { B::now() } noexcept -> std::same_as<time_point>;

  // Gives the processor to somebody else who is ready to run.
  { B::yield() } noexcept;

  // How many processors this process may use (affinity and quotas respected), at least 1.
  { B::usable_cpus() } noexcept -> std::same_as<unsigned>;

  // Identity of the calling thread: in [1, 2^62), never the same for two threads that ever lived on this
  // machine since it booted, even when the system reuses their numbers; a forked child gets a new one.
  // Cheap (a thread-local read) after the first call in a thread.
  { B::self() } noexcept -> std::same_as<std::uint64_t>;

  // False only if the thread with that identity has certainly ended (or its process has). A stopped thread
  // is alive. May be called for threads of any process of the family, and for those of any other process
  // that has named memory open which this process has open as well (one that has closed it may be told
  // ended: it can hold nothing there). Costs a few microseconds.
  { B::alive(id) } noexcept -> std::same_as<bool>;

  // Parks the caller until somebody wakes `word`, the deadline has passed, or for no reason at all; returns
  // at once if word != expected. The comparison and the parking are one step with respect to wake_*: a wake
  // after the word was changed is not missed (the portable backends may miss one when this thread is
  // preempted between the two for as long as several wakes take; callers re-check, see sync/waiting.hpp).
  // The word may lie in family memory (then processes wait for each other), also in the view for reading
  // only, or in named memory, or be private to this process. For named memory portable backends sleep two
  // milliseconds at most, and a wake there does nothing.
  // A waiter leaves nothing in shared memory that its death could break.
  { B::wait(std::as_const(word), std::uint32_t{}, deadline) } noexcept;

  // Wakes one / all of those parked on `word`; portable backends may wake more. Never blocks.
  { B::wake_one(word) } noexcept;
  { B::wake_all(word) } noexcept;

  // Two fences for two sides that each write their own word and then read the other's, of which at least one must see what
  // the other wrote. With heavy_fence() on one side light_fence() is enough on the other, in any process of the machine
  // for which has_light_fences() says so: true only after prepare_light_fences(), also in a copy of such a process. Where
  // the system cannot make others' processors take part, both are whole fences. prepare may take some milliseconds where
  // other threads run; a heavy fence takes microseconds.
  { B::prepare_light_fences() } noexcept;
  { B::has_light_fences() } noexcept -> std::same_as<bool>;
  { B::light_fence() } noexcept;
  { B::heavy_fence() } noexcept;
};

/// What the books of shared memory and the queues kept in it need besides.
template <class B>
concept memory_backend = sync_backend<B> && requires(std::byte* memory, std::size_t size) {
  // The family's segment; made by the first call in a root process, inherited by its children. Thread-safe.
  // The first family_reserved bytes (a multiple of 4096) belong to the backend. Throws std::system_error.
  { B::family() } -> std::same_as<family_segment>;
  { B::family_reserved } -> std::convertible_to<std::size_t>;

  // Makes sure that [memory, memory + size) of the family's segment really has memory behind it, so that no
  // later access can fault because memory ended: false when there is none. To be called by every process
  // before it touches a block (where the system needs no such thing it does nothing after the first).
  { B::commit(memory, size) } noexcept -> std::same_as<bool>;
  // Tells the system that the pages wholly inside the range are no longer needed; they may read as zero or
  // as before afterwards.
  { B::discard(memory, size) } noexcept;
};

/// Streams of bytes between processes: connected pairs, FIFOs with a name, connections over local sockets and TCP.
///
/// A `stream` is a plain value like a handle, one end of which somebody has to close; made by default it is none. None of
/// its functions raises SIGPIPE, is disturbed by signals, or minds in which mode (blocking or not) a descriptor is. All
/// kernel objects are made so that no other program started by this process inherits them, from the very moment on.
///
/// Threads: one may read while another one writes (or waits for reading); else one at a time. Deadlines: `never`, or at
/// most 20 ms late; one that has passed (time_point{}) means: what can be done at once. nullopt is a passed deadline.
/// Failures throw std::system_error naming the call; among its codes are broken_pipe (nobody can read any more),
/// connection_reset (the other side is gone and has lost what was under way), connection_refused,
/// no_such_file_or_directory, address_in_use, permission_denied, too_many_files_open.
template <class B>
concept stream_backend = requires(typename B::stream s, typename B::acceptor& acceptor,
                                  typename B::acceptor const* waits_for, endpoint const& where, std::span<std::byte> out,
                                  std::span<std::byte const> in, time_point deadline, typename B::handle h,
                                  std::uint64_t number, std::span<stream_look<typename B::stream>> looks, bool flag,
                                  std::string const& path, unsigned mode, std::size_t index) {
  requires std::is_trivially_copyable_v<typename B::stream> && std::default_initializable<typename B::stream>;
  requires std::equality_comparable<typename B::stream>;  // stream{} is none

  // A connected pair; both ends can be read from and written to.
  { B::stream_pair() } -> std::same_as<std::pair<typename B::stream, typename B::stream>>;

  // At least one byte, as soon as there is one; 0 at the end of file: the other side has closed (or shut down writing, or
  // died) and all it wrote was read. Nothing is taken when the deadline passes. `out` is not empty.
  { B::stream_read(s, out, deadline) } -> std::same_as<std::optional<std::size_t>>;
  // At least one byte, as soon as there is room; how many. `in` is not empty. When the deadline passes nothing is written.
  { B::stream_write(s, in, deadline) } -> std::same_as<std::optional<std::size_t>>;
  // Whether a read would not wait: there are bytes, or the end of file, or an error to be told. False at the deadline.
  { B::stream_wait(s, deadline) } -> std::same_as<bool>;
  // The other side reads end of file after what was written; this side can still read. Nothing on a stream that goes one
  // way, or if the other side is gone. (Windows: a named pipe cannot, and writes a mark that its reader knows.)
  { B::stream_shutdown_write(s) };
  // What was written is still delivered. Nothing for stream{}.
  { B::stream_close(s) } noexcept;
  // A second stream of the same object, with a life of its own.
  { B::stream_copy(s) } -> std::same_as<typename B::stream>;

  // Takes over a descriptor or HANDLE that can be read from or written to (a socket, pipe, FIFO or terminal).
  { B::stream_of(h) } -> std::same_as<typename B::stream>;
  // For event loops and wait_any: ready when a read would not wait. The stream's own; valid until it is closed.
  { B::stream_handle(s) } -> std::same_as<typename B::handle>;
  { B::acceptor_handle(std::as_const(acceptor)) } -> std::same_as<typename B::handle>;
  // Until a read from one of the streams would not wait, or *waits_for (unless it is nullptr) can accept, or the deadline
  // has passed: sets `ready` of each of the first, and says of the last. Thousands of streams.
  { B::streams_wait(waits_for, looks, deadline) } -> std::same_as<bool>;

  // A stream as a number, under which the part of the library that knows no backend carries it to the start of a child.
  { B::stream_number(s) } noexcept -> std::same_as<std::uint64_t>;
  { B::stream_numbered(number) } noexcept -> std::same_as<typename B::stream>;
  // In a child of start_image or start_served: the stream at that place of child_start::pass, once; from then on the
  // caller's. Throws std::out_of_range if there is none. Those that are never taken stay open until the child ends.
  { B::take_passed(index) } -> std::same_as<typename B::stream>;
  { B::most_passed } -> std::convertible_to<std::size_t>;  // at least 64; of more start_* throws argument_list_too_long

  // Waits for connections at that place. A local one is this user's alone (mode 0600); its name is there once connections
  // are possible, and gone when the acceptor is closed. One that a killed process left behind, with nobody accepting, is
  // replaced, by one of several who try at once; while somebody accepts there, address_in_use. TCP: a port that was left a
  // moment ago can be had again at once. Throws std::invalid_argument for what cannot be a name. A default-made acceptor
  // accepts nothing.
  requires std::default_initializable<typename B::acceptor> && std::movable<typename B::acceptor>;
  { B::listen(where, int{}) } -> std::same_as<typename B::acceptor>;
  // The next connection (TCP: without Nagle's delay). At a local place peers of other users are not let in, except root
  // (Windows: the rights of the pipe see to that).
  { B::accept(acceptor, deadline) } -> std::same_as<std::optional<typename B::stream>>;
  // Where it really is: with the port that was found.
  { B::acceptor_endpoint(std::as_const(acceptor)) } -> std::same_as<endpoint>;
  // Removes the name, if this process is the one that listened (and not a forked copy). Connections go on.
  { B::acceptor_close(acceptor) } noexcept;
  // Connects to who listens there; a local one of another user is refused with permission_denied. The deadline is for
  // the connection, not for finding out what a host's name means.
  { B::connect(where, deadline) } -> std::same_as<std::optional<typename B::stream>>;

  // A FIFO with a name, for unrelated programs. Names as of a local endpoint. create: with those permission bits whatever
  // the umask is; false if there is one already (of something else there: file_exists). Windows: nothing lasting is made;
  // the name is there while somebody has it open.
  { B::fifo_create(path, mode) } -> std::same_as<bool>;
  // flag: for reading. A reader is opened at once, and its first read waits until somebody has opened it for writing (Windows:
  // may wait in here); it reads end of file when all writers have closed. A writer waits in here until there is a reader.
  { B::fifo_open(path, flag, deadline) } -> std::same_as<std::optional<typename B::stream>>;
  // False if there is none.
  { B::fifo_remove(path) } -> std::same_as<bool>;
};

/// The whole of what polyproc asks of an operating system.
template <class B>
concept backend = memory_backend<B> && stream_backend<B> && requires(typename B::handle h, typename B::child& child,
                                              typename B::child const& const_child, std::byte* memory,
                                              std::size_t size, std::span<std::byte> out,
                                              std::span<std::byte const> in, time_point deadline, bool flag,
                                              char** argv, char const* text, void const* code,
                                              code_location const& location, void (*hook)(), std::string_view text_view,
                                              unsigned mode, void* context, named_memory const& named,
                                              void (*fill)(std::byte*, void*),
                                              bool (*wanted)(std::byte const*, std::size_t, void*), std::uint64_t id,
                                              child_start<typename B::handle, B::invalid_handle> const& start,
                                              std::span<typename B::handle const> handles,
                                              std::span<word_wait<typename B::template atomic<std::uint32_t>> const> words,
                                              std::string const& text_string,
                                              std::vector<unsigned> const& processors) {
  // A short lower-case name: "linux", "posix", "win32".
  { B::name } -> std::convertible_to<std::string_view>;

  // Whether start_fork exists. Where it is false, forms that need it are refused at compile time.
  { B::has_fork } -> std::convertible_to<bool>;

  // Whether what was registered for the exit runs while a lock is held that threads need to register more, static objects
  // with a destructor among it: a handler must not wait for such a thread.
  { B::exit_holds_lock } -> std::convertible_to<bool>;

  // --- Handles: a descriptor or HANDLE; a plain value, `invalid_handle` means none. All are created so
  // that no other program started by this process inherits them.
  { B::invalid_handle } -> std::convertible_to<typename B::handle>;
  { B::handle_duplicate(h) } -> std::same_as<typename B::handle>;  // throws std::system_error
  { B::handle_close(h) } noexcept;                                 // nothing for invalid_handle

  // --- Shared memory. segment_create: anonymous, zero-filled, sparse where the system can, gone with its
  // last user; throws std::system_error naming the call.
  { B::segment_create(size) } -> std::same_as<typename B::handle>;
  { B::segment_map(h, size, flag) } -> std::same_as<std::byte*>;  // flag: writable
  { B::segment_unmap(memory, size) } noexcept;

  // The same segment a second time, for reading only: a write there is a fault, of this process alone. Made by the
  // first call, stays as long as the process, also in forked children. Thread-safe. Throws std::system_error. What
  // is read there must have been committed, through family(); on some systems reading other pages is a fault.
  { B::family_read_only() } -> std::same_as<family_segment>;

  // --- Named memory, for programs that are not of one family. A name means the same for all programs of this machine
  // that may see each other's (Windows: of one session) and use the same backend. It has 1 to 200 characters of
  // [A-Za-z0-9._-] and does not begin with a dot; otherwise std::invalid_argument. All functions are thread-safe and
  // throw std::system_error, with the name in the message. Nothing of it is inherited by start_image; a forked child
  // has what its parent had open, and closes it for itself.
  // Whether a name lives until it is removed, or until the last one who has it open closes it or ends.
  { B::named_survives } -> std::convertible_to<bool>;
  // Makes memory of exactly that size (not 0), all zero, with real memory behind every page, so that no later access can
  // fault because memory ended; has fill(memory, context) write to it (unless it is nullptr), and only then, in one
  // step, gives it the name. Nobody sees it half made, and whoever dies (or throws) on the way leaves no name and
  // nothing that hinders the next one. nullopt when the name exists, whatever it is. The code of the error is
  // no_space_on_device or not_enough_memory when there is no room (file_too_large when this process may not make a file
  // of that size), device_or_resource_busy where a name that was removed is not free before its last user is gone.
  // mode: who may open it, as the permission bits of a Unix file, whatever the umask is; elsewhere without meaning.
  { B::name_create(text_view, size, mode, fill, context) } -> std::same_as<std::optional<named_memory>>;
  // nullopt when there is no such name (also: not yet). Maps all of it, whoever made it: the caller must look before
  // it believes what is there. What is not memory (a directory, a link) is an error. flag: writable; else it needs only
  // the permission to read, and to write is a fault. May wait for somebody who is creating that name.
  { B::name_open(text_view, flag) } -> std::same_as<std::optional<named_memory>>;
  // Removes the name if wanted(memory, size, context) says so of what the name means at that very moment; memory is
  // for reading only. While wanted runs nobody else can remove this name, so that of two who find the owner of a name
  // dead the second cannot remove what a successor has made meanwhile. False if the name is not there or not wanted.
  // Those who have it open keep it. wanted must not call functions of named memory. Needs the permission to read, with
  // some backends to write as well.
  { B::name_remove(text_view, wanted, context) } -> std::same_as<bool>;
  // Once for each that was created or opened; its memory is gone from this process then.
  { B::name_close(named) } noexcept;

  // --- Pipes of bytes. Blocking. read returns 0 at end of file (all write ends closed or dead). write
  // writes all or throws std::system_error (broken_pipe when nobody can read); never raises SIGPIPE.
  { B::pipe_create() } -> std::same_as<std::pair<typename B::handle, typename B::handle>>;  // {read, write}
  { B::pipe_read(h, out) } -> std::same_as<std::size_t>;
  { B::pipe_write(h, in) };
  // Until there is something to read (or end of file): true; false when the deadline has passed.
  { B::pipe_wait(h, deadline) } -> std::same_as<bool>;

  // --- Children.
  // prepare: called once by polyproc::init in every process, before anything else; remembers how to run this
  // very program image again even if its file is replaced.
  { B::prepare() } noexcept;
  // start_image: runs this program again. `start.work` reaches the child's adopt(). The child has clean signal
  // dispositions and mask, belongs to the family, and inherits no other handle than its streams. Throws
  // std::system_error naming the call; then nothing is left behind.
  { B::start_image(start) } -> std::same_as<typename B::child>;
  // start_served: the same result, but without the price of a fresh image: a helper, which is a fresh image of this program
  // that got as far as adopt(), makes a copy of itself. The child has this process's directory, environment and streams
  // as they are now; limits and file mode mask are those of the moment when the helper was started (by the first call,
  // again when it is gone). nullopt: not possible here, use start_image. Never hangs on a helper that is stopped.
  // has_server: false where it never is.
  { B::start_served(start) } -> std::same_as<std::optional<typename B::child>>;
  { B::has_server } -> std::convertible_to<bool>;
  // adopt: in a process made by start_image or start_served, called once with main's arguments: its work. In any other
  // process: nullopt. Throws std::system_error (or std::runtime_error with a sentence) if the arguments look
  // like a child's but what they name is not there. Does not return in a helper.
  { B::adopt(int{}, argv) } -> std::same_as<std::optional<std::uint64_t>>;
  // The number and the parent's number of this process.
  { B::current_pid() } noexcept -> std::same_as<long>;
  { B::parent_pid() } noexcept -> std::same_as<long>;
  { B::pid(const_child) } noexcept -> std::same_as<long>;
  // True once the child has ended, false at the deadline. From any number of threads at once; leaves the
  // status in place.
  { B::await_end(const_child, deadline) } -> std::same_as<bool>;
  // Takes the status; once per child, after await_end said true, by one thread while no other thread is in a
  // function with this child except await_end. Afterwards its number may be reused, so nothing may be sent to it.
  { B::reap(child) } noexcept -> std::same_as<end_status>;
  // False if it has ended. Only before reap. Throws std::system_error when it may not be done.
  { B::ask(const_child, child_request{}) } -> std::same_as<bool>;
  // Ends the child and everything that descends from it, at whatever instruction they are: what the table of processes
  // shows as its descendants, all that is in its group if it has one of its own, and what these start meanwhile. May be
  // called after its end, before reap, for those it left behind (only with a group they can still be found). Throws
  // std::system_error when it may not be done. Only before reap.
  { B::kill_tree(const_child) };
  // Of a child that was started with a group: ends all that is in it, also after the child's own end. Only before reap.
  { B::kill_group(const_child) } noexcept;
  // A handle of this process that becomes readable (Windows: signaled) at the child's end; valid until release.
  { B::sentinel(const_child) } noexcept -> std::same_as<typename B::handle>;
  // Identity of the child's process, as process_self() there; 0 when only the child itself can tell (identity_from_outside
  // is false then). Only before reap.
  { B::identity_of(const_child) } noexcept -> std::same_as<std::uint64_t>;
  { B::identity_from_outside } -> std::convertible_to<bool>;
  // Somebody else's child, by its number and identity: for pid, await_end, ask, kill_tree, sentinel (may be an
  // invalid_handle) and release, never for reap. nullopt when it has ended. Throws std::system_error.
  { B::open_process(long{}, id) } -> std::same_as<std::optional<typename B::child>>;
  // Whether any child of this process may have ended and not been reaped. Costs one system call; true when in doubt.
  { B::maybe_ended() } noexcept -> std::same_as<bool>;
  // The index of the first handle (a sentinel, or a pipe's read end) that is ready; nullopt at the deadline. Any number of
  // handles. Throws std::system_error.
  { B::wait_any(handles, deadline) } -> std::same_as<std::optional<std::size_t>>;
  // Until one of the words is not what it is expected to be or is woken, or one of the handles (as for wait_any) is ready, or
  // the deadline, or for no reason; any number of both. Throws std::system_error.
  { B::wait_for_some(words, handles, deadline) };
  // Frees the handles of a child without touching the process. A default-made child holds nothing.
  { B::release(child) } noexcept;
  requires std::default_initializable<typename B::child> && std::movable<typename B::child>;

  // Identity of this process as such, among those of threads: alive() answers for it until its last thread has ended.
  { B::process_self() } noexcept -> std::same_as<std::uint64_t>;

  // Ends this process at once: no handlers, no destructors, no flushing.
  { B::exit_now(int{}) } noexcept;

  // --- Code. locate never fails for code of this process; resolve throws std::runtime_error with a sentence when the
  // module cannot be found or is of another build.
  { B::locate(code) } -> std::same_as<code_location>;
  { B::resolve(location) } -> std::same_as<void const*>;

  // Has `hook` called in the child right after any fork, ours or the program's own. At most 16 hooks,
  // registering one twice registers it once. Nothing where there is no fork.
  { B::at_fork_child(hook) } noexcept;

  // --- The surroundings of a process.
  // The process with that number and all its descendants, parents before their children. Empty: there is none, or the
  // system has no such table. Zombies are in it. process_alone: that one line.
  { B::processes(long{}) } -> std::same_as<std::vector<process_row>>;
  { B::process_alone(long{}) } -> std::same_as<std::optional<process_row>>;
  // Of this process. All throw std::system_error; the text is UTF-8. check_directory: that set_directory could succeed.
  // set_affinity: the numbers of the processors it may use; not_supported where the system has no such thing.
  // set_priority: niceness (Windows: the nearest class).
  { B::check_directory(text_string) };
  { B::set_directory(text_string) };
  { B::set_affinity(processors) };
  { B::check_affinity(processors) };
  { B::set_priority(int{}) };
  // For a child's streams. Throws std::system_error with the path in its message.
  { B::open_stream(stream_mode{}, text_string) } -> std::same_as<typename B::handle>;
  // This process's own standard stream 0, 1 or 2, a second time; invalid_handle if it has none. Throws std::system_error.
  { B::stream_duplicate(int{}) } -> std::same_as<typename B::handle>;
  // The whole environment, NAME=value; and whether PATH and Path are one name.
  { B::environment_list() } -> std::same_as<std::vector<std::string>>;
  { B::environment_ignores_case } -> std::convertible_to<bool>;
  // The calling thread is the library's own: signals of the program are not for it, and it has a name for debuggers (cut
  // at 15 characters; may do nothing).
  { B::begin_own_thread(text) } noexcept;
  // Of the calling thread: a name for debuggers (cut at 15 characters; may do nothing); the processors that it may use, as
  // for set_affinity.
  { B::name_thread(text) } noexcept;
  { B::set_thread_affinity(processors) };

  // --- Odds and ends.
  { B::random(out) };                                                          // cryptographic; throws std::system_error
  { B::environment(text) } -> std::same_as<std::optional<std::string>>;        // UTF-8
  { B::write_stderr(std::string_view{}) } noexcept;                            // in one piece
  { B::stderr_is_terminal() } noexcept -> std::same_as<bool>;                  // where a line can be written over
};

/// A backend that also has fork.
template <class B>
concept forking_backend = backend<B> && B::has_fork && requires(child_start<typename B::handle, B::invalid_handle> const& start) {
  // As start_image, but the child goes on here with a copy of this process's memory: nullopt in the child.
  // Only the calling thread exists there.
  { B::start_fork(start) } -> std::same_as<std::optional<typename B::child>>;
};

}  // namespace polyproc::inline v0_1
