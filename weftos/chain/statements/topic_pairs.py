"""Pairs the windows of a topic: what the publisher numbered, and what each subscriber saw of it.

Why it is as it is: a subscriber may miss messages without anybody lying: its ring was full, or it died. Then its
window lists the gap, and the publisher's lists whom it left out. Only windows over the same numbers with nothing lost
on either side must be equal, and then all subscribers' too. A gap that neither the publisher nor a dead letter of the
kernel accounts for is counted.

Guaranteed: two windows of one range without losses that differ in count, bytes or root are found, within
``limits.CHAIN_VERIFY_PAIRED`` ranges of each other. Not guaranteed: gaps beyond those that a window lists are judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from weftos import limits

__all__ = ["TopicPairs"]

_Topic: TypeAlias = tuple[str, int]
_NUMBER_BITS: Final = 40


class TopicPairs:
    """Windows of topics.

    Attributes:
        paired: windows that agree with another end's.
        differing: windows that contradict another end's.
    """

    def __init__(self) -> None:
        self.paired = self.differing = 0
        self.begin_boot()

    def begin_boot(self) -> None:
        """Forget; agents are numbered per boot."""
        self._carried: dict[_Topic, set[int]] = {}
        self._seen: dict[tuple[_Topic, int, int], tuple[int, int, tuple[Any, ...]]] = {}
        #: By topic and subscriber: ranges that it missed, by the window that says so.
        self._missed: dict[tuple[_Topic, int], dict[int, list[tuple[int, int]]]] = {}
        #: By topic and subscriber: numbers that the publisher could not deliver.
        self._dropped: dict[tuple[_Topic, int], set[int]] = {}
        self._letters: dict[tuple[int, int], int] = {}

    def grant(self, topic: Any, publisher: int, subscriber: int) -> None:
        """The kernel granted a ring that carries the topic."""
        if isinstance(topic, str):
            self._carried.setdefault((topic, publisher), set()).add(subscriber)

    def letters(self, publisher: int, subscriber: int, count: int) -> None:
        """The kernel put messages between them aside."""
        self._letters[publisher, subscriber] = self._letters.get((publisher, subscriber), 0) + count

    def speaker(self, source: str, payload: Mapping[str, Any]) -> int | None:
        """Return the pid of the one who may say this of a topic, if it is who says it."""
        topic, publisher, side = payload.get("topic"), payload.get("publisher"), payload.get("side")
        if not (isinstance(topic, str) and isinstance(publisher, int)):
            return None
        if side == "producer":
            return publisher if source == f"agent:{publisher}" else None
        for pid in self._carried.get((topic, publisher), ()):
            if side == "consumer" and source == f"agent:{pid}":
                return pid
        return None

    def add(self, seq: int, pid: int, payload: Mapping[str, Any]) -> str | None:
        """Take a window of somebody who may speak.

        Returns:
            What contradicts another end, or ``None``.
        """
        topic: _Topic = (payload["topic"], payload["publisher"])
        first, last, lost = payload.get("first"), payload.get("last"), payload.get("lost")
        if not (isinstance(first, int) and isinstance(last, int) and isinstance(lost, list)):
            return "a window without range or losses"
        if lost or payload.get("lost_count"):
            self._note_lost(topic, pid, first, lost, publisher=payload["side"] == "producer")
            return None
        self._missed.get((topic, pid), {}).pop(first, None)
        value = (payload.get("count"), payload.get("bytes"), payload.get("root"))
        if value[0] != last - first + 1:
            return f"{value[0]} messages from {_short(first)} to {_short(last)} with nothing lost"
        key = (topic, first, last)
        earlier = self._seen.get(key)
        if earlier is None:
            if len(self._seen) >= limits.CHAIN_VERIFY_PAIRED:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = (seq, pid, value)
            return None
        if not _equal(value, earlier[2]):
            self.differing += 1
            span = f"{_short(first)} to {_short(last)}"
            return f"messages {span} differ from what agent {earlier[1]} says in record {earlier[0]}"
        self.paired += earlier[1] != pid
        return None

    def _note_lost(self, topic: _Topic, pid: int, first: int, lost: list[Any], *, publisher: bool) -> None:
        ranges: list[tuple[int, int]] = []
        for one in lost:
            match one:
                case [int(number), str(), int(subscriber)] if publisher:
                    self._dropped.setdefault((topic, subscriber), set()).add(number)
                case [int(begin), int(end)] if not publisher and begin <= end:
                    ranges.append((begin, end))
                case _:
                    continue  # a loss that says nothing explains nothing
        if ranges:
            self._missed.setdefault((topic, pid), {})[first] = ranges

    def unexplained(self) -> int:
        """Return how many listed missing messages nobody accounts for."""
        total = 0
        for (topic, subscriber), windows in self._missed.items():
            dropped = self._dropped.get((topic, subscriber), set())
            ranges = {one for ranges in windows.values() for one in ranges}
            missing = sum(end - begin + 1 for begin, end in ranges)
            known = sum(1 for number in dropped if any(begin <= number <= end for begin, end in ranges))
            total += max(missing - known - self._letters.get((topic[1], subscriber), 0), 0)
        return total


def _equal(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Compare count, bytes, and the roots if both have one: the topic may be proved for newer agents only."""
    return one[:2] == other[:2] and (one[2] == other[2] or one[2] is None or other[2] is None)


def _short(number: int) -> str:
    """A number as people read it: which life of the publisher, and which message."""
    return f"{number >> _NUMBER_BITS}/{number & (1 << _NUMBER_BITS) - 1}"
