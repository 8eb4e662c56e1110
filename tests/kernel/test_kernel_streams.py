"""Streams of real agents on the log: windows, heartbeats, gaps, and who died where."""

from __future__ import annotations

import os
import signal

import pytest

from weftos import chain

WORDS = ("ipc.window", "ipc.topic_window", "ipc.heartbeat")


def tell(kernel, agent_pid, **what):
    return kernel.call("agent.send", pid=agent_pid, message=what, timeout_secs=30.0).reply


def seen(kernel, agent_pid, count):
    return kernel.until(lambda: (got := tell(kernel, agent_pid, do="seen")) and len(got) >= count and got)


def of_kind(kernel, kind, **fields):
    found = [(r.source, r.payload) for r in kernel.events() if r.kind == kind]
    return [(source, p) for source, p in found if all(p.get(name) == value for name, value in fields.items())]


def configure(driver, text):
    (driver.home.root / "weftos.toml").write_text(text)


@pytest.fixture
def brisk(cold):
    """A kernel whose agents speak four times a second."""
    configure(cold, "[ipc]\nwindow_secs = 0.25\n")
    cold.start()
    return cold


def verified(kernel):
    report = chain.verify(str(kernel.home.chain))
    assert report.valid, report.errors
    return report.checks


def test_a_stream_begins_speaks_and_ends(brisk):
    a, b = brisk.spawn("tester"), brisk.spawn("tester")
    for n in range(3):
        tell(brisk, a.pid, do="send", to=b.pid, payload=f"m{n}")
    seen(brisk, b.pid, 3)
    ring = next(p["ring"] for _, p in of_kind(brisk, "ipc.grant") if p["from"] == a.pid)

    def beats():
        return [
            entry
            for source, p in of_kind(brisk, "ipc.heartbeat")
            for entry in p["rings"]
            if entry[0] == ring and source == f"agent:{b.pid}"
        ]

    # Something passed: a window that is open. Nothing passed: a heartbeat with the same counters, again and again.
    open_window = brisk.until(lambda: of_kind(brisk, "ipc.window", ring=ring, side="consumer", count=3))[0][1]
    beat = brisk.until(lambda: len(beats()) >= 2 and beats()[-1])
    assert beat[1:] == ["consumer", open_window["window"] + 1, open_window["to"], 3]
    brisk.call("agent.stop", pid=a.pid)
    brisk.call("agent.stop", pid=b.pid)
    brisk.stop()
    windows = [p for _, p in of_kind(brisk, "ipc.window", ring=ring)]
    for side in ("producer", "consumer"):
        mine = [p for p in windows if p["side"] == side]
        assert [p["window"] for p in mine] == list(range(len(mine)))
        assert (mine[0]["prev"], mine[0]["resumed"]) == (bytes(32), False)
        last = mine[-1]
        assert (last["final"], last["first"], last["last"], last["count"]) == (True, 1, 3, 3)
        assert (last["producer"], last["consumer"], last["lost_count"]) == (a.pid, b.pid, 0)
        assert last["opened_ns"] <= last["closed_ns"]
    checks = verified(brisk)
    assert (checks.streams_total, checks.streams_closed, checks.streams_cut) == (2, 2, 0)
    assert checks.heartbeats > 0
    assert checks.windows_paired > 0


