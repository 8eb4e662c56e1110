# Sourced by the end-to-end scripts: an instance of their own, checks of exit codes, and proof that nothing is left.
# Everything goes through the installed `weaver`; nothing of the package is imported.

VENV="$(cd "${1:?usage: $0 VENV}" && pwd)"
PYTHON="$VENV/bin/python"
# Short, because the path of a socket is limited; real, because the instance's tag is made from the real path.
WEFTOS_HOME="$(cd "$(mktemp -d "${TMPDIR:-/tmp}/we2e.XXXXXX")" && pwd -P)"
export WEFTOS_HOME
OUT="$WEFTOS_HOME.out"
STEP=0

weaver() { "$VENV/bin/weaver" "$@"; }

say() {
  STEP=$((STEP + 1))
  printf '%2d. %s\n' "$STEP" "$*"
}

die() {
  {
    echo "FAILED at step $STEP: $*"
    [ ! -f "$OUT" ] || sed 's/^/    /' "$OUT"
    if [ -f "$WEFTOS_HOME/run/kernel.log" ]; then
      echo "the end of the kernel's log:"
      tail -n 20 "$WEFTOS_HOME/run/kernel.log" | sed 's/^/    /'
    fi
  } >&2
  exit 1
}

# expect CODE COMMAND...: run it, keep its output, and compare its exit status.
expect() {
  local wanted="$1" code=0
  shift
  "$@" >"$OUT" 2>&1 || code=$?
  [ "$code" -eq "$wanted" ] || die "'$*' ended with $code, not $wanted"
}

# shows TEXT: the last output contains it.
shows() { grep -qF -- "$1" "$OUT" || die "'$1' is not in the output"; }

# field EXPRESSION: of the last output, read as JSON under the name d.
field() {
  "$PYTHON" -c 'import json, sys; d = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$OUT" "$1" ||
    die "no $1 in the output"
}

# The processes and semaphores of this instance, one a line.
remains() {
  "$PYTHON" - "$WEFTOS_HOME" <<'PY'
import os, sys
from pathlib import Path
from blake3 import blake3
home = sys.argv[1]
for entry in Path("/proc").glob("[0-9]*"):
    try:
        marked = f"WEFTOS_INSTANCE={home}".encode() in (entry / "environ").read_bytes().split(b"\0")
        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # ended, or another user's
        continue
    if marked and command:
        print("process", entry.name, command)
tag = blake3(os.fsencode(os.path.realpath(home))).hexdigest(length=6)
for entry in Path("/dev/shm").glob(f"sem.weftos-{tag}*"):
    print("semaphore", entry.name)
PY
}

# within SECONDS COMMAND...: repeat it until it succeeds; for what no command waits for.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || die "not in time: $*"
    read -r -t 0.1 <> <(:) || true
  done
}

nothing_remains() { [ -z "$(remains)" ]; }

ended() { [ ! -e "/proc/$1" ] || [ "$(awk '{print $3}' "/proc/$1/stat" 2>/dev/null || echo Z)" = Z ]; }

clean_up() {
  local code=$? kind name _rest
  trap - EXIT
  weaver kernel stop >/dev/null 2>&1 || true
  # What a failed script leaves is ended by number; each carries this instance's mark.
  while read -r kind name _rest; do
    case "$kind" in
      process) kill -9 "$name" 2>/dev/null || true ;;
      semaphore) rm -f "/dev/shm/$name" ;;
    esac
  done < <(remains)
  rm -rf "$WEFTOS_HOME" "$OUT" "$OUT".*
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
