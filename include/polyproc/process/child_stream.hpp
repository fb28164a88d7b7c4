/// What a standard stream of a child is.
#pragma once

#include <polyproc/backend/native.hpp>

namespace polyproc::inline v0_1 {

namespace detail {
template <backend Backend>
class child_streams;
}

/// A value for process_options: `.output = child_stream::to_file("log.txt"), .error = child_stream::as_output()`.
class child_stream {
 public:
  /// The one that this process has at the start.
  static child_stream inherited() { return child_stream(kind::inherited); }
  /// Reads nothing, or swallows everything.
  static child_stream null() { return child_stream(kind::null); }
  /// Opened by start(), which throws when it cannot be; relative to this process's directory.
  static child_stream from_file(std::string path) { return {kind::read, std::move(path)}; }
  static child_stream to_file(std::string path) { return {kind::write, std::move(path)}; }  ///< What was there is lost.
  static child_stream append_to(std::string path) { return {kind::append, std::move(path)}; }
  /// For .error alone: where .output goes.
  static child_stream as_output() { return child_stream(kind::as_output); }
  /// A descriptor or HANDLE of this process, which stays the caller's and must be open until start() has returned.
  static child_stream native(native_backend::handle handle) {
    child_stream made(kind::native);
    made.handle_ = handle;
    return made;
  }
  /// Whether it is what it would be without a word. For the library.
  [[nodiscard]] bool is_default(child_stream const& otherwise) const noexcept {
    return kind_ == otherwise.kind_ && path_.empty();
  }

 private:
  template <backend Backend>
  friend class detail::child_streams;
  enum class kind : std::uint8_t { inherited, null, read, write, append, as_output, native };
  explicit child_stream(kind what) : kind_(what) {}
  child_stream(kind what, std::string path) : kind_(what), path_(std::move(path)) {}

  kind kind_;
  std::string path_;
  native_backend::handle handle_ = native_backend::invalid_handle;
};

namespace detail {

/// The three handles while a child is being started.
template <backend Backend>
class child_streams {
 public:
  using handle = typename Backend::handle;

  child_streams(child_stream const& input, child_stream const& output, child_stream const& error) {
    try {
      open(0, input);
      open(1, output);
      open(2, error);
    } catch (...) {
      close();
      throw;
    }
  }
  child_streams(child_streams const&) = delete;
  child_streams& operator=(child_streams const&) = delete;
  ~child_streams() { close(); }

  [[nodiscard]] std::array<handle, 3> const& get() const noexcept { return all_; }

 private:
  using kind = child_stream::kind;

  void open(std::size_t i, child_stream const& what) {
    switch (what.kind_) {
      case kind::inherited: return;
      case kind::null: all_[i] = Backend::open_stream(i == 0 ? stream_mode::null_in : stream_mode::null_out, {}); return;
      case kind::read: all_[i] = Backend::open_stream(stream_mode::read, what.path_); return;
      case kind::write: all_[i] = Backend::open_stream(stream_mode::write, what.path_); return;
      case kind::append: all_[i] = Backend::open_stream(stream_mode::append, what.path_); return;
      case kind::native: all_[i] = Backend::handle_duplicate(what.handle_); return;
      case kind::as_output: break;
    }
    if (i != 2)
      throw std::invalid_argument("polyproc: child_stream::as_output() is for .error, which then goes where .output goes");
    // Where .output is inherited the child's error goes to our output.
    all_[i] = all_[1] != Backend::invalid_handle ? Backend::handle_duplicate(all_[1]) : Backend::stream_duplicate(1);
  }
  void close() noexcept {
    for (auto& h : all_) Backend::handle_close(std::exchange(h, Backend::invalid_handle));
  }

  std::array<handle, 3> all_{Backend::invalid_handle, Backend::invalid_handle, Backend::invalid_handle};
};

}  // namespace detail
}  // namespace polyproc::inline v0_1
