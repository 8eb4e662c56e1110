"""The service process dies under load: nothing acknowledged is lost or doubled, and the gate is shut meanwhile."""

from __future__ import annotations

import os
import signal

import pytest

from weftos import chain
from weftos.errors import GateUnavailable, ServiceUnavailable


def service_pid(kernel):
    return next(s.os_pid for s in kernel.call("kernel.services") if s.name == "service")


@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_no_acknowledged_append_is_lost_or_doubled(kernel, tmp_path, kills):
    files = [tmp_path / f"acks{n}" for n in range(3)]
    agents = [kernel.spawn("appender", args=[str(path)], sandbox={"writable": [str(tmp_path)]}) for path in files]
    for _ in range(kills):
        size = sum(path.stat().st_size for path in files if path.exists())
        kernel.until(lambda size=size: sum(path.stat().st_size for path in files if path.exists()) > size + 500)
        victim = kernel.until(lambda: service_pid(kernel))
        os.kill(victim, signal.SIGKILL)
        kernel.until(lambda victim=victim: service_pid(kernel) not in (None, victim))
    for agent in agents:
        assert kernel.call("agent.inspect", pid=agent.pid).restarts == 0
        kernel.call("agent.stop", pid=agent.pid, timeout_secs=10.0)
    kernel.stop()
    by_seq = {record.seq: record for record in chain.read(str(kernel.home.chain))}
    for agent, path in zip(agents, files, strict=True):
        acked = [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
        assert acked
        for n, seq in acked:
            assert by_seq[seq].payload == {"n": n, "by": agent.pid}
        numbers = [r.payload["n"] for r in by_seq.values() if r.kind == "app.test" and r.payload["by"] == agent.pid]
        assert sorted(numbers) == list(range(len(numbers))), "an event is there twice, or one is missing"
    assert sum(r.kind == "service.exit" for r in by_seq.values()) == kills
    assert chain.verify(str(kernel.home.chain)).valid


def test_the_gate_is_shut_while_the_service_is_down(cold):
    """Suspended, the service cannot answer: a spawn must not happen, and says why."""
    cold.start_with(CONTROL_TIMEOUT_S=1.0)
    pid = service_pid(cold)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises((GateUnavailable, ServiceUnavailable), match="not done"):
            cold.call("agent.spawn", timeout=40.0, program="echo")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert cold.call("agent.list") == []
    assert cold.spawn("echo").pid


def test_agents_go_on_talking_while_the_service_is_down(kernel):
    echo, asker = kernel.spawn("echo"), kernel.spawn("asker")
    ask = {"to": echo.pid, "n": 5}
    assert kernel.call("agent.send", pid=asker.pid, message=ask).reply == list(range(5))
    pid = service_pid(kernel)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert kernel.call("agent.send", pid=asker.pid, message=ask).reply == list(range(5))
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_agent_may_append_only_its_own_kinds(kernel):
    agent = kernel.spawn("tester")

    def append(kind):
        message = {"do": "append", "kind": kind, "n": 1}
        return kernel.call("agent.send", pid=agent.pid, message=message, timeout_secs=10.0).reply

    assert isinstance(append("app.note")[0], int)
    assert append("boot.ready")["error"] == "chain.append_refused"
    assert append("agent.spawn")["error"] == "chain.append_refused"
    record = next(r for r in kernel.events() if r.kind == "app.note")
    assert str(agent.pid) in record.source


def test_the_gate_answers_agents_by_who_they_are_not_by_what_they_claim(kernel):
    agent = kernel.spawn("tester", capabilities={"can_exec_tools": False})

    def gate(action, **context):
        message = {"do": "gate", "action": action, "context": context}
        return kernel.call("agent.send", pid=agent.pid, message=message, timeout_secs=10.0).reply

    assert gate("tool.exec", pid=0, agent_id="0") == "Deny"
    assert gate("agent.spawn") == "Permit"
    assert gate("no.such.action") == "Deny"
    assert gate("kernel.shutdown") == "Deny"
    kernel.until(lambda: "gate.deny" in kernel.kinds())


def test_the_service_can_be_replaced_by_hand(kernel):
    old = service_pid(kernel)
    answer = kernel.call("kernel.restart-service", name="service")
    assert answer.old_pid == old
    assert answer.new_pid == service_pid(kernel) != old
    assert kernel.spawn("echo").pid == 1
    assert kernel.call("kernel.health").overall == "healthy"


@pytest.mark.parametrize("level", ["durable", "queued"])
def test_the_configuration_says_when_appends_are_answered_that_do_not(cold, level):
    cold.home.ensure()
    cold.home.config.write_text(f'[chain]\ndurability = "{level}"\n')
    cold.start()
    order = {"do": "levels", "how": [{}, {"durable": True}, {"durable": False}]}
    for program in ("tester", "levels"):
        agent = cold.spawn(program)
        answer = cold.call("agent.send", pid=agent.pid, message=order, timeout_secs=10.0)
        assert answer.reply == [level == "durable", True, False], program
