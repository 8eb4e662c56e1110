"""Attacks on streams: somebody alters a message, hides, moves or makes up a window, or falls silent.

The letters are those of docs/attacks.md. Rings, windows, log and verification are the real ones; only the agents are
played by this process.
"""

from __future__ import annotations

from typing import Any

import pytest
from forged_logs import Ticking, open_log

from weftos import chain
from weftos.agent.leaves import StreamLeaves
from weftos.agent.windows import WindowSender
from weftos.shm import RingConsumer, RingProducer, create_ring, layout

pytestmark = pytest.mark.usefixtures("any_payload")

RING = 1


class Agent:
    """One end of a ring that speaks of it as agents do."""

    def __init__(self, pid: int, side: str, end: Any) -> None:
        self.pid, self.side, self.end = pid, side, end
        self.events: list[chain.NewEvent] = []
        self.sender = WindowSender(self, pid, 1, 60.0)  # type: ignore[arg-type]

    def offer(self, request: Any) -> bool:
        self.events += [chain.NewEvent(f"agent:{self.pid}", one.kind, one.payload) for one in request.events]
        return True

    def speak(self, *, final: bool = False) -> None:
        windows = self.end.audit_windows(flush=True, final=final)
        self.sender.ring(RING, self.side, 3 - self.pid, windows, resumed=False)
        self.sender.heartbeat()
        self.sender.flush()


class Pair:
    """Agent 1 writes to agent 2."""

    def __init__(self) -> None:
        self.segment = create_ring(65_536, ring_id=RING)
        self.producer = RingProducer(self.segment, audit=True, leaves=StreamLeaves(None))
        self.consumer = RingConsumer(self.segment, audit=True, leaves=StreamLeaves(None))
        self.writer, self.reader = Agent(1, "producer", self.producer), Agent(2, "consumer", self.consumer)

    def pass_on(self, count: int) -> None:
        for n in range(count):
            self.producer.put(b"message %d" % n)
            self.consumer.take(1)
            self.consumer.commit()

    def speak(self, *, final: bool = False) -> None:
        self.writer.speak(final=final)
        self.reader.speak(final=final)

    @property
    def events(self) -> list[chain.NewEvent]:
        return [*self.writer.events, *self.reader.events]


@pytest.fixture
def pair():
    pair = Pair()
    yield pair
    pair.segment.close()


@pytest.fixture
def told(pair):
    """What both ends say of two thousand messages: complete windows, open ones, heartbeats, the last ones."""
    for _ in range(4):
        pair.pass_on(500)
        pair.speak()
        pair.speak()
    pair.speak(final=True)
    return pair


GRANT = chain.NewEvent("kernel", "ipc.grant", {"ring": RING, "from": 1, "to": 2, "topics": []})
CONFIG = chain.NewEvent("kernel", "boot.config", {"window_ms": 1})


def report_of(folder, events, **settings):
    folder.mkdir(exist_ok=True)
    with open_log(folder / "chain", **settings) as writer:
        for event in (CONFIG, GRANT, *events):
            writer.append(event)
    return chain.verify(folder / "chain")


def codes(report):
    return {error.code for error in report.errors}


def test_the_streams_are_sound_before_the_attack(told, tmp_path):
    report = report_of(tmp_path, told.events)
    checks = report.checks
    assert report.valid, report.errors
    assert checks.windows_paired >= 5
    assert (checks.windows_unpaired, checks.streams_closed, checks.windows_holes) == (0, 2, 0)
    assert checks.heartbeats > 0


def test_attack_s1_a_message_altered_in_the_ring(pair, tmp_path):
    """The writer has committed to it, the reader has not read it yet."""
    pair.pass_on(10)
    pair.producer.put(b"pay 10 to bob")
    pair.writer.speak(final=True)
    place = (pair.producer.position - layout.record_bytes(13)) + layout.HEADER_BYTES + layout.RECORD_WORD_BYTES
    pair.segment.map[place + 4 : place + 6] = b"99"
    assert pair.consumer.take(1)[0][1] == b"pay 99 to bob"
    pair.consumer.commit()
    pair.reader.speak(final=True)
    report = report_of(tmp_path, pair.events)
    assert codes(report) == {"window_mismatch"}
    assert report.checks.windows is False


