#!/usr/bin/env bash
# The tamper-evident log from outside, by `weaver` alone: verify with and without a kernel, then flip, swap, cut off and
# add bytes, and see each treated as promised. Usage: tools/e2e_chain.sh VENV. Exit status 0 if all of it was.
set -euo pipefail
# shellcheck source=tools/e2e_lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/e2e_lib.sh"

# spoil WHAT: change the segment in place.
spoil() {
  "$PYTHON" - "$SEGMENT" "$1" <<'PY'
import os, sys
path, what = sys.argv[1:]
data = bytearray(open(path, "rb").read())
if what == "flip":
    data[len(data) // 2] ^= 1
elif what == "cut":
    del data[len(data) // 2 :]
elif what == "swap":
    middle = len(data) // 2
    data[middle : middle + 40] = reversed(data[middle : middle + 40])
elif what == "append":
    data += os.urandom(64)
else:
    sys.exit(f"no damage is called {what}")
open(path, "wb").write(data)
PY
}

say "a log with something in it, verified while the kernel writes"
expect 0 weaver kernel start
expect 0 weaver agent spawn echo --json
for word in one two three; do
  expect 0 weaver agent send 1 "$word" --json
done
expect 0 weaver agent stop 1
expect 0 weaver chain verify --json
[ "$(field 'd["valid"]')" = True ] || die "the running kernel's log is not valid"
records="$(field 'd["records"]')"

say "verified without a kernel: signed, and longer by the shutdown"
expect 0 weaver kernel stop
expect 0 weaver chain verify --json
[ "$(field 'd["valid"], d["signature"]')" = "(True, 'good')" ] || die "the stopped log is not valid and signed"
[ "$(field 'd["records"]')" -gt "$records" ] || die "the shutdown is not on the log"
expect 0 weaver chain local --json
expect 0 weaver chain status --json

SEGMENT="$(find "$WEFTOS_HOME/chain" -name '*.log' | sort | head -n 1)"
cp "$SEGMENT" "$OUT.whole"
for damage in flip swap cut; do
  say "damage by '$damage': verify ends with 5, in words and in JSON"
  spoil "$damage"
  expect 5 weaver chain verify
  expect 5 weaver chain verify --json
  [ "$(field 'd["valid"]')" = False ] || die "damage by $damage is called valid"
  say "a kernel does not start on it, says so with 5, and leaves the evidence untouched"
  cp "$SEGMENT" "$OUT.damaged"
  expect 5 weaver kernel start
  cmp -s "$SEGMENT" "$OUT.damaged" || die "the kernel changed a damaged log"
  cp "$OUT.whole" "$SEGMENT"
done

say "a torn end, as a power failure leaves it, is no damage: it is cut off and the log goes on"
spoil append
expect 0 weaver kernel start
expect 0 weaver agent spawn echo
expect 0 weaver kernel stop
expect 0 weaver chain verify --json
[ "$(field 'd["valid"]')" = True ] || die "the log is not valid after a torn end"

say "nothing remains"
rm -f "$OUT.whole" "$OUT.damaged"
within 5 nothing_remains
echo "the chain: all $STEP steps as promised"
