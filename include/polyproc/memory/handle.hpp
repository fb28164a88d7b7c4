/// How a handle to something in the family's shared memory travels: as its offset, with a hold that the reader takes
/// over. What a sender encodes but does not send lets go of its holds again (writer's discard list).
#pragma once

#include <polyproc/memory/attachment.hpp>
#include <polyproc/wire/codec.hpp>

namespace polyproc::inline v0_1::detail {

/// Base of the codec of a handle type H, which has block_, fingerprint(), layout, handle_name and a constructor from an
/// attachment_ref.
template <class H, backend Backend>
struct handle_codec {
  static constexpr std::uint64_t fingerprint = H::fingerprint() ^ 0x68616e646c65ULL;

  static void write(writer& out, H const& handle) {
    handle.block_->hold_for_message();
    out.on_discard(&attachment<Backend>::release_message, handle.block_->offset());
    out.raw(handle.block_->offset());
  }
  static H read(reader& in) {
    auto const offset = in.template raw<std::uint64_t>();
    return H(attachment_ref<Backend>(
        attachment<Backend>::adopt(offset, H::fingerprint(), H::layout, H::handle_name)));
  }
};

}  // namespace polyproc::inline v0_1::detail
