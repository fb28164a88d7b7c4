/// A call that is kept for later: what std::function is for, without the header that it takes, and for what can only be moved.
#pragma once

#include <type_traits>
#include <utility>

namespace polyproc::inline v0_1::detail {

template <class... Args>
class callback {
 public:
  callback() = default;
  callback(callback&& other) noexcept : kept_(std::exchange(other.kept_, nullptr)) {}
  callback& operator=(callback&& other) noexcept {
    std::swap(kept_, other.kept_);
    return *this;
  }
  ~callback() { delete kept_; }
  template <class F>
    requires(!std::is_same_v<std::decay_t<F>, callback>)
  callback(F&& target) : kept_(new holder<std::decay_t<F>>(std::forward<F>(target))) {}  // NOLINT

  explicit operator bool() const noexcept { return kept_ != nullptr; }
  void operator()(Args... args) { kept_->call(std::forward<Args>(args)...); }

 private:
  struct base {
    base() = default;
    base(base const&) = delete;
    base& operator=(base const&) = delete;
    virtual ~base() = default;
    virtual void call(Args... args) = 0;
  };
  template <class F>
  struct holder final : base {
    F target;
    template <class G>
    explicit holder(G&& from) : target(std::forward<G>(from)) {}
    void call(Args... args) override { target(std::forward<Args>(args)...); }
  };
  base* kept_ = nullptr;
};

}  // namespace polyproc::inline v0_1::detail
