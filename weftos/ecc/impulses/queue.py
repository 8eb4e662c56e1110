"""The queue of impulses: bounded, at least once, and still there after a crash.

An impulse waits, is handed out under a lease, and is done; a lease that runs out lets it wait again, and the attempt
counts. After its last attempt it is dead: kept for a look, never handed out. Attempts are on disk, so what kills its
consumer each time ends as dead as well; leases are not, because whoever held one died with the process.

Guaranteed:

- What was emitted and synced is handed out again after a kill at any point, until it is done, dead or dropped.
- Impulses are handed out in the order (hlc, id), for one structure or for all; that order does not depend on when they
  are asked for. One that came back comes before those behind it.
- The queue never exceeds its bounds. What goes without being done is counted by its reason.

Not guaranteed: that an impulse is handed out once only; its number and ``attempt`` tell. Not for several threads.
Format in docs/formats/impulses.md.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from weftos.disk.clock import Clock
from weftos.disk.files import Files
from weftos.ecc.hlc import HybridClock, unpack
from weftos.ecc.impulses.model import (
    Delivery,
    ImpulseSettings,
    ImpulseStatistics,
    ImpulseType,
    Overflow,
    encode_payload,
)
from weftos.ecc.impulses.state import (
    Back,
    Change,
    Dead,
    Done,
    Drop,
    Emit,
    Entry,
    Lease,
    QueueState,
    Revive,
    key_of,
    size_of,
)
from weftos.ecc.state_files import StateStore
from weftos.ecc.universal import StructureTag, UniversalNodeId
from weftos.errors import ImpulseQueueFull, ImpulseRefused

__all__ = ["ImpulseQueue"]

_NAME: Final = "impulses"
_MAGIC: Final = b"WEFTIMP1"
_NS_PER_MS: Final = 1_000_000


class ImpulseQueue(StateStore):
    """A queue with its files ``impulses.snapshot`` and ``impulses.journal``. Made by :meth:`open`."""

    def __init__(self, fs: Files, folder: str, clock: Clock, hlc: HybridClock, settings: ImpulseSettings) -> None:
        self._clock = clock
        self._hlc = hlc
        self._settings = settings
        self._state = QueueState(settings.half_life_ms)
        super().__init__(fs, folder, _NAME, _MAGIC, self._state)
        self._refused = 0
        #: Leases by when they run out: monotonic nanoseconds, number of the impulse, number of the lease.
        self._deadlines: list[tuple[int, int, int]] = []
        hlc.restore(self._state.hlc_last)
        self._bring_back(entry for entry in self._state.live.values())

    @classmethod
    def open(
        cls, fs: Files, folder: str, clock: Clock, hlc: HybridClock, settings: ImpulseSettings | None = None
    ) -> ImpulseQueue:
        """Open the queue of a folder, or make it. What was handed out and not done waits again.

        Args:
            fs: the calls on files.
            folder: an existing folder, locked by the caller.
            clock: its monotonic time ends leases, its wall time weakens impulses.
            hlc: stamps impulses; told of the last stamp in the files.
            settings: bounds and times; None: the defaults.

        Raises:
            JournalDamaged: the files are not what was written.
            OSError: a call failed.
        """
        return cls(fs, folder, clock, hlc, settings or ImpulseSettings())

    def __len__(self) -> int:
        """Impulses that wait or are handed out."""
        return len(self._state.live)

    def emit(
        self,
        kind: ImpulseType,
        *,
        source_structure: StructureTag,
        source_node: bytes,
        target_structure: StructureTag,
        payload: Mapping[str, Any],
        strength: float = 1.0,
        hlc: int | None = None,
    ) -> int:
        """Queue an impulse; on disk with the next :meth:`sync`.

        Args:
            kind: what it says.
            source_structure: where it comes from.
            source_node: universal id of the node that it is about, 32 bytes.
            target_structure: whom it is for.
            payload: a JSON object.
            strength: above 0, at most 1.
            hlc: when it happened: a time that the clock of this queue has given out or observed; None: now.

        Returns:
            Its number.

        Raises:
            ImpulseRefused: an argument is outside the limits.
            ImpulseQueueFull: there is no room, and by the settings nothing may be dropped, or nothing is weaker.
            JournalFailed: an earlier call on the files failed; open the queue again.
        """
        self._check()
        if not 0 < strength <= 1:
            raise ImpulseRefused(f"a strength is above 0, at most 1, not {strength}")
        if hlc is not None and not 0 <= hlc <= self._hlc.last:
            raise ImpulseRefused(f"the clock of this queue does not know the time {hlc}; let it observe that first")
        node = bytes(UniversalNodeId(source_node))
        tags = int(StructureTag(source_structure)), int(StructureTag(target_structure))
        code, encoded = int(ImpulseType(kind)), encode_payload(payload)
        self._expire()
        time = self._hlc.now() if hlc is None else hlc
        self._make_room(size_of(encoded), key_of(strength, time, self._settings.half_life_ms))
        number = self._state.next_id
        self._change(Emit(number, code, tags[0], node, tags[1], time, float(strength), encoded))
        return number

    def lease(self, limit: int, target: StructureTag | None = None) -> list[Delivery]:
        """Hand out the first impulses that wait, each for ``lease_ms``.

        Call :meth:`sync` before they are worked on: then an attempt that ends the process counts too.

        Args:
            limit: how many at most.
            target: those for one structure; None: all.

        Raises:
            JournalFailed: an earlier call on the files failed; open the queue again.
        """
        self._check()
        self._end_leases()
        self._expire()
        ids = self._state.pick(limit, None if target is None else int(target))
        if not ids:
            return []
        self._change(Lease(ids))
        deadline = self._clock.mono_ns() + self._settings.lease_ms * _NS_PER_MS
        entries = [self._state.live[one] for one in ids]
        for entry in entries:
            heapq.heappush(self._deadlines, (deadline, entry.impulse.id, entry.leased))
        return [Delivery(entry.impulse, entry.attempts, self._strength(entry)) for entry in entries]

    def done(self, ids: Iterable[int]) -> int:
        """Settle impulses that were worked off, also late: after the lease ran out, or when they are dead already.

        Returns:
            How many there were; those that are settled already do not count.

        Raises:
            JournalFailed: an earlier call on the files failed; open the queue again.
        """
        self._check()
        known = [one for one in dict.fromkeys(ids) if one in self._state.live or one in self._state.dead]
        if known:
            self._change(Done(known))
        return len(known)

    def release(self, ids: Iterable[int]) -> int:
        """Give impulses back that were not worked on; the attempt does not count.

        Returns:
            How many were handed out and wait again.

        Raises:
            JournalFailed: an earlier call on the files failed; open the queue again.
        """
        self._check()
        live = self._state.live
        known = [one for one in dict.fromkeys(ids) if one in live and live[one].leased]
        if known:
            self._change(Back(known))
        return len(known)

    def dead(self) -> list[Delivery]:
        """The dead impulses, in the order in which they died."""
        return [Delivery(one.impulse, one.attempts, self._strength(one)) for one in self._state.dead.values()]

    def revive(self, ids: Iterable[int]) -> int:
        """Let dead impulses wait again, with all their attempts: what killed them was put right.

        Returns:
            How many there were and had room.

        Raises:
            JournalFailed: an earlier call on the files failed; open the queue again.
        """
        self._check()
        fitting: list[int] = []
        count, size = len(self._state.live), self._state.size
        for one in dict.fromkeys(ids):
            entry = self._state.dead.get(one)
            if entry is None:
                continue
            count += 1
            size += entry.size
            if count > self._settings.max_count or size > self._settings.max_bytes:
                break
            fitting.append(one)
        if fitting:
            self._change(Revive(fitting))
        return len(fitting)

    def purge(self, ids: Iterable[int]) -> int:
        """Drop dead impulses; return how many there were.

        Raises:
            JournalFailed: an earlier call on the files failed; open the queue again.
        """
        self._check()
        return self._drop([one for one in dict.fromkeys(ids) if one in self._state.dead], "purged")

    def statistics(self) -> ImpulseStatistics:
        """What there is now, and what was counted. Leases that ran out are ended first."""
        self._end_leases()
        state = self._state
        lanes = state.lanes()
        return ImpulseStatistics(
            ready=sum(lane.ready for lane in lanes.values()),
            leased=sum(lane.leased for lane in lanes.values()),
            dead=len(state.dead),
            size=state.size,
            emitted=state.emitted,
            delivered=state.delivered,
            redelivered=state.redelivered,
            done=state.done,
            dropped=dict(state.dropped),
            refused=self._refused,
            cursors=lanes,
        )

    def _change(self, change: Change) -> None:
        self._state.apply(change)
        self._add(msgspec.msgpack.encode(change))

    def _drop(self, ids: list[int], reason: str) -> int:
        if ids:
            self._change(Drop(ids, reason))
        return len(ids)

    def _half_lives(self) -> float:
        """The time of the wall clock, in half-lives."""
        half_life = self._settings.half_life_ms
        return 0.0 if half_life is None else self._clock.wall_ns() / _NS_PER_MS / half_life

    def _strength(self, entry: Entry) -> float:
        half_life = self._settings.half_life_ms
        if half_life is None:
            return entry.impulse.strength
        # A stamp may be ahead of the wall clock; that makes nothing stronger than it was.
        age_ns = max(0, self._clock.wall_ns() - unpack(entry.impulse.hlc).millis * _NS_PER_MS)
        return entry.impulse.strength * math.exp2(-age_ns / _NS_PER_MS / half_life)

    def _expire(self) -> None:
        """Drop what has become weaker than the floor."""
        if self._settings.floor <= 0:
            return
        least = math.log2(self._settings.floor) + self._half_lives()
        gone: list[int] = []
        for entry in self._state.weakest():
            if entry.key >= least:
                self._state.weigh(entry)
                break
            gone.append(entry.impulse.id)
        self._drop(gone, "expired")

    def _end_leases(self) -> None:
        """Let wait again what was handed out too long ago."""
        now = self._clock.mono_ns()
        over: list[Entry] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number, lease = heapq.heappop(self._deadlines)
            entry = self._state.live.get(number)
            if entry is not None and entry.leased == lease:
                over.append(entry)
        self._bring_back(over)

    def _bring_back(self, entries: Iterable[Entry]) -> None:
        """Let impulses wait again, or declare those dead that had all their attempts."""
        dead: list[int] = []
        for entry in entries:
            if entry.attempts >= self._settings.max_attempts:
                dead.append(entry.impulse.id)
            else:
                self._state.back(entry)
        if not dead:
            return
        self._change(Dead(dead))
        surplus = len(self._state.dead) - self._settings.max_dead
        self._drop(list(self._state.dead)[: max(0, surplus)], "dead")

    def _make_room(self, size: int, key: float) -> None:
        """Drop what is weaker than ``key`` until ``size`` bytes more fit.

        Raises:
            ImpulseQueueFull: that is not enough. Nothing was dropped.
            ImpulseRefused: it would not fit an empty queue.
        """
        if size > self._settings.max_bytes:
            raise ImpulseRefused(f"an impulse of {size} bytes never fits a queue of {self._settings.max_bytes} bytes")
        count = len(self._state.live) + 1 - self._settings.max_count
        surplus = self._state.size + size - self._settings.max_bytes
        if count <= 0 and surplus <= 0:
            return
        victims: list[Entry] = []
        if self._settings.overflow is Overflow.DROP_WEAKEST:
            for entry in self._state.weakest():
                victims.append(entry)
                if entry.key >= key:
                    break
                count -= 1
                surplus -= entry.size
                if count <= 0 and surplus <= 0:
                    self._drop([one.impulse.id for one in victims], "weakest")
                    return
        for entry in victims:
            self._state.weigh(entry)
        self._refused += 1
        raise ImpulseQueueFull(
            f"the queue is full with {len(self._state.live)} impulses of {self._state.size} bytes; let them be worked "
            "off and emit again, or let the queue drop its weakest",
            count=len(self._state.live),
            size=self._state.size,
        )
