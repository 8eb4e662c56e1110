#!/usr/bin/env bash
# The 11 checks before a release, numbered; run by `tools/build.sh gate`. Each prints PASS, FAIL with the end of its
# log, or SKIP with the reason. Exits 1 if one failed. With DRY_RUN=1 it prints what each check would run.
set -uo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${1:-$ROOT/.venv}"
PYTHON="$VENV/bin/python"
DRY_RUN="${DRY_RUN:-0}"
LOG="$(mktemp "${TMPDIR:-/tmp}/weftos-gate.XXXXXX")"
trap 'rm -f "$LOG"' EXIT
TOTAL=11
# What a check returns, having said why on its last line, when its subject is not here.
SKIPPED=77
number=0 passed=0 failed=0 skipped=0

# check LABEL COMMAND...
check() {
  local label="$1" start=$SECONDS code=0
  shift
  number=$((number + 1))
  printf '[%d/%d] %s … ' "$number" "$TOTAL" "$label"
  if ((DRY_RUN)); then
    if [ "$(type -t "$1")" = function ]; then
      printf '\n'
      declare -f "$1" | sed -e '1,2d' -e '$d'
    else
      printf '\n    %s\n' "$*"
    fi
    return
  fi
  "$@" >"$LOG" 2>&1 </dev/null || code=$?
  case "$code" in
    0)
      passed=$((passed + 1))
      printf 'PASS (%d s)\n' $((SECONDS - start))
      ;;
    "$SKIPPED")
      skipped=$((skipped + 1))
      printf 'SKIP: %s\n' "$(tail -n 1 "$LOG")"
      ;;
    130 | 143)
      printf 'interrupted\n'
      exit "$code"
      ;;
    *)
      failed=$((failed + 1))
      printf 'FAIL (%d s, status %d)\n' $((SECONDS - start)) "$code"
      tail -n 30 "$LOG" | sed 's/^/    /'
      ;;
  esac
}

tests() { "$PYTHON" -m pytest -n auto "$@"; }

unit_tests() { tests -m "not slow"; }

wasm_tests() {
  if [ ! -d tests/wasm ]; then
    echo "there is no WASM runner in this version"
    return "$SKIPPED"
  fi
  tests tests/wasm
}

memory_campaign() { tests -m slow tests/shm tests/ipc; }

chain_campaign() { tests -m slow tests/chain tests/service tests/kernel && bash tools/e2e_chain.sh "$VENV"; }

container_tests() {
  if [ ! -d tests/containers ]; then
    echo "there is no container backend in this version"
    return "$SKIPPED"
  fi
  if ! docker info && ! podman info; then
    echo "no container engine runs here"
    return "$SKIPPED"
  fi
  tests tests/containers
}

cd "$ROOT" || exit 1
check "unit and integration tests" unit_tests
check "wheel, installed and started" bash tools/build.sh native
check "WASM runner" wasm_tests
check "lint, format, import order" bash tools/build.sh lint
check "types" bash tools/build.sh check
check "shared-memory and message campaigns" memory_campaign
check "daemon from start to stop" bash tools/e2e_daemon.sh "$VENV"
check "chain: damage, crashes, verification" chain_campaign
check "containers" container_tests
check "benchmark, quick" "$PYTHON" -m weftos.bench throughput --quick
check "dependency audit" "$PYTHON" tools/audit.py
((DRY_RUN)) || printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
