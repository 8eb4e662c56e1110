"""Control groups of the system, with a real kernel, in a group that is made for the test; it takes root."""

import os
import re
import secrets
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from waiting import await_end

from weftos.config import SandboxSection
from weftos.governance.capability import ResourceLimits
from weftos.kernel import groups as kernel_groups
from weftos.sandbox import group_choice, seccomp
from weftos.sandbox.groups import ControlGroup, mount_of, own_path

GRACE_S = 10.0


@pytest.fixture
def hierarchy():
    """Where version 2 is mounted; it is, for the test, if it is not."""
    if os.geteuid() != 0:
        pytest.skip("only root changes control groups here")
    found = mount_of(Path("/proc/self/mountinfo").read_text())
    if found is not None and found[1] == "/" and os.access(found[0], os.W_OK):
        yield found[0]
        return
    folder = tempfile.mkdtemp(prefix="wcg-")
    try:
        done = subprocess.run(["mount", "-t", "cgroup2", "none", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cgroup v2 cannot be mounted: {done.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        os.rmdir(folder)


@pytest.fixture
def group(hierarchy):
    """A new group."""
    try:
        made = ControlGroup(hierarchy).child(f"weftos-test-{secrets.token_hex(6)}")
    except OSError as error:
        pytest.skip(f"no group can be made: {error}")
    try:
        yield made
    finally:
        made.kill()
        _until_empty(made)
        for one in made.children(""):
            assert one.remove(), one
        assert made.remove()


def _until_empty(group):
    """Wait until nothing is in a group and below."""
    import select

    with open(group.folder / "cgroup.events") as events:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        while "populated 1" in (events.seek(0), events.read())[1]:
            assert poller.poll(GRACE_S * 1000), "processes stay in the group"


@pytest.fixture
def grouped(cold, group):
    """A running kernel whose agents get groups in one that is named."""
    cold.home.ensure()
    cold.home.config.write_text(f'[sandbox]\ncgroup = "/{group.folder.name}"\n')
    cold.start()
    return cold


def place_of(os_pid):
    return own_path(Path(f"/proc/{os_pid}/cgroup").read_text())


def detail(kernel, agent):
    return kernel.call("agent.inspect", pid=agent.pid)


def measure(kernel, agent, name):
    return next(one for one in detail(kernel, agent).confinement if one.name == name)


def do(kernel, agent, **order):
    return kernel.call("agent.send", pid=agent.pid, message=order, timeout_secs=15.0).reply


def test_an_agent_is_in_a_group_of_its_own_from_its_first_step(grouped, group):
    one = grouped.spawn("tester", name="one")
    two = grouped.spawn("tester", name="two")
    places = [place_of(agent.os_pid) for agent in (one, two)]
    assert len(set(places)) == 2
    assert all(f"/{group.folder.name}/weftos-" in place for place in places)
    assert place_of(grouped.os_pid) != places[0]
    assert measure(grouped, one, "control group").state == "enforced"
    assert seccomp.notifies() == (measure(grouped, one, "refused calls").state == "enforced")
    assert "cgroup v2" in measure(grouped, one, "memory").detail
    assert do(grouped, one, do="call", to=two.pid, payload={"do": "who"})[0] == two.pid
    assert detail(grouped, one).usage["cpu_seconds"] > 0
    again = grouped.call("agent.restart", pid=one.pid)
    assert place_of(again.os_pid).endswith(".2")
    grouped.until(lambda: len(group.children("weftos-")) == 2)
    for agent in (one, two):
        grouped.call("agent.stop", pid=agent.pid)
    grouped.until(lambda: not group.children("weftos-"))


def test_what_left_its_session_ends_with_the_agent(grouped, group):
    agent = grouped.spawn("tester", limits={"processes": 0})
    do(grouped, agent, do="orphan")
    output = Path(detail(grouped, agent).log_path)
    child = int(grouped.until(lambda: re.search(r"^orphan (\d+)$", output.read_text(), re.MULTILINE)).group(1))
    assert child in _processes(group)
    assert os.getsid(child) != agent.os_pid
    handle = os.pidfd_open(child)
    os.kill(agent.os_pid, signal.SIGKILL)
    assert await_end(agent.os_pid)
    assert await_end(child)
    os.close(handle)
    # Not by the search for strays, which comes once a second.
    grouped.until(lambda: not group.children("weftos-"))
    assert f"OS process {child}, left behind" not in grouped.log()


def _processes(group):
    return [os_pid for one in group.children("weftos-") for os_pid in one.processes()]


def test_what_a_killed_kernel_left_in_groups_is_ended_by_the_next(grouped, group):
    agent = grouped.spawn("tester", limits={"processes": 0})
    do(grouped, agent, do="fork", n=2)
    do(grouped, agent, do="orphan")
    left = grouped.until(lambda: _processes(group)[3:] and _processes(group))
    grouped.kill()
    grouped.start()
    assert all(await_end(os_pid) for os_pid in left)
    grouped.until(lambda: not group.children("weftos-"))


def test_a_group_that_is_not_there_is_said_and_agents_run_without(cold):
    cold.home.ensure()
    cold.home.config.write_text('[sandbox]\ncgroup = "/not/there"\n')
    cold.start()
    agent = cold.spawn("echo")
    assert "control groups are not used" in cold.log()
    assert not [one for one in detail(cold, agent).confinement if one.name == "control group"]


def test_a_kernel_in_its_own_group_becomes_a_leaf_to_hand_out_controllers(hierarchy, group, monkeypatch):
    """With whatever controller this machine has for version 2; the rule about leaves is the same for all of them."""
    offered = group.offered()
    if not offered:
        pytest.skip("no controller is offered here")
    monkeypatch.setattr(kernel_groups, "WANTED", (offered[0],))
    monkeypatch.setattr(group_choice, "WANTED", (offered[0],))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            group.add(os.getpid())
            assert group.hand([offered[0]]), "the rule about leaves does not hold"
            agents = kernel_groups.AgentGroups("/somewhere")
            assert agents.begin(SandboxSection(cgroup="own")) == []
            assert agents.controllers == (offered[0],)
            assert place_of(os.getpid()).endswith("-kernel")
            made = agents.make(1, 1, ResourceLimits(), SandboxSection())
            agents.close(made)
            agents.end()
            assert place_of(os.getpid()).endswith(group.folder.name)
            assert not group.handed()
            assert not group.children("weftos-")
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
