"""Approvals through a running kernel: asked by an agent, decided by a person, done once, found again after kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from governed import govern, own_rule, records, tell

from weftos.cli.gate_history import orphans
from weftos.errors import InvalidRequest, PeerRefused, WrongState
from weftos.governance.approvals import Approvals
from weftos.governance.standing import Standing

STOP = own_rule("require_approval", "agent.stop")


def pending(kernel, **params):
    return kernel.call("gate.pending", **params).requests


def waiting(kernel):
    return kernel.until(lambda: pending(kernel))[0].request


def with_child(kernel):
    """An agent, and the pid of its child, which it may stop as far as capabilities go."""
    asker = kernel.spawn("tester")
    return asker, tell(kernel, asker.pid, do="spawn", program="echo")


def as_the_log_says(kernel):
    """What the service holds is the sum of the records."""
    standing, approvals = Standing(), Approvals()
    for one in kernel.events():
        if one.source == "governance":
            standing.take(one.kind, one.payload)
            approvals.take(one.kind, one.payload, one.seq)
    shown = kernel.call("governance.show")
    assert (shown.version, shown.hash) == (standing.constitution.version, standing.hash.hex())
    assert shown.environment.name == standing.environment.name
    held = {row.request: (row.state, row.permit, row.used_record) for row in pending(kernel, all=True)}
    assert held == {
        one.id: (one.state, one.permit.hex(), approvals.used.get(one.permit)) for one in approvals.requests.values()
    }


def held(kernel, pid, **context):
    """Let an agent wait, approve, and return what it got."""
    found = {}
    order = {"do": "require", "action": "agent.stop", "context": context, "wait_s": 15.0}
    asking = threading.Thread(target=lambda: found.update(reply=tell(kernel, pid, **order)))
    asking.start()
    number = waiting(kernel)
    answer = kernel.call("gate.approve", request=number, reason="it is idle")
    asking.join(30)
    request, record, token = found["reply"]
    assert (request, record) == (number, answer.permit_record)
    return request, token


def test_an_agent_waits_and_acts_once(kernel):
    asker, target = with_child(kernel)
    govern(kernel, STOP)
    stop = {"do": "stop", "pid": target}
    refused = tell(kernel, asker.pid, **stop)
    assert refused["error"] == "gate.deferred"
    number = waiting(kernel)
    assert f"weaver gate approve {number}" in refused["text"]
    request, _ = held(kernel, asker.pid, target=target)
    assert request == number, "the same question is one request"
    assert tell(kernel, asker.pid, **stop)["error"] == "gate.deferred", "without the permit"
    other = {"do": "under", "request": request, "then": {"do": "stop", "pid": asker.pid}}
    assert tell(kernel, asker.pid, **other)["error"] == "gate.denied", "for another target"
    under = {"do": "under", "request": request, "then": stop}
    assert tell(kernel, asker.pid, **under) is True
    assert tell(kernel, asker.pid, **under)["error"] in ("gate.denied", "gate.capability"), "once"
    kernel.until(lambda: any(one.payload.get("permit") for one in records(kernel, "gate.outcome")))
    permit = records(kernel, "permit.mint")[0].payload["id"].hex()
    outcome = next(one for one in records(kernel, "gate.outcome") if one.payload.get("permit"))
    assert (outcome.payload["permit"], outcome.payload["result"], outcome.source) == (permit, "done", "kernel")
    assert len(records(kernel, "permit.use")) == 1
    by = records(kernel, "gate.approve")[0].payload
    assert by["by"].startswith("operator:")
    assert by["uid"] == os.getuid()
    as_the_log_says(kernel)


def test_an_agent_gets_more_rights_with_a_permit_once_and_for_exactly_these(kernel):
    asker = kernel.spawn("tester")
    wanted = {"do": "ask_for", "rights": ["can_network", "sandbox.network"], "reason": "I fetch prices"}
    context = {"rights": wanted["rights"], "reason": wanted["reason"]}
    found = {}
    order = {"do": "require", "action": "capability.elevate", "context": context, "wait_s": 15.0}
    asking = threading.Thread(target=lambda: found.update(reply=tell(kernel, asker.pid, **order)))
    asking.start()
    number = waiting(kernel)
    kernel.call("gate.approve", request=number, reason="only prices")
    asking.join(30)
    request = found["reply"][0]
    assert kernel.call("capability.show", pid=asker.pid).epoch == 1, "approved is not yet done"
    for other in ({"rights": ["can_network"]}, {"reason": "I send mail"}):
        assert tell(kernel, asker.pid, do="under", request=request, then=wanted | other)["error"] == "gate.denied"
    done = tell(kernel, asker.pid, do="under", request=request, then=wanted)
    assert (done["decision"], done["epoch"]) == ("permit", 2)
    kernel.call("capability.revoke", pid=asker.pid, rights=["can_network"], reason="enough")
    assert tell(kernel, asker.pid, do="under", request=request, then=wanted)["error"] == "gate.denied", "once"
    (elevated,) = records(kernel, "capability.elevate")
    permit = records(kernel, "permit.mint")[0].payload["id"].hex()
    assert (elevated.payload["request"], elevated.payload["requested_by"]) == (permit, asker.pid)
    decisions = [one.payload["decision"] for one in records(kernel, "capability.request")]
    assert decisions == ["deny", "deny", "permit", "deny"]
    outcome = kernel.until(lambda: [one for one in records(kernel, "gate.outcome") if one.payload.get("permit")])
    assert outcome[0].payload["permit"] == permit
    as_the_log_says(kernel)


def test_a_process_of_an_agent_is_no_person(kernel, tmp_path):
    """An agent runs as the operator's user; what it starts may even leave its session."""
    program = tmp_path / "cheat.py"
    program.write_text(
        "import os, subprocess, sys\n"
        "def main(ctx):\n"
        "    for message in ctx:\n"
        "        run = [sys.executable, '-m', 'weftos.cli.main', *message.payload['words']]\n"
        "        done = subprocess.run(run, capture_output=True, text=True, start_new_session=True)\n"
        "        ctx.reply(message, [done.returncode, done.stdout + done.stderr])\n"
    )
    asker = kernel.spawn("tester")
    # A confined agent does not even reach the socket; one that is trusted does.
    cheat = kernel.call(
        "agent.spawn", program=str(program), restart="never", limits={"processes": 0}, sandbox={"profile": "trusted"}
    )
    govern(kernel, STOP)
    tell(kernel, asker.pid, do="stop", pid=asker.pid)
    number = waiting(kernel)
    for words in (
        ["gate", "approve", str(number)],
        ["gate", "deny", str(number)],
        ["env", "switch", "development", "--reason", "mine"],
        ["gate", "pending"],
    ):
        status, text = tell(kernel, cheat.pid, words=words)
        assert status == PeerRefused.exit_code, text
        assert "agents may not use the control socket" in text
    assert [row.state for row in pending(kernel)] == ["pending"]


