#!/usr/bin/env bash
# The 11 checks before a release, numbered; run by `tools/build.sh gate`. Each prints PASS, FAIL with the end of its log, or SKIP with
# the reason. Exits 1 if one failed.
set -uo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${1:-$ROOT/.venv}"
LOG="$(mktemp "${TMPDIR:-/tmp}/weftos-gate.XXXXXX")"
trap 'rm -f "$LOG"' EXIT
TOTAL=11
number=0
passed=0
failed=0
skipped=0

check() {
  local label="$1" start=$SECONDS
  shift
  number=$((number + 1))
  printf '[%d/%d] %s … ' "$number" "$TOTAL" "$label"
  if "$@" >"$LOG" 2>&1; then
    passed=$((passed + 1))
    printf 'PASS (%d s)\n' $((SECONDS - start))
  else
    failed=$((failed + 1))
    printf 'FAIL (%d s)\n' $((SECONDS - start))
    tail -n 30 "$LOG" | sed 's/^/    /'
  fi
}

skip() {
  number=$((number + 1))
  skipped=$((skipped + 1))
  printf '[%d/%d] %s … SKIP: %s\n' "$number" "$TOTAL" "$1" "$2"
}

pytest() { "$VENV/bin/python" -m pytest -n auto "$@"; }

cd "$ROOT" || exit 1
check "unit and integration tests" pytest -m "not slow"
check "wheel, installed and started" tools/build.sh native
skip "WASM runner" "there is no WASM runner in this version"
check "lint, format, import order" tools/build.sh lint
check "types" tools/build.sh check
check "shared-memory and message campaigns" pytest -m slow tests/shm tests/ipc
check "daemon from start to stop" bash tools/e2e_daemon.sh "$VENV"
check "chain: damage, crashes, verification" bash -c "'$VENV/bin/python' -m pytest -n auto -m slow tests/chain tests/service tests/kernel && bash tools/e2e_chain.sh '$VENV'"
if command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1; then
  skip "containers" "there is no container backend in this version"
else
  skip "containers" "no container engine runs here, and there is no container backend in this version"
fi
check "benchmark, quick" "$VENV/bin/python" -m weftos.bench throughput --quick
if "$VENV/bin/python" -m pip_audit --version >/dev/null 2>&1; then
  if "$VENV/bin/python" -m pip_audit --progress-spinner off --skip-editable >"$LOG" 2>&1; then
    number=$((number + 1)) passed=$((passed + 1))
    printf '[%d/%d] dependency audit … PASS\n' "$number" "$TOTAL"
  elif grep -qiE 'connection|resolve|timed out|unreachable|proxy|HTTPError|403|max retries' "$LOG"; then
    skip "dependency audit" "the vulnerability service cannot be reached from here"
  else
    check "dependency audit" "$VENV/bin/python" -m pip_audit --progress-spinner off --skip-editable
  fi
else
  skip "dependency audit" "pip-audit is not installed"
fi
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
