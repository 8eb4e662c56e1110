#!/usr/bin/env bash
# The life of a kernel from outside, by `weaver` alone: start, work, the death of an agent, of the service process and
# of the kernel itself, restart, stop. Usage: tools/e2e_daemon.sh VENV. Exit status 0 if all of it went as promised.
set -euo pipefail
# shellcheck source=tools/e2e_lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/e2e_lib.sh"

incarnation_is() {
  weaver agent inspect 1 --json >"$OUT" 2>&1 && [ "$(field 'd["incarnation"], d["state"]')" = "($1, 'running')" ]
}
service_replaced() {
  weaver kernel services --json >"$OUT" 2>&1 && [ "$(field 'd[0].get("os_pid") or 0')" -gt 0 ] &&
    [ "$(field 'd[0]["os_pid"]')" != "$1" ]
}

# What the kernel holds is what its log adds up to, before each further step.
audited() {
  expect 0 weaver kernel audit
  shows "kernel and log agree"
  say "$*"
}

say "no kernel: every command says so with status 6"
expect 6 weaver kernel status
expect 6 weaver kernel stop
expect 6 weaver agent spawn echo

say "start; a second start is refused and changes nothing"
expect 0 weaver kernel start
expect 1 weaver kernel start
shows "already runs"
expect 0 weaver kernel status --json
[ "$(field 'd["state"]')" = running ] || die "the state is not running"
kernel_pid="$(field 'd["os_pid"]')"

audited "an agent: spawn, send, inspect"
expect 0 weaver agent spawn echo --json
[ "$(field 'd["pid"]')" = 1 ] || die "the first agent is not 1"
expect 0 weaver agent send 1 hello --json
[ "$(field 'd["reply"]')" = hello ] || die "echo did not answer with what it got"
expect 0 weaver agent inspect 1 --json
agent_pid="$(field 'd["os_pid"]')"
expect 1 weaver agent inspect 99
expect 2 weaver agent spawn

audited "kill -9 of the agent: it is restarted and answers"
kill -9 "$agent_pid"
within 20 incarnation_is 2
expect 0 weaver agent send 1 again --json
[ "$(field 'd["reply"]')" = again ] || die "the second incarnation did not answer"

audited "kill -9 of the service process: it is replaced, and the log is whole"
expect 0 weaver kernel services --json
service_pid="$(field 'd[0]["os_pid"]')"
kill -9 "$service_pid"
within 20 service_replaced "$service_pid"
expect 0 weaver agent spawn echo --name second
expect 0 weaver chain verify

audited "kill -9 of the kernel: its agents end with it, and status is 6"
kill -9 "$kernel_pid"
within 10 ended "$kernel_pid"
expect 6 weaver kernel status

say "the next start finds what happened and clears it away"
expect 0 weaver kernel start
expect 0 weaver kernel status --json
[ "$(field 'd["unclean_shutdown"]')" = True ] || die "the crash went unnoticed"
expect 0 weaver kernel ps --json
[ "$(field 'len(d if isinstance(d, list) else d["processes"])')" = 0 ] ||
  die "agents of the earlier boot are still shown"
expect 0 weaver agent spawn echo
expect 0 weaver chain verify

audited "restart keeps the instance"
expect 0 weaver kernel restart
expect 0 weaver kernel status --json
[ "$(field 'd["clean_start"]')" = True ] || die "an orderly restart is taken for a crash"

audited "stop: done when it returns, and nothing remains"
expect 0 weaver kernel stop
expect 6 weaver kernel status
within 5 nothing_remains
expect 0 weaver chain verify
shows VALID
echo "the daemon's life: all $STEP steps as promised"
