"""What the checks of this folder share: where things are, which compilers are here, many jobs at once, one summary."""
import concurrent.futures
import hashlib
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INCLUDE = os.path.join(ROOT, "include")
SINGLE = os.path.join(ROOT, "single_include")

# The same list as in cmake/development.cmake.
WARNINGS = ("-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wnon-virtual-dtor -Wold-style-cast "
            "-Wcast-qual -Woverloaded-virtual -Wundef -Werror").split()
SKIPPED = 77  # the exit status that says so


def headers():
    """Every header as it is written in an #include, sorted."""
    found = []
    for folder, _, names in os.walk(os.path.join(INCLUDE, "polyproc")):
        found += [os.path.relpath(os.path.join(folder, n), INCLUDE).replace(os.sep, "/")
                  for n in names if n.endswith(".hpp")]
    return sorted(found)


def read(path):
    with open(path, encoding="utf-8") as text:
        return text.read()


def replace(path, text):
    """At no time does another see a part of it."""
    with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(out.name, path)


def version():
    text = read(os.path.join(INCLUDE, "polyproc", "version.hpp"))
    return tuple(int(re.search(rf"constexpr int version_{part} = (\d+);", text).group(1))
                 for part in ("major", "minor", "patch"))


def gcc():
    return os.environ.get("POLYPROC_GCC") or shutil.which("g++")


def mingw():
    return shutil.which("x86_64-w64-mingw32-g++-posix") or shutil.which("x86_64-w64-mingw32-g++")


def clangs():
    """The distribution's clang++ and the newest with a number."""
    found = []
    if shutil.which("clang++"):
        found.append(("clang++", "clang++"))
    numbered = set()
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if os.path.isdir(folder):
            numbered |= {int(m.group(1)) for m in (re.fullmatch(r"clang\+\+-(\d+)", n) for n in os.listdir(folder)) if m}
    if numbered:
        newest = f"clang++-{max(numbered)}"
        if not found or os.path.realpath(shutil.which(newest)) != os.path.realpath(shutil.which("clang++")):
            found.append((newest, newest))
    return found


def built_example(name):
    """An example as the build tree has it, compiled with all warnings as errors; None, where it is older than any source."""
    program = os.path.join(os.environ.get("POLYPROC_EXAMPLES", ""), name)
    if not os.path.isabs(program) or not os.path.exists(program):
        return None
    made = os.path.getmtime(program)
    sources = [os.path.join(folder, n) for top in (INCLUDE, os.path.join(ROOT, "examples"))
               for folder, _, names in os.walk(top) for n in names]
    return program if all(os.path.getmtime(s) < made for s in sources) else None


def room():
    """Where a check keeps what others can use as well; None, where nothing may be written."""
    folder = os.path.join(ROOT, "build", "house")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def mark(compiler, *words):
    """Something that is the same for the same compiler, words and headers only."""
    tool = os.path.realpath(shutil.which(compiler))
    whole = hashlib.sha256("\0".join([tool, str(os.path.getmtime(tool)), *words]).encode())
    for top in (INCLUDE, os.path.join(ROOT, "examples", "support")):
        for path in sorted(os.path.join(folder, n) for folder, _, names in os.walk(top) for n in names):
            whole.update(f"\0{path}\0{read(path)}".encode())
    return whole.hexdigest()[:16]


def fits_a_namespace(text):
    """Whether a program can stand in a namespace, with others before and behind it."""
    return not re.search(r"^ *(?:template *<>|namespace (?:polyproc|std)\b)", text, flags=re.M)


def strip_code(text, strings=True):
    """The code without comments and, with `strings`, without what string and character literals say. Lines stay."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9A-Za-z_])\'(?:\\.|[^\'\\\n])+\'', re.S)

    def blank(found):
        piece = found.group(0)
        if piece.startswith("/"):
            return re.sub(r"[^\n]", " ", piece)
        return re.sub(r"[^\n]", " ", piece) if strings else piece

    out, at = [], 0
    for found in pattern.finditer(text):
        out.append(text[at:found.start()])
        line = text[text.rfind("\n", 0, found.start()) + 1:found.start()]
        out.append(found.group(0) if re.match(r"\s*#\s*include", line) else blank(found))
        at = found.end()
    out.append(text[at:])
    return "".join(out)


def run(args, **more):
    more.setdefault("timeout", 300)
    try:
        return subprocess.run(args, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=more.pop("stdin", None) if "input" not in more else None, **more)
    except subprocess.TimeoutExpired as late:
        return subprocess.CompletedProcess(args, 124, f"took longer than {late.timeout} s: {' '.join(map(str, args))}")


def compile_text(compiler, text, *flags):
    """Compiles a translation unit without making anything of it."""
    return run([*compiler.split(), "-std=c++20", "-fsyntax-only", *flags, "-x", "c++", "-"], input=text)


class book:
    """Counts what was checked."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, 0, 0

    def check(self, good, what, detail=""):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED: {what}")
            if detail:
                lines = detail.rstrip().splitlines()
                print("\n".join("    " + line for line in lines[:40]))
                if len(lines) > 40:
                    print(f"    ... and {len(lines) - 40} lines more")
        sys.stdout.flush()
        return good

    def skip(self, what, why):
        self.skipped += 1
        print(f"SKIPPED: {what}: {why}", flush=True)

    def check_all(self, jobs):
        """jobs: pairs of a name and a function that gives (good, detail)."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
            running = [(name, pool.submit(job)) for name, job in jobs]
            for name, result in running:
                good, detail = result.result()
                self.check(good, name, detail)

    def check_compiles(self, jobs):
        """jobs: pairs of a name and a function that gives a finished process, which must be content and silent."""
        def judged(job):
            def judge():
                done = job()
                return done.returncode == 0 and not done.stdout.strip(), done.stdout or f"exit status {done.returncode}"
            return judge
        self.check_all([(name, judged(job)) for name, job in jobs])

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        sys.exit(1 if self.failed else SKIPPED if self.skipped and not self.passed else 0)
