#!/usr/bin/env python3
"""The portable Unix backend asks nothing of the system that macOS and FreeBSD do not have as well.

Builds a program that uses the whole library with POLYPROC_BACKEND_POSIX, without a warning, and looks at it twice:
1. The symbols its object file leaves to be found elsewhere must be C++'s own or on the list below. This is the
   strict half: a system call is a function here, and calls made through others' names cannot hide.
2. Run under strace, it makes no Linux-only system call and opens nothing under /proc or /sys but what the C and C++
   libraries open in any program (seen by running one that does not use the library). Left out, and said so, where
   there is no strace or it may not trace.

usage: posix_symbols.py [compiler [flags...]]     exit status: 0 it is so, 1 it is not
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Functions and variables that Linux, macOS and FreeBSD all have.
ALLOWED = set("""
abort access atexit bcmp calloc chdir clock_gettime close closedir dup2 environ execv execve execvp exit _exit fchdir fchmod fclose
fcntl fflush fopen fork fprintf fputs free fstat ftruncate fwrite getcwd getentropy getenv geteuid getpgrp getpid getppid getpriority getrlimit
isatty kill link lstat malloc memchr memcmp memcpy memmove memset mkfifo mmap munmap nanosleep open opendir pipe poll pread pwrite
puts raise read readdir realpath sched_yield setpgid shm_open shm_unlink sigaction sigaddset sigdelset sigemptyset sigfillset sigismember
sigpending sigwait snprintf socketpair sendmsg recvmsg stat strchr strcmp strerror strlen strrchr strtol strtoll
strtoul strtoull sysconf unlink usleep getpwuid_r getuid getgid getegid getpgid getsid setpriority
signal sigprocmask strnlen waitid waitpid write stderr stdout
posix_spawn posix_spawnp posix_spawn_file_actions_addclose posix_spawn_file_actions_adddup2
posix_spawn_file_actions_destroy posix_spawn_file_actions_init posix_spawnattr_destroy posix_spawnattr_getflags
posix_spawnattr_init posix_spawnattr_setflags posix_spawnattr_setpgroup posix_spawnattr_setsigdefault
posix_spawnattr_setsigmask
pthread_atfork pthread_create pthread_detach pthread_join pthread_key_create pthread_mutex_lock
pthread_mutex_trylock pthread_mutex_unlock pthread_once pthread_self pthread_setspecific pthread_getspecific
pthread_sigmask pthread_cond_broadcast pthread_cond_destroy pthread_cond_init pthread_cond_signal
pthread_cond_timedwait pthread_cond_wait
accept bind chmod connect freeaddrinfo gai_strerror getaddrinfo getsockname getsockopt listen recv rename send setsockopt
shutdown socket
dladdr dlclose dlopen
""".split())

# What the code has behind an #if, because every system has another.
PER_SYSTEM = {
    "dlinfo": "ELF systems; macOS walks its list of images instead",
    "posix_fallocate": "Linux and FreeBSD; macOS needs none",
    "program_invocation_name": "glibc and musl; FreeBSD and macOS tell the path of the program themselves",
    "__ehdr_start": "set by ELF linkers, for static programs",
}

# What compilers, the C library's headers and the standard library refer to by themselves.
IMPLEMENTATION = re.compile(
    r"""^(_Z|__cxa_|__dynamic_cast$|__gxx_personality|_Unwind_|__gcc_|__stack_chk_|__errno_location$|__tls_get_addr$|__dso_handle$
        |_GLOBAL_OFFSET_TABLE_$|__libc_single_threaded$|__assert_fail$|__gthrw_|__pthread_key_create$
        |__isoc\d+_|__\w+_chk$|__emutls_get_address$|pthread_cond_clockwait$|__sigsetjmp$
        |__asan_|__tsan_|__ubsan_)""", re.X)
# pthread_cond_clockwait: libstdc++'s own condition variables on glibc (std::condition_variable::wait_until).

LINUX_ONLY = set("""pidfd_open pidfd_send_signal pidfd_getfd memfd_create eventfd eventfd2 accept4 pipe2 prctl epoll_create
epoll_create1 epoll_ctl epoll_wait epoll_pwait signalfd signalfd4 timerfd_create timerfd_settime inotify_init
inotify_init1 unshare setns execveat close_range futex_waitv sched_getaffinity process_vm_readv process_vm_writev
io_uring_setup splice tee vmsplice membarrier getrandom""".split())
# Constants that only Linux gives to calls that all have.
LINUX_ONLY_WORDS = re.compile(r"\b(F_OFD_\w+|F_[SG]ETSIG|F_(?:ADD|GET)_SEALS|F_[SG]ETPIPE_SZ|F_NOTIFY|O_PATH|O_TMPFILE|O_DIRECT"
                              r"|MADV_(?:REMOVE|DONTFORK|DONTDUMP|WIPEONFORK|POPULATE_\w+)|MAP_POPULATE|MREMAP_\w+"
                              r"|SOCK_CLOEXEC|SOCK_NONBLOCK|MSG_CMSG_CLOEXEC|P_PIDFD|__WALL|__WCLONE|CLOCK_BOOTTIME)\b")
# By whom they may be called all the same: getentropy and malloc's random state in glibc.
LINUX_ONLY_INSIDE_LIBC = {"getrandom"}
# What glibc opens by itself, but not in every program.
OPENED_BY_LIBC = {"/sys/devices/system/cpu/online", "/sys/devices/system/cpu/possible", "/proc/sys/vm/overcommit_memory",
                  "/proc/stat", "/proc/cpuinfo"}


def run(args, **more):
    return subprocess.run(args, check=True, text=True, stdout=subprocess.PIPE, **more).stdout


def build(compiler, where, name, *flags):
    source = os.path.join(ROOT, "tests", "house", "posix_everything.cpp")
    if os.path.exists(os.path.join(where, name + ".o")):
        source = os.path.join(where, name + ".o")
    made = os.path.join(where, name)
    # With all warnings and what an optimizer finds: headers.py leaves that to us for this backend.
    run([*compiler, "-std=c++20", "-O2", *house.WARNINGS, "-pthread", "-DPOLYPROC_BACKEND_POSIX", "-I" + house.INCLUDE,
         *flags, source, "-o", made])
    return made


def check_symbols(compiler, where):
    made = build(compiler, where, "everything.o", "-c")
    wrong = []
    for line in run(["nm", "-u", "-P", made]).splitlines():
        symbol = line.split()[0].split("@")[0]
        if symbol not in ALLOWED and symbol not in PER_SYSTEM and not IMPLEMENTATION.match(symbol):
            wrong.append(symbol)
    for symbol in wrong:
        print(f"symbol {symbol}: not on the list of what Linux, macOS and FreeBSD all have")
    return not wrong


def trace(program, where, name):
    log = os.path.join(where, name)
    subprocess.run(["strace", "-f", "-qq", "-o", log, program], check=True, timeout=120)
    calls, opened = set(), set()
    with open(log, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            found = re.match(r"\d+\s+(?:<\.\.\. )?(\w+)", line)
            if found and "<unfinished" not in line:  # such a call comes a second time, with its result
                # glibc's pipe(p) is pipe2(p, 0).
                calls.add("pipe" if re.search(r"\bpipe2\b.*, 0\)", line) else found.group(1))
            calls.update(LINUX_ONLY_WORDS.findall(line))
            path = re.search(r'\b(?:open|openat|openat2|readlink|readlinkat)\((?:[\w-]+, )?"((?:/proc|/sys)[^"]*)"', line)
            if path:
                opened.add(path.group(1))
    return calls, opened


def check_calls(compiler, where):
    if not shutil.which("strace") or subprocess.run(["strace", "-f", "-qq", "-o", os.devnull, "true"]).returncode != 0:
        print("skipped: the system calls (strace is not here or may not trace)")
        return True
    base_calls, base_opened = trace(build(compiler, where, "baseline", "-DPOLYPROC_HOUSE_BASELINE"), where, "baseline.log")
    calls, opened = trace(build(compiler, where, "everything"), where, "everything.log")
    wrong_calls = {c for c in calls if c in LINUX_ONLY or LINUX_ONLY_WORDS.fullmatch(c)}
    wrong_calls -= base_calls | LINUX_ONLY_INSIDE_LIBC
    wrong_paths = opened - base_opened - OPENED_BY_LIBC
    for call in sorted(wrong_calls):
        print(f"system call or constant {call}: only Linux has it")
    for path in sorted(wrong_paths):
        print(f"opened {path}: only Linux has it")
    return not wrong_calls and not wrong_paths


def main():
    compiler = sys.argv[1:] or [os.environ.get("CXX", "c++")]
    if not sys.platform.startswith("linux"):
        print("skipped: made for Linux, where there is more to be called by mistake")
        return 0
    with tempfile.TemporaryDirectory() as where:
        good = check_symbols(compiler, where)
        good = check_calls(compiler, where) and good
    print("ok" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
