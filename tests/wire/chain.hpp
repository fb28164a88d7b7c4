// A codec of one's own that calls itself, with nothing of the library's between: nothing else knows that it does.
#pragma once

#include <polyproc/wire/codec.hpp>

#include <memory>

struct chain {
  std::unique_ptr<chain> next;
};

template <>
struct polyproc::codec<chain> {
  static void write(writer& out, chain const& c) {
    encode(out, c.next != nullptr);
    if (c.next) encode(out, *c.next);
  }
  static chain read(reader& in) {
    chain made;
    if (decode<bool>(in)) made.next = std::make_unique<chain>(decode<chain>(in));
    return made;
  }
};