@pytest.mark.parametrize("victim", ["producer", "consumer"])
def test_a_successor_goes_on_with_the_counters(brisk, victim):
    a = brisk.spawn("tester", restart="on-failure")
    b = brisk.spawn("tester", restart="on-failure")
    for n in range(5):
        tell(brisk, a.pid, do="send", to=b.pid, payload=f"m{n}")
    seen(brisk, b.pid, 5)
    ring = next(p["ring"] for _, p in of_kind(brisk, "ipc.grant") if p["from"] == a.pid)
    killed = a if victim == "producer" else b
    brisk.until(lambda: of_kind(brisk, "ipc.window", ring=ring, side=victim, count=5))
    os.kill(brisk.call("agent.inspect", pid=killed.pid).os_pid, signal.SIGKILL)
    brisk.until(lambda: [p for _, p in of_kind(brisk, "agent.restart") if p["pid"] == killed.pid])
    for n in range(5, 8):
        brisk.until(lambda n=n: tell(brisk, a.pid, do="send", to=b.pid, payload=f"m{n}") is True)
    brisk.until(lambda: "m7" in [m["payload"] for m in tell(brisk, b.pid, do="seen")])
    brisk.call("agent.stop", pid=a.pid)
    brisk.call("agent.stop", pid=b.pid)
    brisk.stop()
    lives = {
        life: [p for _, p in of_kind(brisk, "ipc.window", ring=ring, side=victim, incarnation=life)] for life in (1, 2)
    }
    assert lives[2][0]["window"] == 0
    assert lives[2][0]["resumed"] is True
    assert lives[2][0]["from"] == lives[1][-1]["to"]
    assert lives[2][0]["first"] == 6
    assert (lives[2][-1]["last"], lives[2][-1]["final"]) == (8, True)
    assert not any(p["final"] for p in lives[1])
    checks = verified(brisk)
    assert (checks.streams_resumed, checks.streams_cut, checks.streams_closed) == (1, 1, 2)


def test_topics_are_streams_with_gaps_where_a_subscriber_was_full(brisk):
    publisher, quick, slow = (brisk.spawn("tester") for _ in range(3))
    for one in (quick, slow):
        tell(brisk, one.pid, do="subscribe", topic="news")
    tell(brisk, publisher.pid, do="publish", topic="news", payload="first")
    seen(brisk, slow.pid, 1)
    brisk.call("agent.suspend", pid=slow.pid)
    sent = 1
    while tell(brisk, publisher.pid, do="publish_big", topic="news", n=15_000) == 2:
        sent += 1
    missed = sent + 1
    brisk.call("agent.resume", pid=slow.pid)
    seen(brisk, slow.pid, sent)
    tell(brisk, publisher.pid, do="publish", topic="news", payload="last")
    seen(brisk, slow.pid, sent + 1)
    seen(brisk, quick.pid, sent + 2)
    for one in (publisher, quick, slow):
        brisk.call("agent.stop", pid=one.pid)
    brisk.stop()
    base = 1 << 40

    def final(side, agent):
        windows = of_kind(brisk, "ipc.topic_window", topic="news", side=side, final=True)
        return next(p for source, p in windows if source == f"agent:{agent.pid}")

    said, whole, partly = final("producer", publisher), final("consumer", quick), final("consumer", slow)
    assert (said["first"], said["last"], said["count"]) == (base + 1, base + sent + 2, sent + 2)
    assert said["lost"] == [[base + missed, "shm.ring_full", slow.pid]]
    assert (whole["count"], whole["lost_count"], whole["bytes"]) == (sent + 2, 0, said["bytes"])
    assert (partly["count"], partly["lost"]) == (sent + 1, [[base + missed, base + missed]])
    checks = verified(brisk)
    assert (checks.messages_unexplained, checks.streams_cut) == (0, 0)
    assert checks.messages_lost == 2
    assert checks.windows_foreign == 0


def test_leaving_a_topic_ends_its_stream(brisk):
    a, b = brisk.spawn("tester"), brisk.spawn("tester")
    for round_ in range(2):
        tell(brisk, b.pid, do="subscribe", topic="t")
        tell(brisk, a.pid, do="publish", topic="t", payload=f"m{round_}")
        seen(brisk, b.pid, round_ + 1)
        tell(brisk, b.pid, do="unsubscribe", topic="t")
        ends = brisk.until(
            lambda n=round_: len(got := of_kind(brisk, "ipc.topic_window", side="consumer", final=True)) > n and got
        )
        assert [p["last"] & 0xFF for _, p in ends] == list(range(1, round_ + 2))
    assert [p["window"] for _, p in of_kind(brisk, "ipc.topic_window", side="consumer")][-1] >= 1
    brisk.stop()
    verified(brisk)


