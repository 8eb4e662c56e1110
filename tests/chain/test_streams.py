"""What windows add up to: honest agents raise no finding, whatever they do; a window hidden, repeated, moved or changed
does.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from weftos import limits
from weftos.agent.topic_streams import NUMBER_BITS, TopicEnd
from weftos.agent.windows import WindowSender
from weftos.agent.windows import window_hash as hash_of_the_agent
from weftos.chain.records.canonical import encode_payload
from weftos.chain.statements.streams import Streams, window_hash
from weftos.shm import Window

RING, BOOT = 5, b"b" * 16
SECOND = 1_000_000_000


class Service:
    """Takes what an agent sends."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def offer(self, request) -> bool:
        self.events += [(event.kind, event.payload) for event in request.events]
        return True


class Side:
    """One end of a ring, as an agent speaks of it."""

    def __init__(self, pid: int, side: str, peer: int, incarnation: int = 1, at: int = 0, count: int = 0) -> None:
        self.service = Service()
        self.sender = WindowSender(self.service, pid, incarnation, 60.0)  # type: ignore[arg-type]
        self.source, self.side, self.peer = f"agent:{pid}", side, peer
        self.begin = self.at = at
        self.first = self.count = count
        self.resumed = count > 0

    def window(self, size: int, *, complete: bool = True, final: bool = False) -> None:
        self.at += 8 * size
        self.count += size
        made = Window(RING, self.begin, self.at, self.count - self.first, bytes(32), complete, self.first, final=final)
        self.sender.ring(RING, self.side, self.peer, [made], resumed=self.resumed)
        if complete:
            self.begin, self.first = self.at, self.count

    def sent(self) -> list[tuple[str, str, dict[str, Any]]]:
        self.sender.flush()
        return [(self.source, kind, payload) for kind, payload in self.service.events]


def judged(records, streams: Streams | None = None, **grant) -> tuple[list[str], Streams]:
    if streams is None:
        streams = Streams()
        streams.at(BOOT, SECOND)
        streams.config({"window_ms": 1000})
        streams.grant({"ring": RING, "from": 1, "to": 2, "topics": ["t"]} | grant)
    codes = []
    for number, (source, kind, payload) in enumerate(records):
        raw = encode_payload(payload)
        decoded = msgspec.msgpack.decode(raw)
        if kind == "ipc.window":
            codes += streams.ring_window(source, decoded, raw)
        elif kind == "ipc.topic_window":
            codes += streams.topic_window(number, source, decoded, raw)
        else:
            codes += streams.heartbeat(source, decoded)
    return [code for code, _ in codes], streams


steps = st.lists(st.tuples(st.sampled_from(("whole", "part", "beat")), st.integers(1, 9)), min_size=1, max_size=12)


def told(steps) -> list[tuple[str, str, dict[str, Any]]]:
    side = Side(1, "producer", 2)
    for what, size in steps:
        if what == "beat":
            side.sender.heartbeat()
        else:
            side.window(size, complete=what == "whole")
    side.window(0, complete=False, final=True)
    return side.sent()


def test_agent_and_verifier_hash_alike():
    assert window_hash(b"x") == hash_of_the_agent(b"x")


@given(steps)
def test_the_honest_raise_no_finding(steps):
    records = told(steps)
    codes, streams = judged(records)
    assert codes == []
    streams.finish()
    counts = streams.counts
    assert (counts.closed, counts.foreign, counts.holes) == (1, 0, 0)
    assert counts.heartbeats == sum(kind == "ipc.heartbeat" for _, kind, _ in records)


@given(steps, st.data())
def test_a_hidden_repeated_or_moved_window_is_found(steps, data):
    records = told(steps)
    windows = [n for n, (_, kind, _) in enumerate(records) if kind == "ipc.window"]
    at = data.draw(st.sampled_from(windows[:-1] or windows))
    manner = data.draw(st.sampled_from(("hide", "repeat", "move")))
    if manner == "hide":
        del records[at]
    elif manner == "repeat":
        records.insert(at, records[at])
    else:
        other = data.draw(st.sampled_from(windows))
        if other == at:
            return
        records[at], records[other] = records[other], records[at]
    codes, streams = judged(records)
    if len(windows) == 1 and manner == "hide":
        # Nothing was ever said: the kernel's grant knows of the stream all the same.
        streams.shutdown()
        streams.finish()
        assert (streams.counts.total, streams.counts.cut) == (2, 2)
    else:
        assert codes


