"""The reader of the system's audit: whose a refusal was, in the order in which the system tells it."""

import asyncio
import os
import socket
from types import SimpleNamespace

import pytest

from weftos import limits
from weftos.agent.frames import SpawnSpec
from weftos.events.registry import check_payload
from weftos.kernel.audit_reader import AuditReader
from weftos.kernel.process import ProcessTable
from weftos.kernel.refusals import RefusalDesk
from weftos.sandbox.audit import ACCESS, DOMAIN
from weftos.sandbox.measure import Measure


@pytest.fixture
def told():
    return []


@pytest.fixture
def reader(told):
    return AuditReader({300: "one", 400: "two"}.get, lambda agent, denial: told.append((agent, denial.about)))


def refuse(reader, domain, path):
    reader.take(ACCESS, f'audit(1729738800.268:30): domain={domain:x} blockers=fs.read_file path="{path}"')


def make(reader, domain, os_pid):
    reader.take(DOMAIN, f"audit(1729738800.268:30): domain={domain:x} status=allocated mode=enforcing pid={os_pid}")


def end(reader, domain):
    reader.take(DOMAIN, f"audit(1729738800.999:31): domain={domain:x} status=deallocated denials=3")


def test_a_refusal_waits_until_it_is_told_whose_it_is(reader, told):
    refuse(reader, 7, "/a")
    refuse(reader, 8, "/b")
    assert told == []
    make(reader, 8, 400)
    make(reader, 7, 300)
    refuse(reader, 7, "/c")
    assert told == [("two", "/b"), ("one", "/a"), ("one", "/c")]


def test_what_other_programs_are_refused_is_dropped_and_bounded(reader, told):
    make(reader, 9, 55)
    for number in range(3 * limits.AUDIT_WAITING_MAX):
        refuse(reader, 9, "/x")
        refuse(reader, 1000 + number, "/y")
    assert told == []
    assert len(reader._waiting) <= limits.AUDIT_WAITING_MAX
    assert all(len(found) <= limits.AUDIT_WAITING_MAX for found in reader._waiting.values())
    # However many others there are, that of an agent is known as long as it lives.
    make(reader, 7, 300)
    for number in range(3 * limits.AUDIT_WAITING_MAX):
        make(reader, 5000 + number, 55)
    refuse(reader, 7, "/a")
    assert told == [("one", "/a")]


def test_a_domain_that_is_gone_is_forgotten(reader, told):
    make(reader, 7, 300)
    end(reader, 7)
    refuse(reader, 7, "/a")
    assert told == []
    assert not reader._owners


# --- what the desk makes of it --------------------------------------------------------------------------------------


class Life:
    """An agent as the desk sees it, and what is put on the log; its process is this one."""

    def __init__(self):
        self.told = []
        self.entry = ProcessTable().add(SpawnSpec(program="echo", name="one"), 1.0)
        self.entry.os_pid = os.getsid(0)
        self.entry.measures = [Measure("files", "enforced")]
        agent = SimpleNamespace(entry=self.entry, listener=None, pid=self.entry.pid)
        core = SimpleNamespace(
            by_os_pid={self.entry.os_pid: agent},
            record=lambda kind, payload, **_: self.told.append((kind, payload)),
        )
        self.core, self.agent, self.desk = core, agent, RefusalDesk(core)
        records, self.sender = socket.socketpair()
        self.desk.audit.begin(records, "")
        self.desk.confined(agent, "", 1729738800.2685)

    def refuse(self, path, ms=300):
        said = f'domain=7 blockers=fs.read_file path="{path}"'
        self.desk.audit.take(ACCESS, f"audit(1729738800.{ms:03d}:30): {said}")

    def end(self):
        del self.core.by_os_pid[self.entry.os_pid]
        self.desk.end(self.agent, self.entry.os_pid)

    def close(self):
        self.desk.close()
        self.sender.close()


@pytest.fixture
def life():
    async def run(body):
        one = Life()
        try:
            body(one)
        finally:
            one.close()

    return lambda body: asyncio.run(run(body))


def test_what_the_runtime_tries_shows_that_it_is_told_and_is_on_no_record(life):
    def body(one):
        assert "tells nothing" in one.desk.shown(one.entry).paths
        make(one.desk.audit, 7, one.entry.os_pid)
        one.refuse("/home/of/the/kernel", ms=268)
        assert one.desk.shown(one.entry).paths == "recorded"
        assert one.told == []
        one.refuse("/etc/shadow", ms=269)
        ((kind, payload),) = one.told
        assert (kind, payload["what"], payload["name"]) == ("agent.refused", "path", "fs.read_file")
        assert (payload["about"], payload["os_pid"]) == ("/etc/shadow", one.entry.os_pid)
        check_payload(kind, payload)

    life(body)


def test_a_domain_of_a_child_belongs_to_its_agent_and_paths_are_cut(life):
    def body(one):
        make(one.desk.audit, 7, os.getpid())
        one.refuse("/" + "x" * 4000)
        assert len(one.told[0][1]["about"]) == limits.REFUSAL_ABOUT_CHARS

    life(body)


def test_what_is_told_when_the_agent_has_ended_is_recorded_of_its_life(life):
    def body(one):
        make(one.desk.audit, 7, one.entry.os_pid)
        one.refuse("/a")
        one.refuse("/a")
        one.end()
        one.entry.os_pid = None
        one.refuse("/b")
        kinds = [kind for kind, _ in one.told]
        assert kinds == ["agent.refused", "agent.refusals", "agent.refused"]
        assert one.told[1][1]["counts"][0]["count"] == 1
        assert {payload["os_pid"] for _, payload in one.told} == {os.getsid(0)}
        for kind, payload in one.told:
            check_payload(kind, payload)

    life(body)
