#!/usr/bin/env bash
# The developer's one entry: sets up its own .venv and runs everything there. `tools/build.sh --help` lists the commands.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
DRY_RUN=0
VERBOSE=0
# One BLAS thread: the kernel forks, and a process with threads must not.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1

usage() {
  cat <<'TEXT'
Usage: tools/build.sh [--dry-run] [--verbose] COMMAND [ARGUMENT...]

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

Options:
  --dry-run      print what would be run
  --verbose      show everything that is run
  --help         this text
TEXT
}

fail() {
  echo "build.sh: $*" >&2
  exit 1
}

# Run a command, or in a dry run print it.
run() {
  if ((DRY_RUN)); then
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    return 0
  fi
  if ((VERBOSE)); then
    printf '+'
    printf ' %q' "$@"
    printf '\n'
  fi >&2
  "$@"
}

find_python() {
  local name
  for name in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
    [ -n "$name" ] || continue
    if command -v "$name" >/dev/null 2>&1 &&
      "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  fail "no Python 3.11 or newer was found; install one or set PYTHON"
}

# Make .venv, or bring it up to date when pyproject.toml has changed. One at a time.
setup() {
  local stamp="$VENV/.weftos-stamp" wanted
  wanted="$(cksum <"$ROOT/pyproject.toml") $ROOT"
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    return
  fi
  if ((DRY_RUN)); then
    echo "+ python3 -m venv $VENV && pip install -e .[dev,bench]"
    return
  fi
  local python
  python="$(find_python)"
  (
    if command -v flock >/dev/null 2>&1; then flock 9; fi
    if [ ! -x "$VENV/bin/python" ]; then
      "$python" -m venv "$VENV" || fail "$python cannot make a virtual environment; on Debian: apt-get install python3-venv"
    fi
    echo "build.sh: installing into .venv" >&2
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -e "$ROOT[dev]" ||
      fail "the dependencies could not be installed; is a package index reachable?"
    # The benchmark runs those peers that are there and names those that are not, so their absence is no failure.
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -e "$ROOT[bench]" ||
      echo "build.sh: some of the benchmark's peers could not be installed; it will say which" >&2
    printf '%s' "$wanted" >"$stamp"
  ) 9>"$ROOT/.build.lock"
}

command_run() {
  setup
  local home code=0
  if ((DRY_RUN)); then
    run "$VENV/bin/weaver" run inventory "<the standard library>"
    return
  fi
  home="$(mktemp -d "${TMPDIR:-/tmp}/weftos-run.XXXXXX")"
  # shellcheck disable=SC2064
  trap "rm -rf '$home'" EXIT
  local library
  library="$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
  export WEFTOS_HOME="$home"
  echo "== weaver run inventory $library"
  run "$VENV/bin/weaver" run inventory "$library" "$@" || code=$?
  if ((code == 0)); then
    echo "== weaver run inventory $library --check"
    run "$VENV/bin/weaver" run inventory "$library" --check || code=$?
  fi
  if ((code == 0)); then
    echo "== weaver chain verify"
    run "$VENV/bin/weaver" chain verify || code=$?
  fi
  return "$code"
}

command_test() {
  setup
  run "$VENV/bin/python" -m pytest -n auto -m "not slow" "$@"
}

command_native() {
  setup
  local scratch
  scratch="$(mktemp -d "${TMPDIR:-/tmp}/weftos-wheel.XXXXXX")"
  # shellcheck disable=SC2064
  trap "rm -rf '$scratch'" RETURN
  run "$VENV/bin/python" -m build --wheel --outdir "$ROOT/dist" "$ROOT"
  run "$VENV/bin/python" -m venv "$scratch/venv"
  if ((DRY_RUN)); then
    run pip install "dist/weftos-*.whl"
    return
  fi
  local wheel
  wheel="$(ls -t "$ROOT"/dist/weftos-*.whl | head -n 1)"
  run "$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel"
  (cd "$scratch" && run "$scratch/venv/bin/weaver" --version)
}

command_check() {
  setup
  run "$VENV/bin/python" -m mypy
}

command_lint() {
  setup
  run "$VENV/bin/ruff" check "$ROOT"
  run "$VENV/bin/ruff" format --check "$ROOT"
  (cd "$ROOT" && run "$VENV/bin/lint-imports")
}

command_bench() {
  setup
  run "$VENV/bin/python" -m weftos.bench "$@"
}

command_clean() {
  run rm -rf "$VENV" "$ROOT/build" "$ROOT/dist" "$ROOT"/*.egg-info "$ROOT/.mypy_cache" "$ROOT/.ruff_cache" \
    "$ROOT/.pytest_cache" "$ROOT/.hypothesis" "$ROOT/.import_linter_cache" "$ROOT/.build.lock"
  run find "$ROOT" -name __pycache__ -type d -prune -exec rm -rf {} +
}

main() {
  while (($#)); do
    case "$1" in
      --dry-run) DRY_RUN=1 ;;
      --verbose) VERBOSE=1 ;;
      -h | --help) usage && return 0 ;;
      -*) usage >&2 && echo "build.sh: unknown option $1" >&2 && return 2 ;;
      *) break ;;
    esac
    shift
  done
  (($#)) || { usage >&2 && return 2; }
  local command="$1"
  shift
  cd "$ROOT"
  case "$command" in
    run) command_run "$@" ;;
    test) command_test "$@" ;;
    native) command_native "$@" ;;
    native-debug) setup ;;
    check) command_check ;;
    clippy | lint) command_lint ;;
    gate) setup && DRY_RUN=$DRY_RUN run bash "$ROOT/tools/gate.sh" "$VENV" ;;
    bench) command_bench "$@" ;;
    clean) command_clean ;;
    *) usage >&2 && echo "build.sh: unknown command $command" >&2 && return 2 ;;
  esac
}

main "$@"
