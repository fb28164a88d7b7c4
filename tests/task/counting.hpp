/// An input for pools that has no end and knows how much of it was taken.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <limits>
#include <memory>

/// 0, 1, 2, ... and counts how many were taken. Without an end, unless there is one.
class counting {
 public:
  explicit counting(int end = std::numeric_limits<int>::max()) : taken_(std::make_shared<int>(0)), end_(end) {}
  struct iterator {
    using iterator_concept = std::input_iterator_tag;
    using value_type = int;
    using difference_type = std::ptrdiff_t;
    std::shared_ptr<int> taken{};
    int now = 0;
    int end = 0;
    int operator*() const { return now; }
    iterator& operator++() {
      ++now;
      *taken = std::max(*taken, now + 1);
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(iterator const& it, std::default_sentinel_t) { return it.now >= it.end; }
  };
  [[nodiscard]] iterator begin() const {
    *taken_ = std::max(*taken_, 1);
    return {taken_, 0, end_};
  }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }
  /// How many items this range was asked for.
  [[nodiscard]] int taken() const { return *taken_; }

 private:
  std::shared_ptr<int> taken_;
  int end_;
};
