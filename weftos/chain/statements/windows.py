"""Pairs the audit windows that both ends of a ring committed to the log.

Why it is as it is: each end of a ring hashes the bytes that pass and logs the digest of each window. One commitment
alone proves nothing; two by different processes over the same range must agree. An end that dies, or that has not
logged its side yet, leaves a window without a partner: that is counted, not called an error.

Only the two ends of a ring may speak for it. Who they are stands in the kernel's own ``ipc.grant`` record; a window
from anybody else, or for a ring that was never granted, is counted and ignored, so that no agent can make the log look
false.

Guaranteed: two commitments to the same range of the same ring in the same boot with different digest, count, counters,
bytes or root are found, unless more than ``limits.CHAIN_VERIFY_WINDOWS`` open ranges lie between them; a third one, to
a range that was paired already, unless more than ``limits.CHAIN_VERIFY_PAIRED`` further pairs do. Not guaranteed: that
a range was committed to by both ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from weftos import limits

__all__ = ["WindowPairs"]

_Key: TypeAlias = tuple[bytes, int, int, int]
_Value: TypeAlias = tuple[Any, ...]


#: What both ends must say alike; the last only if both do, because rings of newer agents may have roots and others not.
_COMPARED: Final = ("digest", "count", "bytes", "first", "root")


def _agree(one: _Value, other: _Value) -> bool:
    return one[:4] == other[:4] and (one[4] == other[4] or one[4] is None or other[4] is None)


class WindowPairs:
    """Open and paired windows.

    Attributes:
        windows: commitments seen.
        paired: ranges on which both ends agree.
        differing: commitments that contradict an earlier one.
        given_up: open windows dropped to bound memory.
        foreign: windows by somebody who is not that end of that ring.
    """

    def __init__(self) -> None:
        self._open: dict[_Key, tuple[int, Any, _Value]] = {}
        self._paired: dict[_Key, tuple[int, Any, _Value]] = {}
        self._ends: dict[tuple[bytes, int], dict[str, str]] = {}
        self.windows = self.paired = self.differing = self.given_up = self.foreign = 0

    @property
    def unpaired(self) -> int:
        """Ranges to which one end alone has committed."""
        return len(self._open) + self.given_up

    def grant(self, boot_id: bytes, source: str, payload: Mapping[str, Any]) -> None:
        """Take an ``ipc.grant`` record's payload: which agents are the ends of a ring. Only the kernel's counts."""
        ring = payload.get("ring")
        if source == "kernel" and isinstance(ring, int):
            ends = {"producer": f"agent:{payload.get('from')}", "consumer": f"agent:{payload.get('to')}"}
            self._ends[boot_id, ring] = ends

    def add(self, seq: int, boot_id: bytes, source: str, payload: Mapping[str, Any]) -> str | None:
        """Take the payload of an ``ipc.window`` record.

        Args:
            seq: number of the record.
            source: who appended it, as the service process stamped it.
            boot_id: its boot; rings are numbered per boot.
            payload: ``ring``, ``side``, ``from``, ``to``, ``count``, ``bytes``, ``digest``, ``first``, ``root``.

        Returns:
            What contradicts an earlier commitment, or ``None``.
        """
        ring, start, end = payload.get("ring"), payload.get("from"), payload.get("to")
        if not (isinstance(ring, int) and isinstance(start, int) and isinstance(end, int)):
            return None
        self.windows += 1
        key = (boot_id, ring, start, end)
        side = payload.get("side")
        if self._ends.get((boot_id, ring), {}).get(str(side)) != source:
            self.foreign += 1
            return None
        value = tuple(map(payload.get, _COMPARED))
        earlier = self._open.get(key) or self._paired.get(key)
        if earlier is None:
            if len(self._open) >= limits.CHAIN_VERIFY_WINDOWS:
                del self._open[next(iter(self._open))]
                self.given_up += 1
            self._open[key] = (seq, side, value)
            return None
        if not _agree(earlier[2], value):
            self.differing += 1
            return f"ring {ring}, bytes {start} to {end}: {side} differs from {earlier[1]} in record {earlier[0]}"
        if earlier[1] != side and self._open.pop(key, None) is not None:
            self.paired += 1
            if len(self._paired) >= limits.CHAIN_VERIFY_PAIRED:
                del self._paired[next(iter(self._paired))]
            self._paired[key] = earlier
        return None