@pytest.mark.parametrize("which", [0, 1, 2])
def test_attack_s2_a_window_is_left_out(told, tmp_path, which):
    windows = [one for one in told.reader.events if one.kind == "ipc.window"]
    told.reader.events.remove(windows[which])
    report = report_of(tmp_path, told.events)
    assert "window_missing" in codes(report)
    assert not report.valid


def test_attack_s2_the_newest_window_is_left_out_and_a_heartbeat_follows(pair, tmp_path):
    pair.pass_on(5)
    pair.speak()
    pair.speak()
    told = [one for one in pair.reader.events if one.kind == "ipc.heartbeat"]
    report = report_of(tmp_path, [*pair.writer.events, *told])
    assert codes(report) == {"window_missing"}


def test_attack_s3_windows_change_places_or_come_twice(told, tmp_path):
    windows = [n for n, one in enumerate(told.reader.events) if one.kind == "ipc.window"]
    events = list(told.reader.events)
    events[windows[1]], events[windows[2]] = events[windows[2]], events[windows[1]]
    report = report_of(tmp_path, [*told.writer.events, *events])
    assert {"window_missing", "window_link"} <= codes(report)
    again = [*told.events, told.reader.events[windows[1]]]
    assert "window_link" in codes(report_of(tmp_path / "again", again))


def test_attack_s4_windows_by_another_agent_are_ignored_and_counted(told, tmp_path):
    lies = [chain.NewEvent("agent:3", one.kind, one.payload | {"count": 1}) for one in told.reader.events]
    report = report_of(tmp_path, [*told.events, *lies])
    assert report.valid, report.errors
    assert report.checks.windows_foreign == len(lies)
    assert [one.code for one in report.warnings] == ["window_foreign"]
    # In place of the true one, it does not help: the reader has then never said a word.
    report = report_of(tmp_path / "alone", [*told.writer.events, *lies])
    assert (report.checks.windows_paired, report.checks.streams_closed) == (0, 1)


def test_attack_s5_an_end_counts_fewer_messages_than_passed(told, tmp_path):
    at = next(n for n, one in enumerate(told.reader.events) if one.kind == "ipc.window")
    honest = told.reader.events[at]
    told.reader.events[at] = chain.NewEvent(honest.source, honest.kind, honest.payload | {"count": 1, "last": 1})
    report = report_of(tmp_path, told.events)
    assert {"window_mismatch", "window_link"} <= codes(report)


def test_attack_s6_an_end_falls_silent(pair, tmp_path):
    pair.pass_on(10)
    pair.speak()
    later = [chain.NewEvent("kernel", "boot.services", {"count": n}) for n in range(10)]
    # The clock of this log moves ten milliseconds with each record; agents speak each millisecond.
    pair.writer.speak()
    beats = [one for one in pair.writer.events if one.kind == "ipc.heartbeat"]
    report = report_of(tmp_path, [*pair.events, *later, *beats], clock=Ticking(step=10_000_000))
    assert report.valid, report.errors
    assert report.checks.streams_silent == 1
    assert [(one.code, "consumer" in one.detail) for one in report.warnings] == [("stream_silent", True)]


def test_attack_s7_a_life_that_never_was(told, tmp_path):
    """An end begins anew to get rid of what it said; only the kernel's word makes a new life."""
    anew = [
        chain.NewEvent(one.source, one.kind, one.payload | {"incarnation": 2})
        for one in told.reader.events
        if one.kind == "ipc.window"
    ]
    assert "window_link" in codes(report_of(tmp_path, [*told.events, *anew]))