@given(steps, st.data())
def test_a_changed_window_no_longer_fits_the_next(steps, data):
    records = told(steps)
    windows = [n for n, (_, kind, _) in enumerate(records) if kind == "ipc.window"]
    if len(windows) < 2:
        return
    at = data.draw(st.sampled_from(windows[:-1]))
    source, kind, payload = records[at]
    field = data.draw(st.sampled_from(("count", "digest", "to", "opened_ns", "lost_count", "first")))
    value = b"\1" * 32 if field == "digest" else payload[field] + 1
    records[at] = source, kind, payload | {field: value}
    assert judged(records)[0]


def test_a_heartbeat_tells_of_a_window_that_never_came():
    side = Side(1, "producer", 2)
    side.window(3)
    side.sender.heartbeat()
    side.sender.heartbeat()
    records = side.sent()
    assert [kind for _, kind, _ in records] == ["ipc.window", "ipc.heartbeat"]
    assert judged(records)[0] == []
    assert judged(records[1:])[0] == ["window_missing"]


def test_what_others_say_counts_for_nothing():
    records = [("agent:7", kind, payload) for _, kind, payload in told([("whole", 3), ("beat", 1), ("beat", 1)])]
    codes, streams = judged(records)
    assert codes == []
    assert streams.counts.foreign == len(records)
    assert streams.counts.total == 0


def lives(streams: Streams, incarnation: int) -> None:
    streams.exit({"pid": 2, "incarnation": incarnation})
    streams.life({"pid": 2, "incarnation": incarnation + 1})


def test_a_successor_begins_anew_where_the_kernel_says_there_is_one():
    first, second = Side(2, "consumer", 1), Side(2, "consumer", 1, 2, 24, 3)
    first.window(3)
    second.window(2)
    second.window(0, complete=False, final=True)
    codes, streams = judged(first.sent())
    lives(streams, 1)
    assert judged(second.sent(), streams)[0] == []
    streams.finish()
    assert (streams.counts.resumed, streams.counts.cut, streams.counts.closed) == (1, 1, 1)
    assert codes == []
    # Without the kernel's word it is a way to get rid of a window.
    codes, streams = judged(first.sent())
    assert judged(second.sent(), streams)[0] == ["window_link"]
    # And the dead say nothing any more.
    codes, streams = judged(first.sent())
    lives(streams, 1)
    judged(second.sent(), streams)
    third = Side(2, "consumer", 1, 1, 24, 3)
    third.window(1)
    assert judged(third.sent(), streams)[0] == ["window_link"]


def test_silence_is_told_from_nothing_to_say():
    side = Side(1, "producer", 2)
    side.window(3)
    _, streams = judged(side.sent())
    streams.at(BOOT, (1 + limits.WINDOW_SILENT_PERIODS) * SECOND)
    streams.finish()
    assert streams.counts.silent == 0
    _, streams = judged(side.sent())
    streams.at(BOOT, (2 + limits.WINDOW_SILENT_PERIODS) * SECOND)
    streams.finish()
    # The writer fell silent, and the reader never said a word.
    assert streams.counts.silent == 2
    assert "ring 5, producer" in streams.silent[0]
    assert streams.counts.cut == 0


def test_the_streams_of_a_kernel_that_is_gone_are_cut_not_silent():
    side = Side(1, "producer", 2)
    side.window(3)
    _, streams = judged(side.sent())
    streams.at(b"c" * 16, 1000 * SECOND)
    streams.finish()
    assert (streams.counts.cut, streams.counts.silent) == (2, 0)


