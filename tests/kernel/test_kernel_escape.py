"""Agents that go around their client library to be somebody else, to do more, or to keep others from being served.

What they try against files, network and other processes is in ``test_kernel_sandbox``; ``docs/security.md`` maps both.
"""

import os
import platform
import signal
import threading

import pytest
from governed import govern, own_rule, records

from weftos.errors import AgentExited


@pytest.fixture
def kernel(shared):
    """One kernel for all; who needs one of its own takes ``fresh``."""
    return shared


def deed(kernel, agent, *words, timeout=20.0):
    return kernel.call(
        "agent.send", pid=agent.pid, message=list(words), timeout_secs=timeout, timeout=timeout + 5
    ).reply


@pytest.fixture
def pair(kernel):
    return two_of(kernel)


def two_of(kernel):
    return kernel.spawn("impostor", name="one"), kernel.spawn("impostor", name="two")


def permit(kernel, agent, action, context):
    """Have a person approve something for an agent; returns the token."""
    found = {}
    asking = threading.Thread(target=lambda: found.update(deed(kernel, agent, "hold", action, context, 15.0)))
    asking.start()
    number = kernel.until(lambda: kernel.call("gate.pending").requests)[0].request
    kernel.call("gate.approve", request=number, reason="a test")
    asking.join(30)
    return found["done"]


def test_a_sender_is_who_holds_the_ring_whatever_the_message_says(kernel, pair):
    one, two = pair
    for claimed in (0, two.pid, 99):
        assert deed(kernel, one, "forge", two.pid, claimed)["done"]
    seen = kernel.until(lambda: len(found := deed(kernel, two, "seen")["done"]) == 3 and found)
    assert {sender for sender, _, _ in seen} == {one.pid}
    assert {again for _, _, again in seen} == {0}
    assert len({name for _, name, _ in seen}) == 3


def test_what_an_agent_says_of_its_confinement_counts_before_its_program_runs_only(kernel):
    agent = kernel.spawn("impostor", sandbox={"profile": "trusted"})
    before = kernel.call("agent.inspect", pid=agent.pid)
    assert deed(kernel, agent, "claim to be confined")["done"]
    assert deed(kernel, agent, "who")["done"] == [agent.pid, 1]
    after = kernel.call("agent.inspect", pid=agent.pid)
    assert (after.confinement, after.isolation) == (before.confinement, before.isolation)
    assert len(records(kernel, "agent.confined")) == len(records(kernel, "agent.ready")) == 1


def test_nobody_asks_in_the_name_of_another(kernel, pair):
    one, two = pair
    for pid in (0, two.pid):
        answer = deed(kernel, one, "ask for another", pid, "tool.exec")
        assert answer["error"] == "ipc.protocol", answer
    assert deed(kernel, one, "ask for another", one.pid, "kernel.shutdown")["done"] == "Deny"
    denied = records(kernel, "gate.deny")
    assert [(one.subject, one.payload["action"]) for one in denied][-1] == (f"agent:{one.pid}", "kernel.shutdown")


def test_claims_in_the_context_only_make_it_worse(fresh):
    one, _ = two_of(fresh)
    govern(fresh, own_rule("require_approval", "tool.fs.move", above={"risk": 0.4}))
    nothing = {"path": "/srv/x", "effect": {"risk": 0.0, "security": 0.0}}
    for context in (nothing, {"agent_id": 0, "pid": 0, "path": "/srv/y"}, {"environment": "development", "path": "/z"}):
        assert deed(fresh, one, "gate", "tool.fs.move", context)["done"] == "Defer", context
    assert deed(fresh, one, "gate", "tool.fs.stat", {"path": "/srv/x", "effect": {"risk": 1.0}})["done"] != "Permit"
    for effect in ({"risk": -1.0}, {"risk": "low"}, {"unknown": 0.0}, "none", None, {"risk": 1e400}):
        assert deed(fresh, one, "gate", "tool.fs.move", {"path": "/a", "effect": effect})["done"] != "Permit", effect