@pytest.mark.parametrize("victim", ["service", "kernel"])
def test_queue_permits_and_rules_survive_a_kill(kernel, victim):
    asker, target = with_child(kernel)
    govern(kernel, STOP)
    kernel.call("env.switch", name="staging", reason="a test")
    request, _ = held(kernel, asker.pid, target=target)
    tell(kernel, asker.pid, do="stop", pid=asker.pid)
    number = waiting(kernel)
    shown, rows = kernel.call("governance.show"), pending(kernel, all=True)
    if victim == "kernel":
        kernel.kill()
        kernel.start()
    else:
        service = next(one.os_pid for one in kernel.call("kernel.services") if one.name == "service")
        os.kill(service, signal.SIGKILL)
        kernel.until(lambda: "service.start" in kernel.kinds())
    assert kernel.call("governance.show") == shown
    again = pending(kernel, all=True)
    assert [(row.request, row.state, row.permit) for row in again] == [(r.request, r.state, r.permit) for r in rows]
    as_the_log_says(kernel)
    if victim == "kernel":
        with pytest.raises(WrongState, match="has ended"):
            kernel.call("gate.approve", request=number)
        return
    under = {"do": "under", "request": request, "then": {"do": "stop", "pid": target}}
    assert tell(kernel, asker.pid, **under) is True
    assert kernel.call("gate.deny", request=number, reason="no").state == "refused"
    as_the_log_says(kernel)


