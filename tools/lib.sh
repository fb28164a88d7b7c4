# shellcheck shell=bash
# What tools/test, tools/demo and tools/bench share. To be sourced.

set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
exec </dev/null # nothing here asks anything
jobs=$(nproc 2>/dev/null || echo 2)

have() { command -v "$1" >/dev/null 2>&1; }
say() { printf '%s\n' "$*"; }

# want PACKAGE PROBE...: the Debian package is needed unless one of the commands or files is here.
missing=()
want() {
  local package=$1 probe
  shift
  for probe; do
    case $probe in
      /*) [[ -e $probe ]] && return 0 ;;
      *) have "$probe" && return 0 ;;
    esac
  done
  missing+=("$package")
}

# Where polyproc's tools find wine's parts; Debian keeps them out of PATH.
find_wine() {
  local place
  for place in /usr/lib/wine /usr/lib64/wine; do
    [[ -x $place/wine64 ]] && wine=$place/wine64 && wineserver=$place/wineserver && break
  done
  [[ -n ${wine:-} ]] || wine=$(command -v wine64 || command -v wine || true)
  [[ -n ${wineserver:-} && -x ${wineserver:-} ]] || wineserver=$(command -v wineserver || true)
  [[ -n $wine && -n $wineserver ]]
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -y "$@"; }

# Installs what want() found missing, or says what to install and ends with 2.
install_missing() {
  ((${#missing[@]})) || return 0
  local log
  if have apt-get && [[ $(id -u) == 0 ]]; then
    say "installing: ${missing[*]}"
    log=$(mktemp)
    # The package lists of a bare machine are empty or old.
    if { apt update && apt install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
      rm -f "$log"
      missing=()
      hash -r
      return 0
    fi
    tail -n 25 "$log"
    rm -f "$log"
    say "Could not install what is missing: ${missing[*]}"
  else
    say "These are missing: ${missing[*]}"
  fi
  say "Please install them (on Debian and Ubuntu):"
  say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
  exit 2
}

# wish PACKAGE PROBE...: as want, but nothing depends on it: tried where it can be had without asking anybody.
wish() {
  local before=${#missing[@]} package=$1
  want "$@"
  ((${#missing[@]} == before)) && return 0
  unset "missing[$before]"
  missing=(${missing[@]+"${missing[@]}"})
  have apt-get && [[ $(id -u) == 0 ]] || return 0
  [[ -n $(apt-cache policy "$package" 2>/dev/null | sed -n 's/^ *Candidate: *//p' | grep -v '(none)') ]] || return 0
  say "installing: $package"
  apt install --no-install-recommends "$package" >/dev/null 2>&1 || say "  (not to be had; going on without it)"
  hash -r
}

# logged LOG COMMAND...: runs it in silence; shows the log's end when it fails.
logged() {
  local log=$1 code=0
  shift
  mkdir -p "$(dirname "$log")"
  "$@" >"$log" 2>&1 || code=$?
  if ((code)); then
    say "FAILED (exit status $code): $*"
    # The first complaints say more than the last lines.
    grep -E '(: (fatal )?error:|CMake Error|undefined reference|: warning:|\*\*\*Failed|\*\*\*Timeout|\*\*\*Exception)' "$log" |
      sort -u | head -n 12 | cut -c 1-300
    say "  ..."
    tail -n 12 "$log" | cut -c 1-300
    say "  (all of it: $log)"
  fi
  return "$code"
}

use_ninja() {
  if have ninja; then export CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}; fi
}

# One wine server for the whole run, started here, so that no test waits for its services and none is left afterwards.
# The prefix is the run's own, below build/: nobody else's programs are ended with it, and removing build/ removes it.
wine_started=0
start_wine() {
  ((wine_started)) && return 0
  find_wine || return 1
  export WINEPREFIX=${POLYPROC_WINEPREFIX:-$root/build/wine}
  export WINEDEBUG=-all WINEDLLOVERRIDES="winedbg.exe=d;mscoree,mshtml="
  unset DISPLAY WAYLAND_DISPLAY
  mkdir -p "$WINEPREFIX" "$root/build"
  wine_started=1
  {
    if [[ ! -e $WINEPREFIX/.polyproc-ready ]]; then
      # It says Windows 7 by itself.
      timeout 180 "$wine" wineboot -i && timeout 60 "$wine" winecfg /v win10 && timeout 60 "$wineserver" -w &&
        touch "$WINEPREFIX/.polyproc-ready"
    fi
    "$wineserver" -p
    timeout 60 "$wine" cmd /c exit 0
  } </dev/null >"$root/build/wine.log" 2>&1 || {
    say "Wine does not start; its last words:"
    tail -n 10 "$root/build/wine.log"
    return 1
  }
}
stop_wine() {
  ((wine_started)) || return 0
  "$wineserver" -k </dev/null >/dev/null 2>&1
  wine_started=0
}
