"""The kernel's pure parts: table, exit records, restart policy, topics, dead letters, state, registry."""

from __future__ import annotations

import asyncio
import os
import resource
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.agent.frames import SpawnSpec
from weftos.errors import (
    InvalidRequest,
    InvalidStateTransition,
    ProcessNotFound,
    ProcessTableFull,
    ServiceNotFound,
    WrongState,
)
from weftos.kernel.agent_requests import default_name
from weftos.kernel.channels import ring_capacity
from weftos.kernel.deadletters import DeadLetter, DeadLetterReason, DeadLetters
from weftos.kernel.exits import ExitReason, classify
from weftos.kernel.process import ProcessState, ProcessTable
from weftos.kernel.registry import Health, HealthStatus, ServiceRegistry, overall
from weftos.kernel.restart import RestartTracker, wants_restart
from weftos.kernel.state import BootPhase, EventLog, KernelLife, KernelState, LogLevel
from weftos.kernel.topics import TopicTable

SPEC = SpawnSpec(program="echo", name="echo")
USAGE = resource.getrusage(resource.RUSAGE_SELF)
ALLOWED = {
    ("starting", "running"),
    ("starting", "stopping"),
    ("starting", "exited"),
    ("running", "suspended"),
    ("running", "stopping"),
    ("running", "exited"),
    ("suspended", "running"),
    ("suspended", "stopping"),
    ("suspended", "exited"),
    ("stopping", "exited"),
    ("exited", "starting"),
}


@pytest.mark.parametrize("before", list(ProcessState))
@pytest.mark.parametrize("after", list(ProcessState))
def test_the_state_machine_has_exactly_these_arrows(before, after):
    entry = ProcessTable().add(SPEC, 0.0)
    entry.state = before
    if (before.value, after.value) in ALLOWED:
        assert entry.move(after) is before
        assert entry.state is after
    else:
        with pytest.raises(InvalidStateTransition):
            entry.move(after)
        assert entry.state is before


@given(st.lists(st.sampled_from(["add", "end", "revive"]), max_size=60), st.integers(1, 5), st.integers(1, 4))
def test_pids_are_never_reused_and_the_dead_do_not_count(steps, room, history):
    table = ProcessTable(room, history)
    alive: list[int] = []
    ended: list[int] = []
    last = 0
    for step in steps:
        if step == "add":
            if len(alive) == room:
                with pytest.raises(ProcessTableFull):
                    table.add(SPEC, 0.0)
                continue
            last += 1
            assert table.add(SPEC, 0.0).pid == last
            alive.append(last)
        elif step == "end" and alive:
            pid = alive.pop(0)
            table.get(pid).state = ProcessState.EXITED
            table.retire(pid)
            ended = [*ended, pid][-history:]
        elif step == "revive" and ended and len(alive) < room:
            pid = ended.pop(0)
            table.revive(pid, 1.0)
            alive.append(pid)
        assert [entry.pid for entry in table] == sorted(alive)
        assert [entry.pid for entry in table.ended()] == ended
    with pytest.raises(ProcessNotFound):
        table.get(last + 1)


def record(status, **known):
    facts = {"stop_requested": None, "kill_reason": None, "note": None} | known
    return classify(status, USAGE, started_at=1.0, ended_at=2.0, incarnation=3, **facts)


