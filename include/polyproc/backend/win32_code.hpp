/// Where code lives on Windows: by module and offset, with a hash that changes with every build.
#pragma once

#include <polyproc/backend/win32_support.hpp>

#include <cstring>
#include <stdexcept>

namespace polyproc::inline v0_1::detail::win32 {

struct code_places {
  static code_location locate(void const* code) {
    HINSTANCE__* module = nullptr;
    if (GetModuleHandleExW(module_from_address | module_no_refcount, static_cast<wchar_t const*>(code), &module) == 0)
      throw_last("GetModuleHandleExW for a function");
    code_location where;
    if (module != GetModuleHandleW(nullptr)) where.module = narrow(module_path(module));
    where.build = build_of(module);
    where.offset = reinterpret_cast<std::uintptr_t>(code) - reinterpret_cast<std::uintptr_t>(module);
    return where;
  }

  static void const* resolve(code_location const& where) {
    HINSTANCE__* module = nullptr;
    if (where.module.empty()) {
      module = GetModuleHandleW(nullptr);
    } else {
      auto const path = widen(where.module);
      module = GetModuleHandleW(path.c_str());
      if (module == nullptr) module = LoadLibraryW(path.c_str());
    }
    if (module == nullptr)
      throw std::runtime_error("polyproc: the library " + where.module +
                               ", which holds a function that was sent here, cannot be loaded in this process");
    if (build_of(module) != where.build)
      throw std::runtime_error("polyproc: " + (where.module.empty() ? std::string("this program") : where.module) +
                               " was rebuilt or replaced after its parent started, so a function cannot be found"
                               " in it; start the whole program again");
    return reinterpret_cast<std::byte const*>(module) + where.offset;
  }

 private:
  /// FNV-1a over what the linker writes into a module: its time stamp, sizes, checksum, entry point, the table of
  /// its sections and the number of its debugging information, if there is one. A build with none of stamp, checksum
  /// and number is told from another by the sizes only.
  static std::uint64_t build_of(HINSTANCE__* module) noexcept {
    auto const* const image = reinterpret_cast<std::byte const*>(module);
    auto const read = [&]<class T>(T& into, std::size_t offset) { std::memcpy(&into, image + offset, sizeof into); };
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    auto const mix = [&](std::size_t offset, std::size_t size) {
      for (std::size_t i = 0; i < size; ++i)
        hash = (hash ^ std::to_integer<std::uint64_t>(image[offset + i])) * 0x100000001b3ULL;
    };
    std::uint32_t headers = 0;
    read(headers, 0x3C);
    std::uint16_t sections = 0;
    std::uint16_t optional_size = 0;
    std::uint16_t magic = 0;
    read(sections, headers + 6U);
    read(optional_size, headers + 20U);
    std::size_t const optional = headers + 24U;
    read(magic, optional);
    mix(headers + 8U, 4);     // TimeDateStamp
    mix(optional + 16, 4);    // AddressOfEntryPoint
    mix(optional + 56, 4);    // SizeOfImage
    mix(optional + 64, 4);    // CheckSum
    mix(optional + optional_size, std::size_t{40} * sections);
    std::size_t const directories = optional + (magic == 0x20B ? 112 : 96);
    std::uint32_t debug_at = 0;
    std::uint32_t debug_size = 0;
    if (optional + optional_size >= directories + 7 * 8) {
      read(debug_at, directories + 6 * 8);
      read(debug_size, directories + 6 * 8 + 4);
    }
    for (std::uint32_t i = 0; debug_at != 0 && i + 28 <= debug_size; i += 28) {
      std::uint32_t entry[7] = {};
      read(entry, debug_at + i);
      constexpr std::uint32_t code_view = 2;
      if (entry[3] == code_view && entry[5] != 0 && entry[4] >= 24) mix(entry[5], 24);  // "RSDS", GUID, age
    }
    return hash;
  }
};

}  // namespace polyproc::inline v0_1::detail::win32
