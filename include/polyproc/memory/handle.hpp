/// How a handle to something in shared memory travels.
///
/// To a block of the family's memory: as its offset, with a hold that the reader takes over. What a sender encodes but does
/// not send lets go of its holds again (writer's discard list). To named memory: as its name, and which of those who ever
/// had that name it is; the reader opens it.
#pragma once

#include <polyproc/memory/named.hpp>
#include <polyproc/wire/codec.hpp>

namespace polyproc::inline v0_1::detail {

/// Base of the codec of a handle type H, which has block_, fingerprint(), layout, handle_name and a constructor from an
/// attachment_ref; and `writable`, if it may refer to named memory.
template <class H, backend Backend>
struct handle_codec {
  static constexpr std::uint64_t fingerprint = [] {
    if constexpr (requires { H::writable; })
      return H::fingerprint() ^ (H::writable ? 0x68616e646c65ULL : 0x76696577ULL);
    else
      return H::fingerprint() ^ 0x68616e646c65ULL;
  }();

  static void write(writer& out, H const& handle) {
    out.raw(handle.block_->offset());
    if (auto const* const named = handle.block_->named()) {
      encode(out, named->name);
      encode(out, named->instance);
      return;
    }
    out.must_stay_in_family(H::handle_name);
    handle.block_->hold_for_message();
    out.on_discard(&attachment<Backend>::release_message, handle.block_->offset());
  }
  static H read(reader& in) {
    auto const offset = in.template raw<std::uint64_t>();
    if (offset == 0) return read_named(in);
    in.must_come_from_family(H::handle_name);
    return H(attachment_ref<Backend>(
        attachment<Backend>::adopt(offset, H::fingerprint(), H::layout, H::handle_name)));
  }

 private:
  static H read_named(reader& in)
    requires requires { H::writable; }
  {
    auto const name = decode<std::string>(in);
    auto const instance = decode<std::array<std::byte, 16>>(in);
    attachment_ref<Backend> opened([&] {
      try {
        return named_block<Backend>::open(name, {H::fingerprint(), H::layout, H::handle_name}, H::writable);
      } catch (std::invalid_argument const&) {
        in.fail("a handle has a name that nothing can have");
      }
    }());
    if (!opened || opened->named()->instance != instance) attachment<Backend>::throw_removed(name);
    return H(std::move(opened));
  }
  static H read_named(reader&) {
    throw handle_error(std::string("polyproc: a handle to a ") + H::handle_name + " refers to nothing");
  }
};

}  // namespace polyproc::inline v0_1::detail