@pytest.mark.parametrize(
    ("status", "known", "reason", "text"),
    [
        (0, {}, ExitReason.NORMAL, "returned"),
        (0, {"stop_requested": "asked"}, ExitReason.STOPPED, "asked"),
        (7 << 8, {}, ExitReason.CRASH, "7"),
        (1 << 8, {"note": ("ValueError", "bad", "")}, ExitReason.CRASH, "ValueError: bad"),
        (86 << 8, {}, ExitReason.CRASH, "MemoryError"),
        (signal.SIGSEGV, {}, ExitReason.CRASH, "SIGSEGV"),
        (signal.SIGXCPU, {}, ExitReason.TIMEOUT, "CPU"),
        (signal.SIGKILL, {}, ExitReason.KILLED, "not sent by the kernel"),
        (signal.SIGKILL, {"kill_reason": "stop deadline of 5 s passed"}, ExitReason.TIMEOUT, "deadline"),
        (signal.SIGKILL, {"kill_reason": "limit memory"}, ExitReason.KILLED, "limit memory"),
        (signal.SIGKILL, {"out_of_memory": True}, ExitReason.KILLED, "out of memory, limit memory_bytes"),
        (signal.SIGSEGV, {"out_of_memory": True}, ExitReason.CRASH, "SIGSEGV"),
        (signal.SIGTERM, {"stop_requested": "asked"}, ExitReason.STOPPED, "asked"),
        (signal.SIGTERM, {}, ExitReason.KILLED, "SIGTERM"),
    ],
)
def test_exit_records_follow_the_facts(status, known, reason, text):
    found = record(int(status), **known)
    assert found.reason is reason
    assert text in found.message
    assert found.abnormal is (reason not in (ExitReason.NORMAL, ExitReason.STOPPED))
    assert (found.code is None) is os.WIFSIGNALED(int(status))


@given(st.integers(0, 255))
def test_no_exit_code_is_ever_negative_or_lost(code):
    assert record(code << 8).code == code


def test_delays_double_up_to_the_cap_and_the_budget_ends_them():
    tracker = RestartTracker(max_restarts=12, window_s=1e9, backoff_s=0.1, backoff_max_s=30.0, stable_s=60.0)
    delays = [tracker.next_delay(float(n), 1.0) for n in range(13)]
    assert delays[:10] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]
    assert delays[12] is None
    tracker.forgive()
    assert tracker.next_delay(20.0, 1.0) == 0.1


def test_old_restarts_leave_the_window_and_a_stable_run_forgets_all():
    tracker = RestartTracker(max_restarts=2, window_s=10.0, backoff_s=1.0, stable_s=60.0)
    assert tracker.next_delay(0.0, 1.0) == 1.0
    assert tracker.next_delay(1.0, 1.0) == 2.0
    assert tracker.next_delay(2.0, 1.0) is None
    assert tracker.next_delay(11.5, 1.0) == 4.0
    assert tracker.next_delay(12.0, 60.0) == 1.0


@given(st.lists(st.floats(0.01, 20.0), max_size=50), st.integers(0, 5))
def test_never_more_restarts_in_a_window_than_allowed(gaps, most):
    tracker = RestartTracker(max_restarts=most, window_s=10.0, stable_s=1e9)
    now, granted = 0.0, []
    for gap in gaps:
        now += gap
        if tracker.next_delay(now, 0.0) is not None:
            granted.append(now)
        assert sum(now - then <= 10.0 for then in granted) <= most


@pytest.mark.parametrize(
    ("policy", "abnormal", "stopped", "again"),
    [
        ("never", True, False, False),
        ("on-failure", True, False, True),
        ("on-failure", False, False, False),
        ("always", False, False, True),
        ("always", True, True, False),
        ("on-failure", True, True, False),
    ],
)
def test_restart_policies(policy, abnormal, stopped, again):
    assert wants_restart(policy, abnormal=abnormal, stop_requested=stopped) is again


@given(st.lists(st.tuples(st.sampled_from("spuf"), st.integers(1, 4), st.sampled_from("abc")), max_size=60))
def test_topics_follow_a_model(steps):
    table = TopicTable()
    subscribed: set[tuple[int, str]] = set()
    published: set[tuple[int, str]] = set()
    for what, pid, topic in steps:
        if what == "s":
            assert table.subscribe(pid, topic) is ((pid, topic) not in subscribed)
            subscribed.add((pid, topic))
        elif what == "u":
            assert table.unsubscribe(pid, topic) is ((pid, topic) in subscribed)
            subscribed.discard((pid, topic))
        elif what == "p":
            table.publish(pid, topic)
            published.add((pid, topic))
        else:
            table.forget(pid)
            subscribed = {pair for pair in subscribed if pair[0] != pid}
            published = {pair for pair in published if pair[0] != pid}
        assert table.topics() == sorted({t for _, t in subscribed | published})
        for name in "abc":
            assert table.subscribers(name) == sorted(p for p, t in subscribed if t == name)
            assert table.publishers(name) == sorted(p for p, t in published if t == name)


