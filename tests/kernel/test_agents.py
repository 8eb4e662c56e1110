"""Lives of agents: spawn, end, restart, suspend, limits, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from weftos import chain
from weftos.errors import (
    AgentExited,
    BackendNotAvailable,
    InvalidRequest,
    ProcessNotFound,
    ProcessTableFull,
    ResourceLimitExceeded,
    SpawnFailed,
    WeftTimeout,
    WrongState,
)
from weftos.rpc.client import RpcClient


@pytest.fixture
def kernel(shared):
    """One kernel for all; who needs one of its own takes ``fresh``."""
    return shared


def tell(kernel, agent_pid, **what):
    return kernel.call("agent.send", pid=agent_pid, message=what, timeout_secs=15.0).reply


def gone(kernel, pid):
    """The exit record of an agent that has ended for good."""

    def look():
        row = next(row for row in kernel.call("agent.list", all=True) if row.pid == pid)
        return row.last_exit if row.state == "exited" else None

    return kernel.until(look)


def test_an_agent_is_a_process_of_its_own_and_answers(kernel):
    agent = kernel.spawn("echo")
    assert agent.os_pid != kernel.os_pid
    assert os.getsid(agent.os_pid) == agent.os_pid
    for payload in ("hello", {"a": [1, 2.5, None]}, [], 7):
        assert kernel.call("agent.send", pid=agent.pid, message=payload).reply == payload
    detail = kernel.call("agent.inspect", pid=agent.pid)
    assert (detail.os_pid, detail.state, detail.incarnation, detail.restarts) == (agent.os_pid, "running", 1, 0)
    assert detail.rss_bytes > 1_000_000
    assert detail.limits["memory_bytes"] == 256 * 1024 * 1024
    assert {ring.direction for ring in detail.rings} == {"in", "out"}
    assert next(ring for ring in detail.rings if ring.direction == "in").messages == 4


def test_an_agent_holds_no_descriptor_of_another(kernel):
    # Trusted: into a confined one only root could look.
    trusted = {"profile": "trusted"}
    first, second = kernel.spawn("echo", sandbox=trusted), kernel.spawn("echo", sandbox=trusted)

    def shared(os_pid):
        links = {os.readlink(f"/proc/{os_pid}/fd/{fd}") for fd in os.listdir(f"/proc/{os_pid}/fd")}
        return {link for link in links if link.startswith("socket:")}

    assert len(shared(first.os_pid)) == len(shared(second.os_pid)) == 1
    assert not shared(first.os_pid) & shared(second.os_pid)
    maps = Path(f"/proc/{second.os_pid}/maps").read_text()
    assert f"weftos-mailbox-{second.pid}" in maps
    assert f"weftos-mailbox-{first.pid}" not in maps
    assert "agents/" not in maps


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("nonsense", "unknown agent program"),
        ("/no/such/file.py", "no program file"),
        ("no_such_module:main", "No module named"),
        ("weftos.limits:no_such", "defines no function"),
    ],
)
def test_a_program_that_cannot_be_loaded_is_an_error_with_its_cause(kernel, program, error):
    with pytest.raises(SpawnFailed, match=error):
        kernel.call("agent.spawn", program=program)
    assert kernel.call("agent.list") == []


def test_bad_parameters_are_refused_by_name(kernel):
    with pytest.raises(ResourceLimitExceeded, match="memory_bytes"):
        kernel.spawn("echo", limits={"memory_bytes": 5})
    with pytest.raises(ResourceLimitExceeded, match="descriptors"):
        kernel.spawn("echo", limits={"descriptors": -1})
    with pytest.raises(InvalidRequest, match="colour"):
        kernel.spawn("echo", limits={"colour": 1})
    with pytest.raises(InvalidRequest, match="restart"):
        kernel.spawn("echo", restart="sometimes")
    with pytest.raises(BackendNotAvailable, match="wasm"):
        kernel.spawn("echo", backend="wasm")
    with pytest.raises(ProcessNotFound, match="99"):
        kernel.spawn("echo", parent_pid=99)
    with pytest.raises(ProcessNotFound):
        kernel.call("agent.inspect", pid=99)
    assert kernel.call("agent.list") == []


def test_the_table_has_a_limit_and_ended_agents_do_not_count(cold):
    cold.home.ensure()
    cold.home.config.write_text("[kernel]\nmax_processes = 2\n")
    cold.start()
    first, _second = cold.spawn("echo"), cold.spawn("echo")
    with pytest.raises(ProcessTableFull):
        cold.spawn("echo")
    cold.call("agent.stop", pid=first.pid)
    assert cold.spawn("echo").pid == 3


def test_a_message_to_a_dead_or_unknown_agent_is_an_error(kernel):
    agent = kernel.spawn("echo")
    kernel.call("agent.stop", pid=agent.pid)
    with pytest.raises(AgentExited, match="has ended"):
        kernel.call("agent.send", pid=agent.pid, message="x")
    with pytest.raises(ProcessNotFound):
        kernel.call("agent.send", pid=77, message="x")


@pytest.mark.parametrize(
    ("what", "reason", "code", "signal_name", "text"),
    [
        ({"do": "exit", "code": 0}, "normal", 0, None, "returned"),
        ({"do": "exit", "code": 3}, "crash", 3, None, "3"),
        ({"do": "raise", "text": "oh no"}, "crash", 1, None, "Crash: oh no"),
        ({"do": "signal", "name": "SIGSEGV"}, "crash", None, "SIGSEGV", "SIGSEGV"),
        ({"do": "signal", "name": "SIGKILL"}, "killed", None, "SIGKILL", "not sent by the kernel"),
        ({"do": "signal", "name": "SIGXCPU"}, "timeout", None, "SIGXCPU", "CPU"),
    ],
)
def test_every_way_to_end_has_its_exact_record(kernel, what, reason, code, signal_name, text):
    agent = kernel.spawn("tester")
    kernel.call("agent.send", pid=agent.pid, message=what, wait=False)
    record = gone(kernel, agent.pid)
    assert (record.reason, record.code, record.signal) == (reason, code, signal_name)
    assert text in record.message
    assert record.max_rss_bytes > 1_000_000
    assert record.ended_at >= record.started_at


def test_exceeding_memory_is_a_memory_error_not_a_dead_machine(kernel):
    agent = kernel.spawn("tester", limits={"memory_bytes": 64 * 1024 * 1024})
    answer = tell(kernel, agent.pid, do="allocate", bytes=200 * 1024 * 1024)
    assert answer["error"] == "MemoryError"
    assert tell(kernel, agent.pid, do="allocate", bytes=1024 * 1024) == 1024 * 1024


@pytest.mark.skipif(os.geteuid() != 0, reason="the system itself refuses other users more processes")
def test_too_many_processes_end_the_agent_and_all_of_them(kernel):
    agent = kernel.spawn("tester", limits={"processes": 4})
    if kernel.call("agent.inspect", pid=agent.pid).uid != 0:
        pytest.skip("the system itself refuses more processes to agents with a user of their own")
    kernel.call("agent.send", pid=agent.pid, message={"do": "fork", "n": 8}, wait=False)
    record = gone(kernel, agent.pid)
    assert "processes" in record.message
    kernel.until(lambda: "resource.breach" in kernel.kinds())

    def members():
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                try:
                    stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(stat[3]) == agent.os_pid:
                    found.append(int(entry))
        return found

    kernel.until(lambda: not members())


def test_a_process_that_escapes_its_session_is_ended_with_its_agent(kernel):
    agent = kernel.spawn("tester")
    assert tell(kernel, agent.pid, do="orphan") is True
    log = Path(kernel.call("agent.inspect", pid=agent.pid).log_path)
    orphan = kernel.until(lambda: [line for line in log.read_text().splitlines() if line.startswith("orphan ")])
    os_pid = int(orphan[0].split()[1])
    kernel.call("agent.stop", pid=agent.pid)
    assert kernel.await_end(os_pid, 10.0)


def test_cpu_time_runs_out(kernel):
    agent = kernel.spawn("tester", limits={"cpu_seconds": 1})
    kernel.call("agent.send", pid=agent.pid, message={"do": "spin"}, wait=False)
    record = gone(kernel, agent.pid)
    assert record.reason in ("timeout", "killed")
    assert record.cpu_user_secs + record.cpu_system_secs >= 0.5


def test_a_killed_agent_is_restarted_under_its_pid(kernel):
    agent = kernel.spawn("echo", restart="on-failure")
    os.kill(agent.os_pid, signal.SIGKILL)
    row = kernel.until(lambda: next((r for r in kernel.call("agent.list") if r.incarnation == 2 and r.os_pid), None))
    assert (row.pid, row.restarts) == (agent.pid, 1)
    assert row.os_pid != agent.os_pid
    assert row.last_exit.signal == "SIGKILL"
    assert kernel.call("agent.send", pid=agent.pid, message="again").reply == "again"
    kernel.until(lambda: "agent.restart" in kernel.kinds())


def test_a_crash_loop_ends_in_quarantine(cold):
    cold.home.ensure()
    cold.home.config.write_text("[supervisor]\nmax_restarts = 3\nbackoff_secs = 0.01\n")
    cold.start()
    with contextlib.suppress(AgentExited):  # it may be gone before the answer to the spawn is on its way
        assert cold.spawn("crash", restart="always").pid == 1
    assert gone(cold, 1).code == 9
    cold.until(lambda: "agent.escalate" in cold.kinds())
    assert cold.call("agent.inspect", pid=1).quarantined is True
    assert any("quarantined" in line for line in cold.call("kernel.health").degraded)


def test_an_operator_can_restart_the_living_and_the_dead(kernel):
    agent = kernel.spawn("echo")
    again = kernel.call("agent.restart", pid=agent.pid)
    assert (again.pid, again.incarnation) == (agent.pid, 2)
    kernel.call("agent.stop", pid=agent.pid)
    third = kernel.call("agent.restart", pid=agent.pid)
    assert (third.pid, third.incarnation) == (agent.pid, 3)
    assert kernel.call("agent.send", pid=agent.pid, message="x").reply == "x"


def test_suspend_stops_the_process_and_resume_lets_it_go_on(kernel):
    agent = kernel.spawn("echo")
    assert kernel.call("agent.suspend", pid=agent.pid).state == "suspended"
    assert Path(f"/proc/{agent.os_pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    with pytest.raises(WrongState):
        kernel.call("agent.suspend", pid=agent.pid)
    with pytest.raises(WeftTimeout, match="stays in its inbox"):
        kernel.call("agent.send", pid=agent.pid, message="later", timeout_secs=0.2)
    assert kernel.call("agent.resume", pid=agent.pid).state == "running"
    assert kernel.call("agent.send", pid=agent.pid, message="now").reply == "now"
    kernel.call("agent.suspend", pid=agent.pid)
    assert kernel.call("agent.stop", pid=agent.pid).exit.reason == "stopped"


def test_a_stubborn_agent_is_killed_at_the_deadline(kernel):
    agent = kernel.spawn("stubborn")
    answer = kernel.call("agent.stop", pid=agent.pid, timeout_secs=0.3)
    assert (answer.exit.reason, answer.exit.signal) == ("timeout", "SIGKILL")
    assert "deadline" in answer.exit.message
    other = kernel.spawn("stubborn")
    assert kernel.call("agent.stop", pid=other.pid, graceful=False).exit.reason == "killed"


def test_children_end_with_their_parent_and_monitors_are_told(kernel):
    parent = kernel.spawn("tester")
    child = tell(kernel, parent.pid, do="spawn", program="echo")
    watcher = kernel.spawn("tester")
    assert tell(kernel, watcher.pid, do="monitor", pid=parent.pid) is True
    assert kernel.call("agent.inspect", pid=child).parent_pid == parent.pid
    assert kernel.call("agent.inspect", pid=parent.pid).children == [child]
    kernel.call("agent.stop", pid=parent.pid)
    assert gone(kernel, child).reason == "stopped"
    seen = kernel.until(lambda: tell(kernel, watcher.pid, do="seen"))
    assert "MonitorDown" in seen[0]["payload"]


def test_a_child_gets_no_more_than_its_parent(kernel):
    parent = kernel.spawn("tester", limits={"memory_bytes": 128 * 1024 * 1024})
    answer = tell(kernel, parent.pid, do="spawn", program="echo", limits={"memory_bytes": 256 * 1024 * 1024})
    assert answer["error"] == "process.limit"
    leaf = kernel.spawn("tester", capabilities={"can_spawn": False})
    assert tell(kernel, leaf.pid, do="spawn", program="echo")["error"] == "gate.capability"
    kernel.until(lambda: "capability.deny" in kernel.kinds())


def test_an_async_agent_has_several_calls_under_way(kernel):
    echo = kernel.spawn("echo")
    agent = kernel.spawn("asker")
    reply = kernel.call("agent.send", pid=agent.pid, message={"to": echo.pid, "n": 50}, timeout_secs=15.0).reply
    assert reply == list(range(50))
    assert kernel.call("agent.stop", pid=agent.pid).exit.reason == "stopped"


def test_the_life_of_an_agent_is_on_the_chain_in_order(kernel):
    agent = kernel.spawn("echo")
    kernel.call("agent.suspend", pid=agent.pid)
    kernel.call("agent.resume", pid=agent.pid)
    kernel.call("agent.stop", pid=agent.pid)
    kernel.until(lambda: "agent.gone" in kernel.kinds())
    kinds = [kind.removeprefix("agent.") for kind in kernel.kinds() if kind.startswith("agent.")]
    assert kinds == ["spawn", "confined", "ready", "suspend", "resume", "stop", "exit", "gone"]
    assert chain.verify(str(kernel.home.chain)).valid


@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])])
def test_many_short_agents_leave_nothing_behind(fresh, count):
    before = len(os.listdir(f"/proc/{fresh.os_pid}/fd"))
    for _ in range(count):
        try:
            fresh.spawn("instant")
        except AgentExited:
            continue
    fresh.until(lambda: fresh.call("agent.list") == [])
    after = len(os.listdir(f"/proc/{fresh.os_pid}/fd"))
    assert after <= before + 2
    tag = fresh.call("kernel.status")
    assert tag.process_count == 0
    assert len(fresh.call("agent.list", all=True)) == min(count, 512)
    from weftos.ids import instance_tag

    names = [n for n in os.listdir("/dev/shm") if instance_tag(str(fresh.home.root)) in n]
    assert len(names) == 1, names


def test_a_stop_that_comes_while_the_spawn_is_recorded_is_obeyed(kernel):
    """An agent is in the table before its event is on the disk; whoever sees it there may stop it."""
    stopped_early = 0
    for n in range(40):
        with RpcClient(kernel.home.socket, timeout=20) as spawning, ThreadPoolExecutor(1) as pool:
            params = {"program": "echo", "name": f"brief-{n}", "restart": "never"}
            answer = pool.submit(spawning.call, "agent.spawn", params)
            with RpcClient(kernel.home.socket, timeout=20) as client:
                rows = []
                while not rows:
                    rows = [row for row in client.call("agent.list", {"all": True}) if row.name == f"brief-{n}"]
                stopped_early += rows[0].os_pid is None
                client.call("kernel.kill-process", {"pid": rows[0].pid})
            with contextlib.suppress(SpawnFailed, AgentExited):
                answer.result(timeout=20)
        kernel.until(lambda: kernel.call("agent.list") == [])
    assert stopped_early, "the moment was never met"
    assert "failed inside the kernel" not in kernel.log()


def test_a_child_whose_parent_ends_before_it_is_permitted_is_not_started(cold, monkeypatch):
    monkeypatch.setenv("WEFTOS_LOG", "weftos.kernel=debug")
    cold.start()
    parent = cold.spawn("tester")
    service = next(s.os_pid for s in cold.call("kernel.services") if s.name == "service")
    os.kill(service, signal.SIGSTOP)
    try:
        order = {"do": "spawn", "program": "echo"}
        cold.call("agent.send", pid=parent.pid, message=order, wait=False)
        cold.until(lambda: f"spawn of echo asked for by agent {parent.pid}" in cold.log())
        os.kill(parent.os_pid, signal.SIGKILL)
        cold.until(lambda: cold.call("agent.list") == [])
    finally:
        os.kill(service, signal.SIGCONT)
    cold.until(lambda: "echo was not spawned" in cold.log())
    assert [row.name for row in cold.call("agent.list", all=True)] == ["tester"]
