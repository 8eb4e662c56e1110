"""What the windows of streams on a log add up to: numbering, links, counters, gaps, silence.

Why it is as it is: each end of a ring or topic numbers its windows and names the hash of the one before, lists in
heartbeats how many there are, and says with a last window that it ends. So a window that was withheld, repeated, moved
or made up contradicts its neighbours or a heartbeat, and a stream that stopped talking is told from one with nothing
to say. What an end says of itself is believed only for the ends that the kernel named: in ``ipc.grant`` who is at which
ring and topic, in ``agent.restart`` and ``agent.exit`` how many lives an agent had. So no agent can make the log look
false by talking about others.

Errors are contradictions of an end with itself. What can happen to the honest is counted: a killed agent leaves a
stream without a last window (``cut``), its successor begins anew (``resumed``), messages are lost, and agents that
compute are silent.

Pure; fed in the order of the log. A log is a sequence of boots, and what is known of one is settled when the next
begins, so memory grows with the streams of one boot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import blake3

from weftos import limits
from weftos.chain.statements.topic_pairs import TopicPairs

__all__ = ["Finding", "StreamCounts", "Streams", "window_hash"]

#: Code and sentence of an error.
Finding: TypeAlias = tuple[str, str]
_Key: TypeAlias = tuple[Any, ...]
_NO_HASH: Final = bytes(32)


def window_hash(payload: bytes) -> bytes:
    """Return the hash by which the next window of a stream names this one, 32 bytes; as in ``weftos.agent.windows``."""
    return blake3.blake3(b"weftos/window/v1\0" + payload).digest()


@dataclass(slots=True)
class StreamCounts:
    """What was seen.

    Attributes:
        total: stream ends.
        closed: ended with a last window.
        cut: ended without: their agent died, their ring was closed, or the kernel ended.
        silent: open, or open when their agent ended, and without a word for several periods.
        resumed: ends that a later incarnation of an agent took over.
        holes: ranges of a ring that no window of an end covers, without a death to explain it.
        lost: messages that ends said were lost to them, and that the kernel put aside.
        unexplained: messages of topics that a subscriber missed, and neither publisher nor kernel knows why.
        foreign: windows and heartbeats by somebody who is not that end.
        heartbeats: records that say that nothing passed.
    """

    total: int = 0
    closed: int = 0
    cut: int = 0
    silent: int = 0
    resumed: int = 0
    holes: int = 0
    lost: int = 0
    unexplained: int = 0
    foreign: int = 0
    heartbeats: int = 0


@dataclass(slots=True)
class _End:
    """One end of a stream in one life of its agent."""

    pid: int
    incarnation: int
    heard_ns: int
    windows: int = 0
    prev: bytes = _NO_HASH
    #: Where the last window began and ended, the counter behind it, and whether it was complete.
    begin: int = -1
    place: int = 0
    counter: int = 0
    first: int = 0
    complete: bool = True
    final: bool = False
    #: Number of the first window is not 0, or the hash before is unknown: the log is not read from its beginning.
    adopted: bool = False
    lost: dict[int, int] = field(default_factory=dict)


class Streams:
    """Takes the records about streams.

    Args:
        since_beginning: False if the log is not read from its first record: streams are then taken as they are met.
    """

    def __init__(self, *, since_beginning: bool = True) -> None:
        self.since_beginning = since_beginning
        self.counts = StreamCounts()
        #: Streams that fell silent, for the reader; not all of them.
        self.silent: list[str] = []
        self.topics = TopicPairs()
        self._boot: bytes | None = None
        self._begin_boot(b"")

    def _begin_boot(self, boot_id: bytes) -> None:
        self._boot = boot_id
        self._period_ns = 0
        self._now_ns = 0
        self._over = False
        self._rings: dict[int, dict[str, int]] = {}
        self._granted_ns: dict[int, int] = {}
        self._revoked: set[int] = set()
        self._lives: dict[int, int] = {}
        self._exits: dict[int, tuple[int, int]] = {}
        self._ends: dict[_Key, _End] = {}
        self.topics.begin_boot()

    def at(self, boot_id: bytes, t_ns: int) -> None:
        """A record of this boot and time follows; any kind."""
        if boot_id != self._boot:
            self._settle(over=True)
            self._begin_boot(boot_id)
        self._now_ns = max(self._now_ns, t_ns)

    # --- what the kernel says -----------------------------------------------------------------------------------------

    def config(self, payload: Mapping[str, Any]) -> None:
        """Take ``boot.config``: how often streams speak."""
        period = payload.get("window_ms")
        if isinstance(period, int):
            self._period_ns = period * 1_000_000

    def grant(self, payload: Mapping[str, Any]) -> None:
        """Take ``ipc.grant``: who is at which end of a ring, and which topics it carries."""
        ring, src, dst = payload.get("ring"), payload.get("from"), payload.get("to")
        if isinstance(ring, int) and isinstance(src, int) and isinstance(dst, int):
            self._rings[ring] = {"producer": src, "consumer": dst}
            self._granted_ns.setdefault(ring, self._now_ns)
            for topic in _rows(payload.get("topics")):
                self.topics.grant(topic, src, dst)

    def revoke(self, payload: Mapping[str, Any]) -> None:
        """Take ``ipc.revoke``."""
        if isinstance(ring := payload.get("ring"), int):
            self._revoked.add(ring)

    def life(self, payload: Mapping[str, Any]) -> None:
        """Take ``agent.restart``."""
        pid, incarnation = payload.get("pid"), payload.get("incarnation")
        if isinstance(pid, int) and isinstance(incarnation, int):
            self._lives[pid] = incarnation

    def exit(self, payload: Mapping[str, Any]) -> None:
        """Take ``agent.exit``."""
        pid, incarnation = payload.get("pid"), payload.get("incarnation")
        if isinstance(pid, int) and isinstance(incarnation, int):
            self._exits[pid] = incarnation, self._now_ns

    def shutdown(self) -> None:
        """Take ``shutdown``."""
        self._over = True

    # --- what agents say ----------------------------------------------------------------------------------------------

    def ring_window(self, source: str, payload: Mapping[str, Any], raw: bytes) -> list[Finding]:
        """Take an ``ipc.window``; whether the other end agrees is judged elsewhere.

        Args:
            source: who appended it.
            payload: of the record.
            raw: the same as it lies on the log.
        """
        ring, side = payload.get("ring"), payload.get("side")
        pid = self._rings.get(ring, {}).get(str(side)) if isinstance(ring, int) else None
        if pid is None or source != f"agent:{pid}":
            self.counts.foreign += 1
            return []
        if "window" not in payload:
            return []  # as an earlier version wrote them: the stream counts as one that never said a word
        name = f"ring {ring}, {side} {source}"
        end, found = self._number((ring, side), name, pid, payload, raw)
        if end is None:
            return found
        begin, place = payload.get("from"), payload.get("to")
        first, count = payload.get("first"), payload.get("count")
        if not (
            isinstance(begin, int) and isinstance(place, int) and isinstance(first, int) and isinstance(count, int)
        ):
            return [*found, ("window_mismatch", f"{name}: a window without range or counters")]
        due, counter = (end.place, end.counter + 1) if end.complete else (end.begin, end.first)
        if end.begin >= 0 and begin < due:
            found.append(
                ("window_link", f"{name}: the window from {begin} overlaps the one before, which ends at {due}")
            )
        elif end.begin >= 0 and begin > due:
            self.counts.holes += 1
        elif end.begin >= 0 and first != counter:
            found.append(("window_mismatch", f"{name}: it counts on from message {first}, where {counter} was due"))
        if payload.get("last") != first + count - 1:
            found.append(("window_mismatch", f"{name}: first, last and count contradict each other"))
        end.begin, end.place, end.first, end.counter = begin, place, first, first + count - 1
        self._close(end, begin, payload)
        return found

    def topic_window(self, seq: int, source: str, payload: Mapping[str, Any], raw: bytes) -> list[Finding]:
        """Take an ``ipc.topic_window``; arguments as for ``ring_window``, and the number of the record."""
        pid = self.topics.speaker(source, payload)
        if pid is None:
            self.counts.foreign += 1
            return []
        topic, publisher, side = payload["topic"], payload["publisher"], payload["side"]
        name = f"topic {topic} of agent {publisher}, {side} {source}"
        end, found = self._number((topic, publisher, side, source), name, pid, payload, raw)
        if end is None:
            return found
        contradiction = self.topics.add(seq, pid, payload)
        if contradiction is not None:
            found.append(("window_mismatch", f"{name}: {contradiction}"))
        first, last = payload.get("first"), payload.get("last")
        if isinstance(first, int) and isinstance(last, int):
            due = end.place + 1 if end.complete else end.begin
            if end.begin >= 0 and first < due and not end.final:
                found.append(("window_link", f"{name}: the window from {first} overlaps the one before"))
            end.begin, end.place = first, last
            end.counter = last
            self._close(end, first, payload)
        return found

    def heartbeat(self, source: str, payload: Mapping[str, Any]) -> list[Finding]:
        """Take an ``ipc.heartbeat``."""
        self.counts.heartbeats += 1
        found: list[Finding] = []
        incarnation = payload.get("incarnation")
        for entry in _rows(payload.get("rings")):
            match entry:
                case [int(ring), str(side), int(windows), int(place), int(counter)]:
                    pid = self._rings.get(ring, {}).get(side)
                    if pid is None or source != f"agent:{pid}":
                        self.counts.foreign += 1
                        continue
                    name = f"ring {ring}, {side} {source}"
                    found += self._beat((ring, side), name, pid, incarnation, windows, place, counter)
                case _:
                    self.counts.foreign += 1
        for entry in _rows(payload.get("topics")):
            match entry:
                case [str(topic), str(side), int(publisher), int(windows), int(last)]:
                    about = {"topic": topic, "side": side, "publisher": publisher}
                    pid = self.topics.speaker(source, about)
                    if pid is None:
                        self.counts.foreign += 1
                        continue
                    name = f"topic {topic} of agent {publisher}, {side} {source}"
                    key = (topic, publisher, side, source)
                    found += self._beat(key, name, pid, incarnation, windows, last, last)
                case _:
                    self.counts.foreign += 1
        return found

    def dead_letters(self, payload: Mapping[str, Any]) -> None:
        """Take an ``ipc.dead_letter`` of the kernel: messages between two agents that nobody will handle."""
        src, dst, count = payload.get("from"), payload.get("target"), payload.get("count", 1)
        # Without an id it never was in a ring: a publisher's report of what its window lists as lost.
        if payload.get("message_id") and isinstance(src, int) and isinstance(dst, int) and isinstance(count, int):
            self.topics.letters(src, dst, count)
            self.counts.lost += count

    # --- inside -------------------------------------------------------------------------------------------------------

    def _life(self, key: _Key, name: str, pid: int, incarnation: Any) -> tuple[_End | None, list[Finding]]:
        """The end as it is known, or begun anew by the agent's next life."""
        if not isinstance(incarnation, int):
            return None, [("window_link", f"{name}: it does not say which life of the agent it is of")]
        end = self._ends.get(key)
        if end is not None and incarnation < end.incarnation:
            return None, [("window_link", f"{name}: incarnation {incarnation} speaks after {end.incarnation}")]
        if end is not None and incarnation == end.incarnation:
            return end, []
        found: list[Finding] = []
        if incarnation > 1 and self.since_beginning and self._lives.get(pid, 1) < incarnation:
            found.append(("window_link", f"{name}: it begins anew as incarnation {incarnation}, which never was"))
        if end is not None:
            self.counts.resumed += 1
            self._end(key, end, over=False)
        else:
            self.counts.total += 1
        self._ends[key] = fresh = _End(pid, incarnation, self._now_ns, adopted=not self.since_beginning)
        return fresh, found

    def _number(
        self, key: _Key, name: str, pid: int, payload: Mapping[str, Any], raw: bytes
    ) -> tuple[_End | None, list[Finding]]:
        """Check number and link of a window."""
        end, found = self._life(key, name, pid, payload.get("incarnation"))
        number = payload.get("window")
        if end is None or not isinstance(number, int):
            return None, found or [("window_link", f"{name}: a window without a number")]
        if end.adopted:
            end.windows, end.prev, end.adopted = number, payload.get("prev") or b"", False
        if number > end.windows:
            gone = f"window {end.windows}" if number == end.windows + 1 else f"windows {end.windows} to {number - 1}"
            found.append(("window_missing", f"{name}: {gone} before window {number} never came"))
        elif number < end.windows:
            found.append(("window_link", f"{name}: window {number} comes after window {end.windows - 1}"))
        elif payload.get("prev") != end.prev:
            found.append(("window_link", f"{name}: window {number} does not name the hash of the one before"))
        if end.final and len(key) == 2:
            found.append(("window_link", f"{name}: window {number} comes after the last one"))
        end.windows, end.prev = max(end.windows, number + 1), window_hash(raw)
        end.heard_ns = self._now_ns
        return end, found

    def _beat(
        self, key: _Key, name: str, pid: int, incarnation: Any, windows: int, place: int, counter: int
    ) -> list[Finding]:
        end, found = self._life(key, name, pid, incarnation)
        if end is None:
            return found
        if end.adopted:
            # What came before is not read; what it says is all that is known.
            end.windows, end.adopted = windows, True
        elif windows > end.windows:
            found.append(("window_missing", f"{name}: it says that it has {windows} windows, {end.windows} came"))
            end.windows = windows
        elif windows < end.windows:
            found.append(("window_link", f"{name}: it says that it has {windows} windows, after {end.windows} came"))
        elif end.begin >= 0 and (place, counter) != (end.place, end.counter):
            found.append(("window_mismatch", f"{name}: nothing passed, and yet it is at {place} and not {end.place}"))
        end.heard_ns = self._now_ns
        return found

    def _close(self, end: _End, begin: int, payload: Mapping[str, Any]) -> None:
        end.complete, end.final = bool(payload.get("complete")), bool(payload.get("final"))
        lost = payload.get("lost_count")
        if isinstance(lost, int) and lost:
            end.lost[begin] = lost  # a complete window repeats what a partial one said
        elif begin in end.lost:
            del end.lost[begin]

    def _end(self, key: _Key, end: _End, *, over: bool) -> None:
        """A life of an end is over, or the log is."""
        counts = self.counts
        counts.lost += sum(end.lost.values())
        if end.final:
            counts.closed += 1
            return
        exited = self._exits.get(end.pid)
        ended_ns = exited[1] if exited is not None and exited[0] >= end.incarnation else 0
        self._listen(key, end.heard_ns, ended_ns or self._now_ns)
        if ended_ns or over or key[0] in self._revoked:
            counts.cut += 1

    def _listen(self, key: _Key, heard_ns: int, until_ns: int) -> None:
        """Count a stream that was open and not heard of for long."""
        silent_ns = until_ns - heard_ns
        if not self._period_ns or silent_ns <= limits.WINDOW_SILENT_PERIODS * self._period_ns:
            return
        self.counts.silent += 1
        if len(self.silent) < limits.CHAIN_VERIFY_SILENT:
            what = f"ring {key[0]}, {key[1]}" if len(key) == 2 else f"topic {key[0]} of agent {key[1]}, {key[2]}"
            seconds = silent_ns // 1_000_000_000
            self.silent.append(f"{what}: not a word for {seconds} s, neither windows nor a heartbeat")

    def _settle(self, *, over: bool) -> None:
        for key, end in self._ends.items():
            self._end(key, end, over=over)
        for ring, sides in self._rings.items():
            for side, pid in sides.items():
                if (ring, side) in self._ends or not pid:
                    continue
                # Never a word, not even a last one.
                self.counts.total += 1
                exited = self._exits.get(pid)
                if exited is not None or over or ring in self._revoked:
                    self.counts.cut += 1
                else:
                    self._listen((ring, side), self._granted_ns[ring], self._now_ns)
        self.counts.unexplained += self.topics.unexplained()

    def finish(self) -> None:
        """The log ends here."""
        self._settle(over=self._over)


def _rows(value: object) -> list[Any]:
    """A list that somebody else wrote, or nothing if it is none."""
    return value if isinstance(value, list) else []