def test_a_permit_is_good_for_its_holder_its_life_its_facts_and_once(fresh):
    one, two = two_of(fresh)
    govern(fresh, own_rule("require_approval", "tool.fs.move"))
    facts = {"path": "/srv/x"}
    token = permit(fresh, one, "tool.fs.move", facts)
    altered = token[:-2] + ("00" if token[-2:] != "00" else "01")
    for agent, action, context, shown in (
        (two, "tool.fs.move", facts, token),  # another's
        (one, "tool.fs.move", {"path": "/srv"}, token),  # for something else
        (one, "tool.fs.copy", facts, token),
        (one, "tool.fs.move", facts, altered),
        (one, "tool.fs.move", facts, "00" * (len(token) // 2)),
    ):
        assert deed(fresh, agent, "use", action, context, shown)["error"] == "gate.denied", (agent.name, action)
    assert deed(fresh, one, "use at once", "tool.fs.move", facts, token, 16)["done"].count("Permit") == 1
    assert len(records(fresh, "permit.use")) == 1
    token = permit(fresh, one, "tool.fs.move", facts)
    govern(fresh, own_rule("deny", "tool.other", name="OPS-002"))
    assert deed(fresh, one, "use", "tool.fs.move", facts, token)["error"] == "gate.denied", "the rules have changed"
    assert len(records(fresh, "permit.use")) == 1


def test_a_permit_ends_with_the_life_that_got_it(fresh):
    agent = fresh.spawn("impostor", restart="on-failure")
    govern(fresh, own_rule("require_approval", "tool.fs.move"))
    token = permit(fresh, agent, "tool.fs.move", {"path": "/srv/x"})
    os.kill(agent.os_pid, signal.SIGKILL)
    fresh.until(lambda: fresh.call("agent.inspect", pid=agent.pid).incarnation == 2)
    answer = fresh.until(lambda: _once_more(fresh, agent, token))
    assert answer["error"] == "gate.denied"
    assert not records(fresh, "permit.use")


def _once_more(kernel, agent, token):
    try:
        return deed(kernel, agent, "use", "tool.fs.move", {"path": "/srv/x"}, token)
    except AgentExited:
        return None


def test_nothing_passes_after_a_revoke_has_returned(kernel, pair):
    one, two = pair
    told = {}
    hammering = threading.Thread(
        target=lambda: told.update(deed(kernel, one, "hammer", two.pid, 10_000_000, timeout=60.0))
    )
    hammering.start()
    kernel.until(lambda: deed(kernel, two, "count")["done"] > 1000)
    kernel.call("capability.revoke", pid=one.pid, rights=["can_ipc"], reason="it talks too much")
    # Whatever the reader had not taken by now goes to the dead letters; from here on nothing arrives.
    seen = deed(kernel, two, "count")["done"]
    hammering.join(60)
    assert told["done"][1] in {"gate.capability", "gate.denied", "ipc.channel_closed"}, told
    assert deed(kernel, two, "count")["done"] == seen
    assert deed(kernel, one, "hammer", two.pid, 1)["done"][0] == 0
    assert "capability.revoke" in kernel.kinds()


def test_who_floods_the_gate_slows_himself_alone(kernel, pair):
    one, two = pair
    flooding = threading.Thread(target=lambda: deed(kernel, one, "flood the gate", 60, timeout=60.0))
    flooding.start()
    for number in range(20):
        # Each of these waits for a round of the service at most, not for the end of the flood.
        assert deed(kernel, two, "gate", "tool.exec", {"n": number}, timeout=10.0)["done"] in {
            "Permit",
            "Deny",
            "Defer",
        }
    flooding.join(60)
    kinds = kernel.kinds()
    assert sum(kind in {"gate.permit", "gate.deny", "gate.defer"} for kind in kinds) >= 60 * 64


#: Attempts of the program ``escapist``, and the refused call that each of them comes to.
CALLS = {
    "chmod": "chmod fchmodat", "fchmod": "fchmod", "utime": "utimensat", "chown": "chown fchownat",
    "connect to a port": "socket", "send a datagram": "socket", "connect to a file": "socket",
    "send from a pair": "socketpair", "netlink": "socket", "raw": "socket",
    "trace": "ptrace", "copy memory": "process_vm_readv", "steal a descriptor": "pidfd_getfd",
    "limits of another": "prlimit64", "priority of another": "setpriority",
    "cores of another": "sched_setaffinity", "be looked into": "prctl", "outlive the kernel": "prctl",
    "mount": "mount", "namespace": "unshare", "change root": "chroot", "ring of requests": "io_uring_setup",
    "bpf": "bpf", "keys": "keyctl", "clock": "clock_settime", "shared memory by key": "shmget",
    "execute": "execve",
}  # fmt: skip
#: Those that Landlock refuses, and what it names as lacking.
RIGHTS = {
    "read": "fs.read_file", "write": "fs.write_file", "list": "fs.read_dir", "make folder": "fs.make_dir",
    "truncate": "fs.truncate", "signal": "scope.signal",
}  # fmt: skip


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the program's calls have other numbers")
@pytest.mark.parametrize("profile", ["standard", "strict"])
def test_what_the_system_refuses_is_on_the_log_as_far_as_the_machine_tells(kernel, profile, tmp_path):
    agent = kernel.spawn("escapist", sandbox={"profile": profile}, limits={"processes": 0})
    secret = tmp_path / "secret"
    secret.write_text("secret")
    words = {
        "connect to a port": [9], "send a datagram": [9], "make folder": [str(tmp_path / "new")],
        "list": [str(tmp_path)], "connect to a file": [str(kernel.home.socket)],
        "send from a pair": [str(kernel.home.socket)], "execute": ["/bin/echo", "x"],
    }  # fmt: skip
    words |= {name: [str(secret)] for name in ("chmod", "utime", "chown", "read", "write", "truncate")}
    at_the_kernel = (
        "trace",
        "copy memory",
        "steal a descriptor",
        "signal",
        *(n for n in CALLS if n.endswith("another")),
    )
    words |= {name: [kernel.os_pid] for name in at_the_kernel} | {"fchmod": ["program.py"]}
    tried = [name for name in (*CALLS, *RIGHTS) if profile == "strict" or name != "execute"]
    assert "done" in kernel.call("agent.send", pid=agent.pid, message=["write", "program.py"], timeout_secs=15.0).reply
    for name in tried:
        message = [name, *words.get(name, ())]
        answer = kernel.call("agent.send", pid=agent.pid, message=message, timeout_secs=15.0).reply
        assert answer.get("refused") in {"EPERM", "EACCES"}, (name, answer)
    told = kernel.call("agent.inspect", pid=agent.pid).refusals
    shown = {one.name for one in told.counts if one.what == "syscall"}
    # A record is written beside the answer that the agent gets.
    kernel.until(lambda: shown <= _names(kernel, "syscall"))
    seen = _names(kernel, "syscall")
    assert seen == shown
    if told.calls == "recorded":
        assert [name for name in tried if name in CALLS and not seen & set(CALLS[name].split())] == []
    else:
        assert "seen by the agent alone, because" in told.calls
    if told.paths == "recorded":
        kernel.until(lambda: set(RIGHTS.values()) <= _names(kernel, "path", "signal"))
    else:
        assert "seen by the agent alone, because" in told.paths


def _names(kernel, *what):
    told = [one.payload for one in records(kernel, "agent.refused") if one.payload["what"] in what]
    return {name for payload in told for name in payload["name"].split(",")}