def test_an_intent_without_outcome_shows(kernel, tmp_path):
    """The kernel is killed between the permit and the act."""
    asker = kernel.spawn("tester", sandbox={"readable": [str(tmp_path)]})
    kernel.until(lambda: len(records(kernel, "gate.outcome")) == 1)
    assert list(orphans(kernel.events())) == []
    spawn = {"do": "spawn"}
    # The child stays silent, so the spawn is under way when the kernel dies.
    silent = tmp_path / "silent.py"
    silent.write_text("import signal\nsignal.pause()\ndef main(ctx): pass\n")
    kernel.call("agent.send", pid=asker.pid, message=spawn | {"program": str(silent)}, wait=False)
    kernel.until(lambda: len(records(kernel, "agent.spawn")) == 2)
    kernel.kill()
    done = subprocess.run(
        [sys.executable, "-m", "weftos.cli.main", "gate", "history", "--orphans", "--json"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert '"action":"agent.spawn"' in done.stdout
    found = list(orphans(kernel.events()))
    assert [one.payload["pid"] for one in found] == [asker.pid]
    kernel.start()


def test_switching_and_superseding_are_refused_with_a_reason(kernel):
    with pytest.raises(InvalidRequest, match="development, staging, production"):
        kernel.call("env.switch", name="moon", reason="a test")
    with pytest.raises(InvalidRequest, match="threshold"):
        kernel.call("env.switch", name="lab", fields={"risk_threshold": 7.0}, reason="a test")
    with pytest.raises(InvalidRequest, match="another name"):
        kernel.call("env.switch", name="production", fields={"risk_threshold": 1.0}, reason="a test")
    with pytest.raises(InvalidRequest):
        kernel.call("governance.supersede", change={"previous": "eA=="})
    with pytest.raises(InvalidRequest):
        kernel.call("gate.approve", request=5)
    assert kernel.call("env.switch", name="lab", fields={"risk_threshold": 0.2}, reason="a test").name == "lab"
    assert [one.name for one in kernel.call("env.list").environments if one.active] == ["lab"]
    kernel.call("env.switch", name="default", reason="a test")
    assert kernel.call("governance.show").environment.risk_threshold == 0.7


def test_an_async_agent_goes_on_while_a_person_decides(kernel, tmp_path):
    program = tmp_path / "patient.py"
    program.write_text(
        "import asyncio\n"
        "async def main(ctx):\n"
        "    asking = asyncio.create_task(ctx.service.require('agent.stop', {'target': 9}, wait_s=30))\n"
        "    async for message in ctx:\n"
        "        if message.payload == 'held?':\n"
        "            held = await asking\n"
        "            await ctx.reply(message, [held.request, len(held.token)])\n"
        "        else:\n"
        "            await ctx.reply(message, asking.done())\n"
    )
    govern(kernel, STOP)
    agent = kernel.call("agent.spawn", program=str(program), restart="never")
    number = waiting(kernel)
    ask = {"pid": agent.pid, "timeout_secs": 20.0, "timeout": 25.0}
    assert kernel.call("agent.send", message="busy?", **ask).reply is False
    kernel.call("gate.approve", request=number)
    assert kernel.call("agent.send", message="held?", **ask).reply == [number, 52]
