#!/usr/bin/env bash
# The developer's one entry: sets up its own .venv and runs everything there. `tools/build.sh --help` lists commands.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
DRY_RUN=0
VERBOSE=0
SCRATCH=""
# One BLAS thread: the kernel forks, and a process with threads must not.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
# A kernel is started a thousand times in the tests, and compiling its modules each time would cost half a second of each.
unset PYTHONDONTWRITEBYTECODE

usage() {
  cat <<'TEXT'
Usage: tools/build.sh [OPTION...] COMMAND [OPTION...] [--] [ARGUMENT...]

Commands:
  run            the main job on real input: an inventory of Python's standard library, its check, and the chain's
  test           the test suite (not the slow campaigns); arguments go to pytest
  native         build the wheel, install it into a scratch environment, and start it
  native-debug   editable install into .venv
  check          types (mypy, strict)
  clippy, lint   lint (ruff), format, import order
  gate           the 11 numbered checks before a release
  bench          python -m weftos.bench; arguments go to it
  clean          remove what builds and tests leave, and .venv

Options, before or right after the command; what follows -- is an argument:
  --dry-run      print what would be run
  --verbose      show everything that is run
  --help         this text

PYTHON names the interpreter that makes .venv; without it the newest one from 3.11 on is taken.
TEXT
}

fail() {
  echo "build.sh: $*" >&2
  exit 1
}

misuse() {
  usage >&2
  echo "build.sh: $*" >&2
  exit 2
}

shown() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
}

# Run a command; in a dry run only print it.
run() {
  if ((DRY_RUN)); then
    shown "$@"
    return 0
  fi
  if ((VERBOSE)); then shown "$@" >&2; fi
  "$@"
}

scratch() {
  SCRATCH="$(mktemp -d "${TMPDIR:-/tmp}/weftos-build.XXXXXX")"
  trap 'rm -rf "$SCRATCH"' EXIT
}

find_python() {
  local name
  for name in ${PYTHON:+"$PYTHON"} python3.14 python3.13 python3.12 python3.11 python3 python; do
    if command -v "$name" >/dev/null 2>&1 &&
      "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
    [ "$name" != "${PYTHON:-}" ] || fail "PYTHON names $name, which is no Python 3.11 or newer"
  done
  fail "no Python 3.11 or newer was found; install one, or name it in PYTHON"
}

up_to_date() { [ -f "$VENV/.weftos-stamp" ] && [ "$(cat "$VENV/.weftos-stamp")" = "$1" ] && [ -x "$VENV/bin/python" ]; }

# Make .venv, or bring it up to date when pyproject.toml has changed. Two calls at once wait for each other.
setup() {
  local wanted
  wanted="$(cksum <"$ROOT/pyproject.toml") $ROOT"
  if up_to_date "$wanted"; then return; fi
  if ((DRY_RUN)); then
    shown python3 -m venv "$VENV"
    shown "$VENV/bin/python" -m pip install -e "$ROOT[dev,bench]"
    return
  fi
  (
    # Without flock (some systems have none) two calls at once are the caller's business.
    if command -v flock >/dev/null 2>&1; then flock 9; fi
    if ! up_to_date "$wanted"; then install_into_venv && printf '%s' "$wanted" >"$VENV/.weftos-stamp"; fi
  ) 9>"$ROOT/.build.lock"
}

install_into_venv() {
  local python
  if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    python="$(find_python)"
    echo "build.sh: making .venv with $("$python" --version)" >&2
    if ! "$python" -m venv --clear "$VENV"; then
      # A half-made environment would be taken for a whole one the next time.
      rm -rf "$VENV"
      fail "$python cannot make a virtual environment; if it lacks ensurepip, install it (Debian: python3-venv)"
    fi
  fi
  echo "build.sh: installing into .venv" >&2
  pip install -e "$ROOT[dev]" || fail "the dependencies could not be installed; is a package index reachable?"
  # The benchmark runs those peers that are there and names those that are not, so their absence is no failure.
  pip install -e "$ROOT[bench]" ||
    echo "build.sh: not all peers of the benchmark could be installed; it names those" >&2
  # One of the gate's campaigns uses it, and is skipped without it; there are not packages of it for every system.
  pip install --only-binary atheris -e "$ROOT[fuzz]" ||
    echo "build.sh: atheris could not be installed; the gate skips the campaign that uses it" >&2
}

