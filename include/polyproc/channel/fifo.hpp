/// Bytes between programs that know nothing of each other but a name.
#pragma once

#include <polyproc/channel/stream.hpp>

namespace polyproc::inline v0_1 {

/// A FIFO of the system: what one program writes another reads, once and in order; also programs that do not use polyproc
/// (`echo hello > path`). It goes one way. Names: 1 to 60 characters of [A-Za-z0-9._-], the first no dot, the same for all
/// programs that use polyproc; or a path, known by a '/' in it (not on Windows).
///
/// On Windows a FIFO is a named pipe, and its name is there only while a program has one end open.
template <backend Backend = native_backend>
class basic_fifo {
 public:
  using stream_type = basic_stream<Backend>;

  /// Makes it, for those whom `mode` (the permission bits of a Unix file) lets; false when it is there already. It stays until
  /// it is removed. Throws std::system_error (file_exists: there is something else of that name), std::invalid_argument for
  /// what cannot be a name.
  static bool create(std::string const& name, unsigned mode = 0600) { return Backend::fifo_create(name, mode); }
  /// Those who have it open go on. False when there is none.
  static bool remove(std::string const& name) { return Backend::fifo_remove(name); }

  /// An end to read from. The first read waits for a writer; the end of file is when the last writer has closed or died. Of
  /// several readers each byte goes to one. Throws std::system_error (no_such_file_or_directory: create it first).
  [[nodiscard]] static stream_type open_reader(std::string const& name) { return *open(name, true, never); }
  template <class Rep, class Period>
  [[nodiscard]] static std::optional<stream_type> open_reader_for(std::string const& name,
                                                                  std::chrono::duration<Rep, Period> wait) {
    return open(name, true, detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] static std::optional<stream_type> open_reader_until(std::string const& name,
                                                                    std::chrono::time_point<Clock, Duration> when) {
    return open(name, true, detail::deadline_at<Backend>(when));
  }

  /// An end to write to. Waits for a reader. A write that nobody can read any more throws std::system_error broken_pipe. What
  /// several writers write may be mixed in pieces if it is longer than 512 bytes.
  [[nodiscard]] static stream_type open_writer(std::string const& name) { return *open(name, false, never); }
  /// Nothing when the deadline came first.
  template <class Rep, class Period>
  [[nodiscard]] static std::optional<stream_type> open_writer_for(std::string const& name,
                                                                  std::chrono::duration<Rep, Period> wait) {
    return open(name, false, detail::deadline_after<Backend>(wait));
  }
  template <class Clock, class Duration>
  [[nodiscard]] static std::optional<stream_type> open_writer_until(std::string const& name,
                                                                    std::chrono::time_point<Clock, Duration> when) {
    return open(name, false, detail::deadline_at<Backend>(when));
  }

 private:
  static std::optional<stream_type> open(std::string const& name, bool reading, time_point deadline) {
    auto const end = Backend::fifo_open(name, reading, deadline);
    if (!end) return std::nullopt;
    return stream_type(*end);
  }
};

using fifo = basic_fifo<>;

}  // namespace polyproc::inline v0_1
