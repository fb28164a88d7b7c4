/// What a backend must provide. A backend is a struct of static functions and types; every class of the
/// library that touches the operating system takes one as its last template parameter. This page is the
/// specification: each requirement is documented where it is declared, and one conformance suite
/// (tests/backend/) runs over every backend.
#pragma once

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

/// The whole of what polyproc asks of an operating system.
template <class B>
concept backend = memory_backend<B> && requires(typename B::handle h, typename B::child& child,
                                              typename B::child const& const_child, std::byte* memory,
                                              std::size_t size, std::span<std::byte> out,
                                              std::span<std::byte const> in, time_point deadline, bool flag,
                                              char** argv, char const* text, void const* code,
                                              code_location const& location, void (*hook)(), std::string_view text_view,
                                              unsigned mode, void* context, named_memory const& named,
                                              void (*fill)(std::byte*, void*),
                                              bool (*wanted)(std::byte const*, std::size_t, void*)) {
  // A short lower-case name: "linux", "posix", "win32".
  { B::name } -> std::convertible_to<std::string_view>;

  // Whether start_fork exists. Where it is false, forms that need it are refused at compile time.
  { B::has_fork } -> std::convertible_to<bool>;

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
  // start_image: runs this program again. `payload` reaches the child's adopt() whatever its size, without
  // blocking and not through the command line. With flag (daemon) the system ends the child when this process
  // ends, however it ends, whichever thread started it, even if the child is stopped. The child has clean
  // signal dispositions and mask, shares stdin, stdout and stderr, belongs to the family, and inherits no other
  // handle. Throws std::system_error naming the call; then nothing is left behind.
  { B::start_image(in, flag) } -> std::same_as<typename B::child>;
  // adopt: in a process made by start_image, called once with main's arguments: the payload. In any other
  // process: nullopt. Throws std::system_error (or std::runtime_error with a sentence) if the arguments look
  // like a child's but what they name is not there.
  { B::adopt(int{}, argv) } -> std::same_as<std::optional<std::vector<std::byte>>>;
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
  // In a child: sends bytes (at most report_limit in all, the rest is dropped) to the parent without ever
  // blocking. In the parent, after the end: everything that was reported.
  { B::report(in) } noexcept;
  { B::report_limit } -> std::convertible_to<std::size_t>;
  { B::read_report(child) } noexcept -> std::same_as<std::vector<std::byte>>;
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

  // --- Odds and ends.
  { B::random(out) };                                                          // cryptographic; throws std::system_error
  { B::environment(text) } -> std::same_as<std::optional<std::string>>;        // UTF-8
  { B::write_stderr(std::string_view{}) } noexcept;                            // in one piece
};

/// A backend that also has fork.
template <class B>
concept forking_backend = backend<B> && B::has_fork && requires(bool flag) {
  // As start_image, but the child goes on here with a copy of this process's memory: nullopt in the child.
  // Only the calling thread exists there.
  { B::start_fork(flag) } -> std::same_as<std::optional<typename B::child>>;
};

}  // namespace polyproc::inline v0_1