def letter(size):
    return DeadLetter(
        message_id="1-0",
        sender=1,
        target=2,
        reason=DeadLetterReason.POISONED,
        detail="",
        payload_type="text",
        data=bytes(size),
        timestamp=0.0,
    )


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 10), st.integers(1, 100))
def test_dead_letters_stay_within_count_and_bytes(sizes, most, most_bytes):
    store = DeadLetters(most, most_bytes)
    for size in sizes:
        store.add(letter(size))
    kept = [len(x.data) for x in store.newest()]
    assert kept == sizes[len(sizes) - len(kept) :]
    assert len(kept) <= most
    assert sum(kept) <= most_bytes or len(kept) == 1
    assert store.evicted == len(sizes) - len(kept)


def test_the_kernel_cannot_go_back():
    life = KernelLife()
    with pytest.raises(WrongState):
        life.require_running()
    life.move(KernelState.RUNNING)
    life.require_running()
    with pytest.raises(WrongState):
        life.move(KernelState.HALTED)
    life.move(KernelState.SHUTTING_DOWN)
    with pytest.raises(WrongState):
        life.require_running()
    life.move(KernelState.HALTED)


def test_the_event_log_is_bounded_and_can_be_followed():
    log = EventLog(3)
    for n in range(5):
        log.add(float(n), BootPhase.READY, LogLevel.INFO if n % 2 else LogLevel.WARN, f"m{n}")
    assert [event.message for event in log.tail()] == ["m2", "m3", "m4"]
    assert [event.message for event in log.tail(1)] == ["m4"]
    assert [event.message for event in log.tail(min_level=LogLevel.WARN)] == ["m2", "m4"]
    assert [event.serial for event in log.tail(after=4)] == [5]
    assert log.tail()[0].line() == "  [READY     ] m2"


@given(st.integers(0, 100 * 1024 * 1024))
def test_a_ring_holds_the_message_it_was_made_for(size):
    capacity = ring_capacity(size)
    assert capacity & (capacity - 1) == 0
    assert capacity >= 256 * 1024
    if size + 4096 <= 32 * 1024 * 1024:
        assert capacity // 2 >= size


def test_names_of_services_have_one_owner():
    registry = ServiceRegistry()
    assert registry.offer("a", 1, ())
    assert not registry.offer("a", 1, ("m",))
    with pytest.raises(InvalidRequest, match="agent 1"):
        registry.offer("a", 2, ())
    with pytest.raises(ServiceNotFound):
        registry.withdraw("a", 2)
    assert (registry.owner("a"), registry.owned_by(1)) == (1, ["a"])
    assert registry.forget(1) == ["a"]
    with pytest.raises(ServiceNotFound):
        registry.get("a")


def test_a_hung_health_check_is_unknown_not_a_stall(monkeypatch):
    monkeypatch.setattr("weftos.kernel.registry._CHECK_TIMEOUT_S", 0.01)

    class Hung:
        name = "hung"

        async def start(self): ...
        async def stop(self): ...
        async def health_check(self):
            await asyncio.Event().wait()

    registry = ServiceRegistry()
    registry.add_system(Hung())
    records = asyncio.run(registry.check())
    assert records[0].last.health is Health.UNKNOWN


@pytest.mark.parametrize(
    ("found", "worst"),
    [
        ([Health.HEALTHY], Health.HEALTHY),
        ([Health.HEALTHY, Health.UNKNOWN], Health.DEGRADED),
        ([Health.DEGRADED, Health.UNHEALTHY], Health.UNHEALTHY),
        ([], Health.HEALTHY),
    ],
)
def test_the_worst_health_counts(found, worst):
    assert overall([HealthStatus(health) for health in found]) is worst


@pytest.mark.parametrize(
    ("program", "name"), [("echo", "echo"), ("a.b.c:main", "c"), ("/x/y/my agent.py", "my-agent"), (":::", "agent")]
)
def test_agents_are_named_after_their_programs(program, name):
    assert default_name(program) == name