def test_a_killed_kernel_leaves_streams_without_an_end_and_no_contradiction(brisk):
    a, b = brisk.spawn("tester"), brisk.spawn("tester")
    tell(brisk, a.pid, do="send", to=b.pid, payload="m")
    seen(brisk, b.pid, 1)
    brisk.until(lambda: len(of_kind(brisk, "ipc.window")) >= 2)
    brisk.kill()
    brisk.start()
    brisk.stop()
    checks = verified(brisk)
    assert (checks.streams_total, checks.streams_cut, checks.streams_closed) == (2, 2, 0)


def test_idle_agents_without_streams_say_nothing(brisk):
    a, b = brisk.spawn("tester"), brisk.spawn("tester")
    c = brisk.spawn("tester")
    tell(brisk, a.pid, do="send", to=b.pid, payload="m")
    brisk.until(lambda: len(of_kind(brisk, "ipc.heartbeat")) >= 6)
    assert not [source for source, _ in of_kind(brisk, "ipc.heartbeat") if source == f"agent:{c.pid}"]


def parts(window):
    """A window as JSON can carry it: plain values, and hashes in hex digits."""
    hashes = {name: value.hex() for name, value in window.items() if isinstance(value, bytes)}
    return {name: value for name, value in window.items() if name not in hashes}, hashes


def test_what_agents_say_of_streams_of_others_is_ignored(brisk):
    a, b, liar = brisk.spawn("tester"), brisk.spawn("tester"), brisk.spawn("tester")
    tell(brisk, a.pid, do="send", to=b.pid, payload="m")
    seen(brisk, b.pid, 1)
    window = brisk.until(lambda: of_kind(brisk, "ipc.window", side="consumer"))[0][1]
    plain, hashes = parts(window)
    say = {"do": "append_this", "kind": "ipc.window", "payload": plain, "hashes": hashes}
    assert isinstance(tell(brisk, liar.pid, **say), int)
    beat = {"heartbeat": True, "count": 0, "incarnation": 1, "rings": [[window["ring"], "consumer", 9, 0, 0]]}
    say = {"do": "append_this", "kind": "ipc.heartbeat", "payload": beat | {"topics": []}}
    assert isinstance(tell(brisk, liar.pid, **say), int)
    for name in ("ring", "producer", "consumer", "from", "to", "resumed"):
        del plain[name]
    del hashes["digest"]
    plain |= {"topic": "t", "publisher": a.pid, "late": 0}
    say = {"do": "append_this", "kind": "ipc.topic_window", "payload": plain, "hashes": hashes}
    assert isinstance(tell(brisk, liar.pid, **say), int)
    brisk.stop()
    report = chain.verify(str(brisk.home.chain))
    assert report.valid, report.errors
    assert report.checks.windows_foreign == 3
    assert "window_foreign" in [warning.code for warning in report.warnings]


def test_an_end_that_hides_or_repeats_a_window_is_found(brisk):
    a, b = brisk.spawn("tester"), brisk.spawn("tester")
    tell(brisk, a.pid, do="send", to=b.pid, payload="m")
    seen(brisk, b.pid, 1)
    window = brisk.until(lambda: of_kind(brisk, "ipc.window", side="consumer"))[0][1]
    plain, hashes = parts(window)
    say = {"do": "append_this", "kind": "ipc.window", "payload": plain | {"window": 7}, "hashes": hashes}
    assert isinstance(tell(brisk, b.pid, **say), int)
    brisk.stop()
    report = chain.verify(str(brisk.home.chain))
    assert not report.valid
    assert {"window_missing"} <= {error.code for error in report.errors}


def test_an_agent_that_only_writes_speaks_all_the_same(kernel):
    a, b = kernel.spawn("flooder"), kernel.spawn("tester")
    kernel.call("agent.send", pid=a.pid, message=b.pid, wait=False)
    windows = kernel.until(lambda: len(got := of_kind(kernel, "ipc.window", side="producer")) >= 32 and got)
    assert [p["window"] for _, p in windows] == list(range(len(windows)))
    assert {source for source, _ in windows} == {f"agent:{a.pid}"}
    kernel.call("agent.stop", pid=a.pid, graceful=False)
    kernel.stop()
    verified(kernel)
