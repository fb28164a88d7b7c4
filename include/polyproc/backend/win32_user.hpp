/// Whose this process is, and objects with a name that are this user's alone.
#pragma once

#include <polyproc/backend/lasting.hpp>
#include <polyproc/backend/win32_support.hpp>

#include <array>
#include <cstring>
#include <memory>

namespace polyproc::inline v0_1::detail::win32 {

/// Identifiers of users (SIDs) as the bytes that the system keeps: 8, and 4 more for each of their parts.
inline std::string user_bytes(void const* sid) {
  auto const* const bytes = static_cast<char const*>(sid);
  return {bytes, 8 + 4 * std::size_t{static_cast<unsigned char>(bytes[1])}};
}

inline std::string const& own_user() {
  static lasting<std::string const> const mine([] {
    auto* const open = lookup<open_token_function>(L"advapi32.dll", "OpenProcessToken");
    auto* const query = lookup<query_token_function>(L"advapi32.dll", "GetTokenInformation");
    handle_type raw = nullptr;
    if (open == nullptr || query == nullptr || open(GetCurrentProcess(), token_query, &raw) == 0)
      throw_last("OpenProcessToken");
    scoped_handle const token{raw};
    dword size = 0;
    query(raw, token_user, nullptr, 0, &size);  // fails, and tells the size
    std::vector<std::max_align_t> memory(size / sizeof(std::max_align_t) + 1);
    if (query(raw, token_user, memory.data(), size, &size) == 0) throw_last("GetTokenInformation");
    void* sid = nullptr;  // the answer begins with a pointer to it
    std::memcpy(&sid, memory.data(), sizeof sid);
    return user_bytes(sid);
  }());
  return *mine;
}

/// For objects with a name: this user's, and nobody else may open them.
inline _SECURITY_ATTRIBUTES* only_for_user() {
  struct rights {
    std::vector<std::uint32_t> descriptor;
    security_attributes attributes;
  };
  static rights* const mine = [] {
    auto const& user = own_user();
    auto const words = user.size() / 4;
    // A descriptor in one piece: its head, the owner, a list with one entry that allows him everything.
    constexpr std::uint32_t in_one_piece_with_own_list = 0x8000 | 0x1000 | 0x0004;
    constexpr std::uint32_t everything = 0x001F01FF;  // FILE_ALL_ACCESS
    auto const bytes = [](std::size_t count) { return static_cast<std::uint32_t>(4 * count); };
    std::vector<std::uint32_t> d{1 | in_one_piece_with_own_list << 16, bytes(5), 0, 0, bytes(5 + words)};
    auto const put_user = [&] {
      d.resize(d.size() + words);
      std::memcpy(&d[d.size() - words], user.data(), user.size());
    };
    put_user();
    d.insert(d.end(), {2 | bytes(4 + words) << 16, 1, bytes(2 + words) << 16, everything});
    put_user();
    auto made = std::make_unique<rights>();
    made->descriptor = std::move(d);
    made->attributes.descriptor = made->descriptor.data();
    made->attributes.inherit = 0;
    return made.release();  // never destroyed: the program's static objects may still need it while they go
  }();
  return reinterpret_cast<_SECURITY_ATTRIBUTES*>(&mine->attributes);
}

/// Whether an object belongs to this user, or to the system or its administrators.
inline bool is_of_user(handle_type object) {
  using security_function = int(__stdcall*)(handle_type, dword, void*, dword, dword*);
  constexpr dword owner = 1;
  auto* const query = lookup<security_function>(L"advapi32.dll", "GetKernelObjectSecurity");
  std::array<std::uint32_t, 64> descriptor{};  // a user has at most 68 bytes
  dword size = 0;
  if (query == nullptr || query(object, owner, descriptor.data(), sizeof descriptor, &size) == 0)
    throw_last("GetKernelObjectSecurity");
  if (descriptor[1] < 20 || descriptor[1] > sizeof descriptor - 68) return false;
  auto const whose = user_bytes(reinterpret_cast<char const*>(descriptor.data()) + descriptor[1]);
  // S-1-5-18 and S-1-5-32-544
  constexpr std::string_view system{"\1\1\0\0\0\0\0\5\x12\0\0\0", 12};
  constexpr std::string_view administrators{"\1\2\0\0\0\0\0\5\x20\0\0\0\x20\2\0\0", 16};
  return whose == own_user() || whose == system || whose == administrators;
}

}  // namespace polyproc::inline v0_1::detail::win32
