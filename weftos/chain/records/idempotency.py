"""Remembers what each producer has already put into the log, so that what is submitted again is not logged again.

Why it is as it is: a producer's stream has positions that only grow, and it repeats at most what its ring still holds.
So a window of recent positions per producer is enough, and what lies before the window was either answered long ago
or is a mistake: it is refused rather than logged twice. A producer that floods loses only positions of its own.

A position stands for one event. If another event comes under it, somebody has lost count, and the answer of the first
would be a lie to him. So a digest of the event's content is kept beside each acknowledgement. It is Python's own hash
of the encoded event: 64 bits, a tenth of a microsecond, different in each process, made again from the log when it is
opened and never stored, so that it tells nothing about a payload that is taken away. Whoever searches for two events
with one digest deceives nobody but himself: positions are his own.

Guaranteed: memory stays below ``limits.CHAIN_INDEX_ENTRIES`` entries; an accepted (producer, position) is answered with
the same acknowledgement for as long as it is remembered, and refused afterwards; with another content it is refused at
once. Not guaranteed: refusal after a restart of what the rebuilt window does not reach; see ``recovery``. Of a record
whose payload was taken away before the log was opened, all but the payload is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Final

from weftos import limits
from weftos.chain.records.record import Ack, NewEvent, Record
from weftos.errors import AppendRefused, IdempotencyConflict

__all__ = ["ProducerIndex", "content_digest", "record_digest"]

#: Stands for the newest record of a producer of which nothing is remembered any more.
_NEVER: Final = (Ack(-1, b"", 0), 0)


def content_digest(event: NewEvent, data: bytes) -> int:
    """Return a digest of what an event says, for this process alone.

    Args:
        event: which event; its source, producer, position and time do not count.
        data: its encoded payload.
    """
    return hash((event.kind, event.subject, event.cause, event.permit, data))


def record_digest(record: Record) -> int | None:
    """Return the digest of the event that a record came from; ``None`` if its payload was taken away."""
    if record.withheld:
        return None
    header = record.header
    return hash((header.kind, header.subject, header.cause, header.permit, record.payload_bytes))


class ProducerIndex:
    """Windows of recent positions, one per producer.

    Args:
        window: positions remembered per producer.
        entries: positions remembered in all.
    """

    __slots__ = ("_count", "_entries", "_floors", "_tops", "_window", "_windows")

    def __init__(self, window: int = limits.CHAIN_PRODUCER_WINDOW, entries: int = limits.CHAIN_INDEX_ENTRIES) -> None:
        self._window = window
        self._entries = entries
        self._windows: dict[str | int, dict[int, tuple[Ack, int | None]]] = {}
        self._floors: dict[str | int, int] = {}
        #: Highest position of each producer so far.
        self._tops: dict[str | int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, producer: str | int, position: int, digest: int) -> Ack | None:
        """Return the acknowledgement that this position got, or ``None`` if it is new.

        Args:
            producer: names the stream.
            position: in it.
            digest: of the event that is to stand there, see ``content_digest``.

        Raises:
            IdempotencyConflict: it got one for another event.
            AppendRefused: the position lies before what is remembered.
        """
        self.check(producer, position, digest)
        return self.recall(producer, position)

    def check(self, producer: str | int, position: int, digest: int) -> None:
        """Refuse what cannot be told new from old, and another event in the place of the first.

        Raises:
            IdempotencyConflict, AppendRefused: as for ``find``.
        """
        known = self._windows.get(producer)
        found = None if known is None else known.get(position)
        if found is None:
            if position < self._floors.get(producer, 0):
                raise AppendRefused(f"position {position} of {producer!r} lies before what is remembered of it")
        elif found[1] != digest and found[1] is not None:
            raise conflict(producer, position, found[0].seq)

    def check_all(self, events: Sequence[NewEvent], payloads: Sequence[bytes]) -> tuple[list[int], str | int | None]:
        """Check the events of a batch as ``check`` does, against each other too.

        Args:
            events: of the batch.
            payloads: encoded, one for each.

        Returns:
            Their digests, 0 for events without a position; and, if they are a run, the name of their producer. A run is
            several events of one producer, all new and in the order of its positions.

        Raises:
            IdempotencyConflict, AppendRefused: as for ``find``.
        """
        digests = [
            content_digest(event, data) if event.producer is not None and event.position is not None else 0
            for event, data in zip(events, payloads, strict=True)
        ]
        if len(events) > 1 and (producer := self._run_of(events)) is not None:
            return digests, producer
        for event, digest in zip(events, digests, strict=True):
            if event.producer is not None and event.position is not None:
                self.check(event.producer, event.position, digest)
        if len(events) > 1:
            _check_within(events, digests)
        return digests, None

    def _run_of(self, events: Sequence[NewEvent]) -> str | int | None:
        """Return whose stream the events continue, if they do: the usual case, and the cheapest to check."""
        producer = events[0].producer
        if producer is None:
            return None
        last = max(self._tops.get(producer, -1), self._floors.get(producer, 0) - 1)
        for event in events:
            position = event.position
            if position is None or position <= last or event.producer != producer:
                return None
            last = position
        return producer

    def recall(self, producer: str | int, position: int) -> Ack | None:
        """Return the acknowledgement that this position got, or ``None`` if none is remembered."""
        known = self._windows.get(producer)
        found = None if known is None else known.get(position)
        return None if found is None else found[0]

    def add(self, producer: str | int, position: int, ack: Ack, digest: int | None) -> None:
        """Remember a position; without a digest any event counts as the one that got it."""
        known = self._window_of(producer)
        known[position] = ack, digest
        self._count += 1
        if position > self._tops.get(producer, -1):
            self._tops[producer] = position
        self._keep_within(producer, known)

    def add_run(self, producer: str | int, run: dict[int, tuple[Ack, int]]) -> None:
        """Remember the new positions of a run, which are above all before; each with acknowledgement and digest."""
        known = self._window_of(producer)
        known.update(run)
        self._count += len(run)
        self._tops[producer] = next(reversed(run))
        self._keep_within(producer, known)

    def _window_of(self, producer: str | int) -> dict[int, tuple[Ack, int | None]]:
        known = self._windows.get(producer)
        if known is None:
            if len(self._windows) >= limits.CHAIN_PRODUCERS:
                self._drop_quietest()
            known = self._windows[producer] = {}
        return known

    def _keep_within(self, producer: str | int, known: dict[int, tuple[Ack, int | None]]) -> None:
        while len(known) > self._window:
            self._drop_half(producer)
        while self._count > self._entries:
            self._drop_half(max(self._windows, key=lambda name: len(self._windows[name])))

    def forget_before(self, producer: str | int, position: int) -> None:
        """Forget the positions below ``position``: the producer will not submit them again."""
        known = self._windows.get(producer)
        if known is None:
            return
        # Positions arrive in order, with rare exceptions; an exception that stays is dropped with its window.
        old = list(takewhile(lambda known_position: known_position < position, known))
        self._drop(known, old)
        self._raise_floor(producer, position)

    def _drop_half(self, producer: str | int) -> None:
        known = self._windows[producer]
        old = list(islice(known, (len(known) + 1) // 2))
        self._drop(known, old)
        self._raise_floor(producer, max(old) + 1)

    def _drop_quietest(self) -> None:
        """Drop the producer whose newest record is the oldest."""
        name = min(self._windows, key=lambda name: next(reversed(self._windows[name].values()), _NEVER)[0].seq)
        self._count -= len(self._windows.pop(name))
        self._floors.pop(name, None)
        self._tops.pop(name, None)

    def _drop(self, known: dict[int, tuple[Ack, int | None]], old: list[int]) -> None:
        for position in old:
            del known[position]
        self._count -= len(old)

    def _raise_floor(self, producer: str | int, position: int) -> None:
        self._floors[producer] = max(position, self._floors.get(producer, 0))


def _check_within(events: Sequence[NewEvent], digests: Sequence[int]) -> None:
    """Refuse a batch in which one place is given to two events."""
    seen: dict[tuple[str | int, int], int] = {}
    for event, digest in zip(events, digests, strict=True):
        if event.producer is not None and event.position is not None:
            place = event.producer, event.position
            if seen.setdefault(place, digest) != digest:
                raise IdempotencyConflict(
                    f"position {place[1]} of {place[0]!r} stands twice in a batch, with two events"
                )


def conflict(producer: str | int, position: int, seq: int) -> IdempotencyConflict:
    """Return the error for another event in the place of the first."""
    return IdempotencyConflict(
        f"position {position} of {producer!r} is taken by record {seq}, which says something else; "
        "submit another event under a position of its own",
        seq=seq,
    )
