#!/usr/bin/env python3
"""A project that uses polyproc, built and run in each way there is to bring a library into a project.

CMake's add_subdirectory, FetchContent and find_package, the last from an installed tree that was moved after it had been
installed; pkg-config; Meson's subproject and installed package; Conan and vcpkg where they are found on PATH or named by
POLYPROC_CONAN and POLYPROC_VCPKG. What is not here is skipped and said so.

usage: run.py     exit status: 0 all is well, 1 something is not
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "house"))
import house  # noqa: E402

CONSUMER = os.path.join(HERE, "consumer")
VERSION = ".".join(str(n) for n in house.version())
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("DESTDIR", "CPATH", "PKG_CONFIG_PATH", "CMAKE_PREFIX_PATH")}


class wrong(Exception):
    pass


def do(*command, cwd=None, **environment):
    done = subprocess.run(command, cwd=cwd, env={**ENVIRONMENT, **environment}, text=True, errors="replace", timeout=400,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise wrong(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def runs(program):
    said = do(program)
    if said.strip() != f"polyproc {VERSION}: 42":
        raise wrong(f"{program} says {said}")


def cmake_consumer(where, name, *options):
    build = os.path.join(where, name)
    do("cmake", "-S", CONSUMER, "-B", build, *options)
    do("cmake", "--build", build)
    runs(os.path.join(build, "consumer"))
    if os.path.exists(os.path.join(build, "_deps", "polyproc-src")):
        raise wrong("something was downloaded")


def add_subdirectory(where):
    cmake_consumer(where, "sub", "-DWAY=add_subdirectory", "-DPOLYPROC_SOURCE=" + house.ROOT)


def add_subdirectory_posix(where):
    cmake_consumer(where, "sub_posix", "-DWAY=add_subdirectory", "-DPOLYPROC_SOURCE=" + house.ROOT,
                   "-DPOLYPROC_BACKEND=posix", "-DEXPECT_POSIX=ON")


def fetch_content(where):
    cmake_consumer(where, "fetch", "-DWAY=fetch_content", "-DPOLYPROC_SOURCE=" + house.ROOT,
                   "-DFETCHCONTENT_FULLY_DISCONNECTED=ON")


def installed(where):
    """Installed with CMake, and moved afterwards."""
    first, moved = os.path.join(where, "first"), os.path.join(where, "moved to", "elsewhere")
    if not os.path.exists(moved):
        do("cmake", "-S", house.ROOT, "-B", os.path.join(where, "install"), "-DPOLYPROC_BUILD_TESTS=OFF",
           "-DPOLYPROC_BUILD_EXAMPLES=OFF", "-DPOLYPROC_BUILD_BENCH=OFF", "-DCMAKE_INSTALL_PREFIX=" + first)
        do("cmake", "--install", os.path.join(where, "install"))
        for folder, _, names in os.walk(first):
            for name in names:
                text = house.read(os.path.join(folder, name))
                if first in text or house.ROOT in text:
                    raise wrong(f"{name} names the place where it was installed or built")
        os.makedirs(os.path.dirname(moved))
        os.rename(first, moved)
    return moved


def find_package(where):
    prefix = installed(where)
    major, minor, _ = house.version()
    cmake_consumer(where, "find", "-DWAY=find_package", "-DCMAKE_PREFIX_PATH=" + prefix,
                   f"-DPOLYPROC_WANTED={major}.{minor}")
    for unfit in (f"{major}.{minor + 1}", f"{major + 1}.0"):
        try:
            do("cmake", "-S", CONSUMER, "-B", os.path.join(where, "unfit" + unfit), "-DWAY=find_package",
               "-DCMAKE_PREFIX_PATH=" + prefix, "-DPOLYPROC_WANTED=" + unfit)
        except wrong:
            continue
        raise wrong(f"version {unfit} was found in {VERSION}")


def pkg_config(where, prefix=None, name="pkgconfig"):
    prefix = prefix or installed(where)
    path = os.path.join(prefix, "share", "pkgconfig")
    if not os.path.exists(os.path.join(path, "polyproc.pc")):
        raise wrong("there is no polyproc.pc")
    said = do("pkg-config", "--modversion", "polyproc", PKG_CONFIG_PATH=path).strip()
    if said != VERSION:
        raise wrong(f"pkg-config says version {said}")
    # A directory with a blank in its name comes with a backslash before it.
    flags = [f.replace("\0", " ") for f in do("pkg-config", "--cflags", "--libs", "polyproc", PKG_CONFIG_PATH=path)
             .replace("\\ ", "\0").split()]
    program = os.path.join(where, name)
    do(house.gcc(), "-std=c++20", os.path.join(CONSUMER, "main.cpp"), "-o", program, *flags)
    runs(program)


def meson_subproject(where):
    room = os.path.join(where, "meson")
    shutil.copytree(CONSUMER, room)
    os.mkdir(os.path.join(room, "subprojects"))
    copy_source(os.path.join(room, "subprojects", "polyproc"))
    do("meson", "setup", "build", cwd=room)
    do("meson", "compile", "-C", "build", cwd=room)
    runs(os.path.join(room, "build", "consumer"))


def meson_install(where):
    """As the main project: it knows all the tests, and what it installs is found by pkg-config."""
    room, prefix = os.path.join(where, "meson_main"), os.path.join(where, "meson_prefix")
    copy_source(room)
    do("meson", "setup", "build", "--prefix=" + prefix, cwd=room)
    listed = do("meson", "test", "-C", "build", "--list", cwd=room)
    tests = glob.glob(os.path.join(house.ROOT, "tests", "*", "*_test.cpp"))
    for test in tests:
        floor, name = os.path.basename(os.path.dirname(test)), os.path.basename(test)[:-len("_test.cpp")]
        if not re.match(r"(posix|win32)_", name) and f"{floor}.{name}" not in listed:
            raise wrong(f"Meson does not know the test {floor}.{name}:\n{listed}")
    do("meson", "compile", "-C", "build", "sync_mutex_test", cwd=room)
    do("meson", "test", "-C", "build", "--no-rebuild", "sync.mutex", cwd=room)
    do("meson", "compile", "-C", "build", "wordcount", cwd=room)
    do("meson", "install", "-C", "build", "--no-rebuild", cwd=room)  # headers only: nothing of it is built
    pkg_config(where, prefix, "pkgconfig_meson")


def copy_source(to):
    """What is under version control or could be, without build/."""
    shutil.copytree(house.ROOT, to, ignore=shutil.ignore_patterns("build*", ".git", ".cache", "__pycache__"))


def conan(where, program):
    home = os.path.join(where, "conan_home")
    do(program, "profile", "detect", CONAN_HOME=home)
    copy_source(os.path.join(where, "conan_source"))
    do(program, "create", ".", "-s", "compiler.cppstd=20", "--build=missing", cwd=os.path.join(where, "conan_source"),
       CONAN_HOME=home)


def vcpkg(where, program):
    said = do(program, "install", "polyproc", "--overlay-ports=" + os.path.join(house.ROOT, "packaging", "vcpkg"),
              "--x-install-root=" + os.path.join(where, "vcpkg"), POLYPROC_SOURCE_DIR=house.ROOT,
              VCPKG_KEEP_ENV_VARS="POLYPROC_SOURCE_DIR")
    triplets = [d for d in glob.glob(os.path.join(where, "vcpkg", "*-*")) if os.path.isdir(os.path.join(d, "include"))]
    if not triplets:
        raise wrong(said)
    cmake_consumer(where, "vcpkg_consumer", "-DWAY=find_package", "-DCMAKE_PREFIX_PATH=" + triplets[0])


def recipes_name_no_version(_):
    """The version stands in one place: nothing else repeats it."""
    for path in ("conanfile.py", "CMakeLists.txt", "meson.build", "packaging/vcpkg/polyproc/portfile.cmake"):
        if VERSION in house.read(os.path.join(house.ROOT, path)):
            raise wrong(f"{path} repeats the version {VERSION}")
    manifest = house.read(os.path.join(house.ROOT, "packaging", "vcpkg", "polyproc", "vcpkg.json"))
    said = re.search(r'"version": "([^"]*)"', manifest)
    # vcpkg asks for one in its manifest.
    if not said or said.group(1) != VERSION:
        raise wrong(f"packaging/vcpkg/polyproc/vcpkg.json must say version {VERSION}")


def main():
    book = house.book()

    def attempt(name, job, *more):
        try:
            job(where, *more)
            book.check(True, name)
        except (wrong, OSError, subprocess.SubprocessError) as problem:
            book.check(False, name, str(problem))

    with tempfile.TemporaryDirectory() as where:
        attempt("the version stands in one place", recipes_name_no_version)
        attempt("CMake, add_subdirectory", add_subdirectory)
        attempt("CMake, add_subdirectory with the backend posix", add_subdirectory_posix)
        attempt("CMake, FetchContent", fetch_content)
        attempt("CMake, find_package in a tree that was moved", find_package)
        if shutil.which("pkg-config"):
            attempt("pkg-config", pkg_config)
        else:
            book.skip("pkg-config", "not found on PATH")
        if shutil.which("meson"):
            attempt("Meson, subproject", meson_subproject)
            if shutil.which("pkg-config"):
                attempt("Meson, main project and install", meson_install)
        else:
            book.skip("Meson", "not found on PATH")
        for name, variable, job in (("Conan", "POLYPROC_CONAN", conan), ("vcpkg", "POLYPROC_VCPKG", vcpkg)):
            program = os.environ.get(variable) or shutil.which(name.lower())
            if program:
                attempt(name, job, program)
            else:
                book.skip(name, f"not found on PATH (or name it in {variable})")
    book.finish()


if __name__ == "__main__":
    main()