def test_a_log_that_is_read_from_the_middle_takes_streams_as_they_are():
    records = told([("whole", 3), ("whole", 2), ("beat", 1), ("beat", 1), ("part", 1)])
    for start in range(len(records)):
        streams = Streams(since_beginning=False)
        streams.at(BOOT, SECOND)
        streams.grant({"ring": RING, "from": 1, "to": 2})
        assert judged(records[start:], streams)[0] == []


def topic(pid: int, side: str, numbers, drops=(), size=10, publisher=1):
    service = Service()
    sender = WindowSender(service, pid, 1, 60.0)  # type: ignore[arg-type]
    base = 1 << NUMBER_BITS
    end = TopicEnd(base + 1)
    for n in numbers:
        if n in drops:
            end.lose((base + n, "shm.ring_full", 2))
        end.note(base + n, size)
    end.flush(final=True)
    sender.topic("t", publisher, end.closed)
    sender.flush()
    assert side == ("producer" if pid == publisher else "consumer")
    return [(f"agent:{pid}", kind, payload) for kind, payload in service.events]


def test_gaps_of_a_topic_are_explained_or_counted():
    told = topic(1, "producer", range(1, 11), drops=(4,))
    for seen, letters, unexplained in (
        ([1, 2, 3, 5, 6, 7, 8, 9, 10], 0, 0),
        ([1, 2, 5, 6, 7, 8, 9, 10], 0, 1),
        ([1, 2, 5, 6, 7, 8, 9, 10], 1, 0),
    ):
        codes, streams = judged([*told, *topic(2, "consumer", seen)])
        if letters:
            streams.dead_letters({"from": 1, "target": 2, "count": letters, "message_id": "5-0"})
        # What a publisher reports itself explains nothing beyond its windows.
        streams.dead_letters({"from": 1, "target": 2, "count": 9, "message_id": ""})
        streams.shutdown()
        streams.finish()
        assert codes == []
        assert (streams.counts.unexplained, streams.counts.lost) == (unexplained, 1 + 10 - len(seen) + letters)


def test_ends_of_a_topic_that_saw_the_same_numbers_saw_the_same_messages():
    told = topic(1, "producer", range(1, 11))
    codes, streams = judged([*told, *topic(2, "consumer", range(1, 11))])
    assert codes == []
    assert streams.topics.paired == 1
    assert judged([*told, *topic(2, "consumer", range(1, 11), size=11)])[0] == ["window_mismatch"]
    # Somebody to whom the kernel granted no ring from there.
    codes, streams = judged([*told, *topic(3, "consumer", range(1, 11), size=11)])
    assert codes == []
    assert streams.counts.foreign == 1


WILD = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=8,
)
FIELDS = (
    "ring", "side", "from", "to", "window", "incarnation", "first", "last", "count", "lost", "lost_count", "prev",
    "final", "complete", "topic", "publisher", "rings", "topics", "root", "pid", "window_ms", "target", "message_id",
)  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("ipc.window", "ipc.topic_window", "ipc.heartbeat", "grant", "revoke", "life", "letters")),
            st.dictionaries(st.sampled_from(FIELDS), WILD | st.sampled_from([1, 2, RING, "t", "producer", "consumer"])),
        ),
        max_size=12,
    )
)
def test_nothing_that_stands_on_a_log_breaks_the_verifier(records):
    streams = Streams()
    streams.at(BOOT, SECOND)
    streams.grant({"ring": RING, "from": 1, "to": 2, "topics": ["t"]})
    for kind, payload in records:
        if kind.startswith("ipc"):
            judged([("agent:1", kind, payload)], streams)
        elif kind == "letters":
            streams.dead_letters(payload)
        else:
            getattr(streams, kind)(payload)
        streams.exit(payload)
        streams.config(payload)
    streams.finish()


@pytest.mark.parametrize("field", ["window", "incarnation", "from", "first"])
def test_a_window_without_its_numbers_is_one_of_nobody(field):
    records = told([("whole", 3), ("whole", 2)])
    del records[1][2][field]
    codes, streams = judged(records)
    assert codes
    assert streams.counts.foreign == 0