pip() { run "$VENV/bin/python" -m pip "$1" --quiet --disable-pip-version-check "${@:2}"; }

command_run() {
  local library='<standard library>'
  if ! ((DRY_RUN)); then
    scratch
    export WEFTOS_HOME="$SCRATCH/home"
    library="$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
    # Otherwise our own start could put new files into the very folder that is inventoried.
    export PYTHONDONTWRITEBYTECODE=1
  fi
  step "$VENV/bin/weaver" run inventory "$library" "$@"
  step "$VENV/bin/weaver" run inventory "$library" --check "$@"
  step "$VENV/bin/weaver" chain verify
}

step() {
  ((DRY_RUN)) || echo "== ${1##*/} ${*:2}"
  run "$@"
}

command_test() { run "$VENV/bin/python" -m pytest -n auto -m "not slow" "$@"; }

command_native() {
  local wheel='dist/weftos-*.whl'
  SCRATCH='<scratch>'
  if ! ((DRY_RUN)); then
    scratch
    # setuptools would put what an earlier build left there into the wheel.
    rm -rf "$ROOT/build"
  fi
  run "$VENV/bin/python" -m build --wheel --outdir "$SCRATCH/dist" "$ROOT"
  if ! ((DRY_RUN)); then
    wheel="$(echo "$SCRATCH"/dist/*.whl)"
    "$VENV/bin/python" "$ROOT/tools/check_wheel.py" "$wheel" "$ROOT"
    mkdir -p "$ROOT/dist"
    cp "$wheel" "$ROOT/dist/"
    echo "built dist/${wheel##*/} ($(($(wc -c <"$wheel") / 1024)) KiB)"
  fi
  run "$VENV/bin/python" -m venv "$SCRATCH/venv"
  run "$SCRATCH/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel"
  # From elsewhere, so that the checkout cannot stand in for what the wheel lacks.
  (((DRY_RUN)) || cd "$SCRATCH" && run "$SCRATCH/venv/bin/weaver" --version)
}

command_lint() {
  local code=0
  # All three, so that one run tells everything.
  run "$VENV/bin/ruff" check "$ROOT" || code=1
  run "$VENV/bin/ruff" format --check "$ROOT" || code=1
  run "$VENV/bin/lint-imports" || code=1
  return "$code"
}

command_clean() {
  run rm -rf "$VENV" "$ROOT/build" "$ROOT/dist" "$ROOT"/*.egg-info "$ROOT/.mypy_cache" "$ROOT/.ruff_cache" \
    "$ROOT/.pytest_cache" "$ROOT/.hypothesis" "$ROOT/.import_linter_cache" "$ROOT/.build.lock"
  run find "$ROOT" -name __pycache__ -type d -prune -exec rm -rf {} +
}

# take_option WORD: true if it is one of our options.
take_option() {
  case "$1" in
    --dry-run) DRY_RUN=1 ;;
    --verbose) VERBOSE=1 ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) return 1 ;;
  esac
}

main() {
  while (($#)) && [[ "$1" == -* ]]; do
    take_option "$1" || misuse "unknown option $1"
    shift
  done
  (($#)) || misuse "a command is missing"
  local command="$1"
  shift
  while (($#)) && take_option "$1"; do shift; done
  if (($#)) && [ "$1" = -- ]; then shift; fi
  case "$command" in
    run | test | bench) ;;
    native | native-debug | check | clippy | lint | gate | clean)
      (($# == 0)) || misuse "$command takes no argument, but got: $*"
      ;;
    *) misuse "unknown command $command" ;;
  esac
  cd "$ROOT"
  [ "$command" = clean ] || setup
  case "$command" in
    run) command_run "$@" ;;
    test) command_test "$@" ;;
    native) command_native ;;
    native-debug) run "$VENV/bin/weaver" --version ;;
    check) run "$VENV/bin/python" -m mypy ;;
    clippy | lint) command_lint ;;
    gate) DRY_RUN=$DRY_RUN bash "$ROOT/tools/gate.sh" "$VENV" ;;
    bench) run "$VENV/bin/python" -m weftos.bench "$@" ;;
    clean) command_clean ;;
  esac
}

main "$@"
