"""The kernel holds what its log adds up to: after every operation, and with nothing else to compare it with.

Every other test of this folder ends with the same comparison, see ``conftest.cold``.
"""

from __future__ import annotations

import json
import os
import random
import signal
from contextlib import suppress

import pytest
from click.testing import CliRunner

from weftos import chain
from weftos.cli.main import root
from weftos.errors import WeftError
from weftos.kernel import folding
from weftos.kernel.folding import Fold, differences


def tell(kernel, pid, /, **payload):
    return kernel.call("agent.send", pid=pid, message=payload, timeout_secs=10.0).reply


def audited(kernel):
    """What the kernel holds, compared with its log."""
    kernel.audit()
    return kernel.call("kernel.state")


class Operations:
    """Everything that can be done to a kernel, on agents chosen by chance."""

    def __init__(self, kernel, seed):
        self.kernel = kernel
        self.chance = random.Random(seed)

    def agents(self, *states):
        return [one for one in self.kernel.call("kernel.state").agents if one.state in (states or ("running",))]

    def one(self, *states):
        found = self.agents(*states)
        return self.chance.choice(found).pid if found else None

    def spawn(self):
        self.kernel.spawn("tester", restart=self.chance.choice(["never", "on-failure"]))

    def spawn_child(self):
        return (pid := self.one()) and tell(self.kernel, pid, do="spawn", program="echo")

    def stop(self):
        return (pid := self.one("running", "suspended")) and self.kernel.call("agent.stop", pid=pid)

    def kill(self):
        victims = [one for one in self.agents() if one.os_pid]
        if not victims:
            return None
        victim = self.chance.choice(victims)
        os.kill(victim.os_pid, signal.SIGKILL)
        # Its end has been seen when it is gone, or lives again.
        return self.kernel.until(
            lambda: (
                not any(
                    (one.pid, one.incarnation) == (victim.pid, victim.incarnation) for one in self.agents("running")
                )
            )
        )

    def restart(self):
        ended = [row.pid for row in self.kernel.call("agent.list", all=True)]
        return ended and self.kernel.call("agent.restart", pid=self.chance.choice(ended))

    def suspend(self):
        return (pid := self.one()) and self.kernel.call("agent.suspend", pid=pid)

    def resume(self):
        return (pid := self.one("suspended")) and self.kernel.call("agent.resume", pid=pid)

    def send(self):
        return (pid := self.one()) and tell(self.kernel, pid, do="send", to=self.one(), payload="x")

    def grow(self):
        return (pid := self.one()) and tell(self.kernel, pid, do="send_big", to=self.one(), n=300_000)

    def subscribe(self):
        return (pid := self.one()) and tell(self.kernel, pid, do="subscribe", topic=self.chance.choice("ab"))

    def unsubscribe(self):
        return (pid := self.one()) and tell(self.kernel, pid, do="unsubscribe", topic=self.chance.choice("ab"))

    def publish(self):
        return (pid := self.one()) and tell(self.kernel, pid, do="publish", topic=self.chance.choice("ab"), payload="p")

    def broadcast(self):
        return (pid := self.one()) and tell(self.kernel, pid, do="broadcast", payload="b")

    def serve(self):
        return (pid := self.one()) and tell(self.kernel, pid, do="serve", name=self.chance.choice("st"))

    def monitor(self):
        return (pid := self.one()) and tell(self.kernel, pid, do="monitor", pid=self.one())

    def lose(self):
        return (pid := self.one()) and tell(self.kernel, pid, do="send", to=4000, payload="nobody")

    def restart_service(self):
        return self.kernel.call("kernel.restart-service", name="service")

    def step(self):
        name = self.chance.choice(ALL)
        with suppress(WeftError):  # what is refused must leave kernel and log in agreement, too
            getattr(self, name)()
        return name


ALL = [name for name in vars(Operations) if not name.startswith("_") and name not in ("agents", "one", "step")]


@pytest.mark.parametrize("seed", [1, 2])
def test_after_each_operation_kernel_and_log_agree(kernel, seed):
    operations = Operations(kernel, seed)
    steps = []
    for _ in range(3):
        kernel.spawn("tester")
    for _ in range(40):
        steps.append(operations.step())
        try:
            audited(kernel)
        except AssertionError as error:
            raise AssertionError(f"after {steps}: {error}") from error


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 11))
def test_after_many_operations_kernel_and_log_agree(kernel, seed):
    operations = Operations(kernel, seed)
    for _ in range(200):
        operations.step()
        audited(kernel)


def test_a_change_without_a_record_shows(kernel):
    """Leave each record out in turn: whatever it changed is missed."""
    a, b = kernel.spawn("tester"), kernel.spawn("tester")
    tell(kernel, b.pid, do="subscribe", topic="t")
    tell(kernel, a.pid, do="publish", topic="t", payload="x")
    tell(kernel, a.pid, do="send", to=b.pid, payload="x")
    tell(kernel, a.pid, do="serve", name="s")
    tell(kernel, a.pid, do="monitor", pid=b.pid)
    with pytest.raises(WeftError):
        kernel.call("agent.send", pid=4000, message="nobody")
    kernel.call("agent.suspend", pid=b.pid)
    held = audited(kernel)
    records = list(chain.read(str(kernel.home.chain), stop=held.seq + 1))
    boot = bytes.fromhex(held.boot_id)
    missed = set()
    for leave_out in records:
        rest = [record for record in records if record is not leave_out]
        try:
            found = differences(held, Fold(boot).take_all(rest))
        except KeyError:
            found = ["the log makes no sense"]
        if any(not line.startswith("seq") for line in found):
            missed.add(leave_out.kind)
    assert missed >= {
        "agent.spawn", "agent.ready", "agent.suspend", "agent.monitor", "ipc.grant", "ipc.subscribe", "ipc.publish",
        "service.register", "witness.start",
    }  # fmt: skip


def test_the_audit_command_says_so(kernel, monkeypatch):
    kernel.spawn("echo")
    monkeypatch.setenv("WEFTOS_HOME", str(kernel.home.root))
    shown = CliRunner().invoke(root, ["kernel", "audit"])
    assert (shown.exit_code, "kernel and log agree" in shown.output) == (0, True), shown.output
    found = json.loads(CliRunner().invoke(root, ["kernel", "audit", "--json"]).stdout)
    assert (found["agrees"], found["differences"], len(found["held"]["agents"])) == (True, [], 1)
    with monkeypatch.context() as patch:
        patch.delitem(folding._RULES, "agent.spawn")
        lying = CliRunner().invoke(root, ["kernel", "audit"])
    assert lying.exit_code == 5
    assert "the kernel alone has AgentHeld(pid=1" in lying.output
