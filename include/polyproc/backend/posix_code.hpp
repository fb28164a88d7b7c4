/// Where a piece of code lies, and the file of this program, on systems of which none does it like another.
#pragma once

#include <polyproc/backend/unix_common.hpp>

#include <dlfcn.h>

#if defined(__APPLE__)
#include <mach-o/dyld.h>
#else
#include <link.h>
#endif
#if defined(__FreeBSD__) || defined(__DragonFly__)
#include <sys/sysctl.h>
#endif

// Weak: a static program has none of them, and then no plug-in either.
#pragma weak dladdr
#pragma weak dlopen
#pragma weak dlclose
#if !defined(__APPLE__)
#pragma weak dlinfo
// Where the linker puts the head of the image that this code is part of; for static programs.
extern "C" __attribute__((weak, visibility("hidden"))) char const __ehdr_start[];
#endif

namespace polyproc::inline v0_1::detail {

struct posix_code {
  static code_location locate(void const* code) {
    Dl_info info{};
    if (&::dladdr == nullptr || ::dladdr(code, &info) == 0 || info.dli_fbase == nullptr)
      return {"", build_of(program_base()), distance(code, program_base())};
    code_location found;
    if (info.dli_fbase != program_base()) found.module = absolute(info.dli_fname);
    found.build = build_of(info.dli_fbase);
    found.offset = distance(code, info.dli_fbase);
    return found;
  }

  static void const* resolve(code_location const& where) {
    void const* base = where.module.empty() ? program_base() : loaded_base(where.module.c_str());
    if (base == nullptr && &::dlopen != nullptr &&
        ::dlopen(where.module.c_str(), RTLD_NOW | RTLD_LOCAL) != nullptr)
      base = loaded_base(where.module.c_str());
    if (base == nullptr)
      throw std::runtime_error("polyproc: the library " + where.module +
                               ", which holds a function that was sent here, cannot be loaded in this process");
    if (build_of(base) != where.build)
      throw std::runtime_error("polyproc: " + (where.module.empty() ? std::string("this program") : where.module) +
                               " was rebuilt or replaced after its parent started, so a function cannot be found"
                               " in it; start the whole program again");
    return static_cast<std::byte const*>(base) + where.offset;
  }

  /// The absolute path of this program.
  static std::string find_image() {
#if defined(__APPLE__)
    std::string path(1024, '\0');
    auto size = static_cast<std::uint32_t>(path.size());
    if (::_NSGetExecutablePath(path.data(), &size) != 0) {
      path.resize(size);
      ::_NSGetExecutablePath(path.data(), &size);
    }
    return absolute(path.c_str());
#elif defined(__FreeBSD__) || defined(__DragonFly__)
    int const question[] = {CTL_KERN, KERN_PROC, KERN_PROC_PATHNAME, -1};
    std::string path(PATH_MAX, '\0');
    std::size_t size = path.size();
    if (::sysctl(question, 4, path.data(), &size, nullptr, 0) != 0) size = 1;
    path.resize(size - 1);
    return path;
#else
    // Only the name by which it was called is known: looked for as a shell would.
    char const* const called = program_invocation_name;
    if (std::strchr(called, '/') != nullptr) return absolute(called);
    char const* const list = std::getenv("PATH");
    for (std::string_view rest{list == nullptr ? "/bin:/usr/bin" : list};;) {
      auto const end = rest.find(':');
      std::string candidate{rest.substr(0, end)};
      candidate += candidate.empty() ? "./" : "/";
      candidate += called;
      struct stat info {};
      if (::access(candidate.c_str(), X_OK) == 0 && ::stat(candidate.c_str(), &info) == 0 && S_ISREG(info.st_mode))
        return absolute(candidate.c_str());
      if (end == std::string_view::npos) return {};
      rest.remove_prefix(end + 1);
    }
#endif
  }

  /// That the file is still there and still this program; the child would find out otherwise, but not in words.
  static void check_image(std::string const& path) {
    if (path.empty()) throw_errno("finding the file of this program by its name", ENOENT);
#if !defined(__APPLE__)  // there a file may begin with the table of contents of several programs
    scoped_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (file.get() < 0) {
      if (errno == EACCES) return;  // may be run but not be read
      throw_errno("open of this program's file");
    }
    alignas(8) std::array<std::byte, head_size> head{};
    auto const got = ::pread(file.get(), head.data(), head.size(), 0);
    if (got != static_cast<ssize_t>(head.size()) || program_base() == nullptr) return;
    if (build_of(head.data()) != build_of(program_base()))
      throw_errno("posix_spawn of this program, whose file was replaced; start the whole program again;",
                          ESTALE);
#endif
  }

  static std::string absolute(char const* given) {
    if (given == nullptr) return {};
    std::string text = given;
    if (char* const full = ::realpath(given, nullptr)) {
      text = full;
      std::free(full);
    }
    return text;
  }

  static std::uint64_t distance(void const* code, void const* base) noexcept {
    return reinterpret_cast<std::uintptr_t>(code) - reinterpret_cast<std::uintptr_t>(base);
  }

  /// FNV-1a over the head of the module as it is in memory. It holds the sizes and places of its parts and, right
  /// behind them, the build-id (ELF) or among them the UUID (Mach-O) that the linker makes of the contents. Nothing
  /// writes there, so the file begins with the same bytes.
  static constexpr std::size_t head_size = 4096;
  static std::uint64_t build_of(void const* base) noexcept {
    if (base == nullptr) return 0;
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    auto const* const bytes = static_cast<unsigned char const*>(base);
    for (std::size_t i = 0; i < head_size; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
    return hash;
  }

  /// Where the program itself is loaded.
  static void const* program_base() noexcept {
    static void const* const base = loaded_base(nullptr);
    return base;
  }

  /// Where a module that is loaded is loaded; no name: the program itself.
  static void const* loaded_base(char const* path) noexcept {
#if defined(__APPLE__)
    for (std::uint32_t i = 0, count = ::_dyld_image_count(); i < count; ++i) {
      auto const* const header = ::_dyld_get_image_header(i);
      char const* const called = ::_dyld_get_image_name(i);
      if (header == nullptr || called == nullptr) continue;
      if (path == nullptr ? header->filetype == MH_EXECUTE : absolute(called) == path) return header;
    }
    return nullptr;
#else
    void const* base = nullptr;
    if (&::dlopen != nullptr && &::dlinfo != nullptr && &::dladdr != nullptr && &::dlclose != nullptr) {
      if (void* const module = ::dlopen(path, RTLD_NOW | (path == nullptr ? 0 : RTLD_NOLOAD))) {
        // The link map's own idea of a base address differs between systems, but not what dladdr makes of an
        // address inside.
        link_map* map = nullptr;
        Dl_info info{};
        if (::dlinfo(module, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr && ::dladdr(map->l_ld, &info) != 0)
          base = info.dli_fbase;
        ::dlclose(module);
      }
    }
    return base == nullptr && path == nullptr ? static_cast<void const*>(__ehdr_start) : base;
#endif
  }
};

}  // namespace polyproc::inline v0_1::detail
