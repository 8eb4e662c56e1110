"""The machinery of the reading end: taking records apart, and moving COMMIT and TAIL.

Why apart from ``consumer``: that file is what a reader of the ring uses; this one is what must be right for it. The hot
path calls ``_next``, ``_next_block``, ``_commit_slow`` and ``_publish``; everything here may be slow and is therefore
careful.

Guaranteed: contents are copied once, and only the copy is taken apart; what contradicts the format raises
``RingCorrupted`` and moves nothing. Not guaranteed: that a record stays what it was once it has been handed out;
``commit_to`` checks that much again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from weftos.errors import RingCorrupted
from weftos.shm import arrays, batches, fence, layout
from weftos.shm.arrays import copy_array
from weftos.shm.audit import Leaves, RingAudit
from weftos.shm.counting import Marks, count_before, count_between
from weftos.shm.fragments import Assembly
from weftos.shm.hot_consumer import build_hot_consumer
from weftos.shm.segment import Segment
from weftos.shm.spin import Patience

__all__ = ["ConsumerCore", "Waiting"]


class Waiting(Protocol):
    """Something to sleep on until there is work."""

    def wait(self, timeout_s: float, has_work: Callable[[], bool], /) -> bool:
        """Sleep at most ``timeout_s`` seconds; True as soon as ``has_work()``."""
        ...


class _Batch(NamedTuple):
    """A batch record between its first hand-out and its commit."""

    position: int
    end: int
    messages: int


class ConsumerCore:
    """State and slow paths of ``RingConsumer``; see there for the arguments."""

    __slots__ = (
        "_assembly",
        "_auto",
        "_batches",
        "_bell",
        "_counted",
        "_eighth",
        "_fragments",
        "_grid",
        "_load",
        "_marks",
        "_notes",
        "_patience",
        "_pending",
        "_pending_at",
        "_pending_id",
        "_settle",
        "_start",
        "_store",
        "_sub",
        "_tail",
        "_waiter",
        "_words",
        "audit",
        "commit",
        "geometry",
        "get",
        "segment",
        "take",
    )

    def __init__(
        self,
        segment: Segment,
        *,
        space_bell: Callable[[], None] | None = None,
        waiter: Waiting | None = None,
        autocommit: bool = False,
        audit: bool = False,
        leaves: Leaves | None = None,
        fragments: bool = True,
    ) -> None:
        fence.register()
        self.segment = segment
        self.geometry = geometry = layout.read_geometry(segment)
        words = segment.words
        start = words[layout.COMMIT]
        if start & 7 or not 0 <= words[layout.HEAD] - start <= geometry.capacity:
            raise RingCorrupted(f"ring {geometry.ring_id}: COMMIT {start} is impossible for HEAD {words[layout.HEAD]}")
        self._bell = space_bell
        self._words = words
        self._auto = autocommit
        self._waiter = waiter
        self._patience = Patience()
        self._start = start
        self._tail = start
        self._eighth = geometry.capacity // 8
        self._assembly = Assembly()
        self._fragments = fragments
        self._batches: deque[_Batch] = deque()
        self._pending: list[bytes] = []
        self._pending_at = 0
        self._pending_id = 0
        self._sub = (start, 0)
        self._marks = Marks(segment, layout.GET_MARKS)
        count = count_before(segment, geometry, self._marks, start)
        #: The last place of which the counter is known exactly.
        self._counted = (start, count)
        self.audit = RingAudit(segment, geometry, start, count, leaves) if audit else None
        self._grid = self.audit.next_boundary if self.audit is not None else layout.NOBODY
        self._notes: deque[tuple[int, int]] = deque()
        hot = build_hot_consumer(segment, geometry, start, count, autocommit, self)
        self.get: Callable[[], Any] = hot.get
        self.take, self.commit = hot.take, hot.commit
        self._load, self._store, self._settle = hot.load, hot.store, hot.settle
        self._settle(start, start + self._eighth)
        self._claim()

    def _claim(self) -> None:
        """Free what our predecessor had committed but not published."""
        self._marks.write(*self._counted)
        self.segment.words[layout.TAIL] = self._start

    # --- handing out --------------------------------------------------------------------------------------------------

    def _next(self) -> Any:
        """Hand out the next item, whatever it is; None when there is none."""
        come = self._look()
        if come is None:
            block = self._next_block(1)
            return block[0][1] if block else None
        return self.get() if come else None

    def _look(self) -> bool | None:
        """If nothing is known to be there, look whether something has come for the hot path; else ``None``."""
        cursor, head, last, _, committed = self._load()
        if cursor < head or cursor >= self._grid or self._pending or self._assembly.active:
            return None
        head = self._look_at_head(cursor)
        if head == cursor:
            if committed != self._tail:
                self._publish()
            return False
        self._store(cursor, min(head, self._grid), head, last, 0)
        return True

    def _next_block(self, limit: int) -> list[tuple[int, Any]]:
        """Hand out the next record: one item, or up to ``limit`` messages of a batch. Empty when nothing is whole."""
        if self._pending:
            return self._from_batch(limit)
        # Fragments complete nothing by themselves: whoever keeps them coming must not keep us here.
        bound = self._load()[0] + self.geometry.capacity
        while True:
            self._note_boundary()
            cursor, head, last, _, committed = self._load()
            if cursor > bound:
                return []
            if cursor >= head:
                head = self._look_at_head(cursor)
                if cursor >= head:
                    if committed != self._tail:
                        self._publish()
                    return []
            self._store(cursor, min(head, self._grid), head, last, 0)
            word = self.segment.words[((cursor & self.geometry.mask) >> 3) + layout.DATA_WORD]
            n, kind, flags = word & 0xFFFFFFFF, word >> 32 & 0xFF, word >> 40
            end = cursor + layout.record_bytes(n)
            if n > self.geometry.max_payload or end > head:
                raise self._corrupted(f"a record of {n} bytes at {cursor} reaches past its limits")
            if flags and kind != layout.FRAGMENT:
                raise self._corrupted(f"a record of kind {kind} at {cursor} has flags {flags:#x}")
            if kind != layout.FRAGMENT and self._assembly.drop():
                self._count_drop()
            found = self._decode(cursor, end, n, kind, flags, limit)
            if found is not None:
                return found

    def _decode(
        self, position: int, end: int, n: int, kind: int, flags: int, limit: int
    ) -> list[tuple[int, Any]] | None:
        """Take one record apart. None when it was a fragment that completes nothing."""
        at = (position & self.geometry.mask) + layout.HEADER_BYTES + layout.RECORD_WORD_BYTES
        item: Any
        messages = 1
        if kind == layout.BYTES:
            item = self.segment.map[at : at + n]
        elif kind in (layout.BATCH_UNIFORM, layout.BATCH_TABLE):
            self._open_batch(position, end, batches.unpack_batch(kind, self.segment.map[at : at + n]))
            return self._from_batch(limit)
        elif kind in (layout.ARRAY, layout.RECORDS):
            item = copy_array(self.segment, at, n)
            if kind == layout.RECORDS:
                item = item.array
                if item.ndim != 1 or not len(item):
                    raise self._corrupted(f"a block of records at {position} is not a list")
                messages = len(item)
        elif kind == layout.FRAGMENT:
            if not self._fragments:
                raise self._corrupted(f"a fragment at {position}, where messages come in one piece")
            return self._take_fragment(position, end, self.segment.map[at : at + n], flags)
        else:
            raise self._corrupted(f"a record of unknown kind {kind} at {position}")
        self._advance(position, end, messages)
        return [(position, item)]

    def _advance(self, position: int, end: int, messages: int) -> None:
        head = self._load()[1]
        self._store(end, min(head, self._grid), head, position, messages)

    def _look_at_head(self, cursor: int) -> int:
        head = self.segment.words[layout.HEAD]
        if fence.publish_fence is not None:
            fence.publish_fence()
        if not cursor <= head <= self._tail + self.geometry.capacity or head & 7:
            raise self._corrupted(f"HEAD {head} is impossible for a reader at {cursor}")
        return head

    def _corrupted(self, what: str) -> RingCorrupted:
        return RingCorrupted(f"ring {self.geometry.ring_id}: {what}")

    def _open_batch(self, position: int, end: int, messages: list[bytes]) -> None:
        done = 0
        if position == self._start:
            # Our predecessor may have done part of it.
            sub = self.segment.words[layout.SUB]
            if sub >> 32 == position >> 3 & 0xFFFFFFFF:
                done = sub & 0xFFFFFFFF
                if done >= len(messages):
                    raise self._corrupted(f"{done} of {len(messages)} messages of a batch are said to be done")
        if position == self._start:
            self._sub = (position, done)
        self._batches.append(_Batch(position, end, len(messages)))
        self._pending, self._pending_at, self._pending_id = messages, done, position
        _, head, last, _, _ = self._load()
        # Stop at 0: every call comes here until the batch is handed out. What was done before counts as handed out.
        self._store(end, 0, head, last, done)

    def _from_batch(self, limit: int) -> list[tuple[int, Any]]:
        first = self._pending_id + self._pending_at
        part = self._from_batch_bare(limit)
        return list(zip(range(first, first + len(part)), part, strict=True))

    def _from_batch_bare(self, limit: int) -> list[bytes]:
        at, first = self._pending_at, self._pending_id
        until = min(at + limit, len(self._pending))
        part = self._pending[at:until]
        cursor, head, _, _, _ = self._load()
        if until == len(self._pending):
            self._pending = []
            stop = min(head, self._grid)
        else:
            self._pending_at = until
            stop = 0
        self._store(cursor, stop, head, first + until - 1, until - at)
        return part

    def _take_fragment(self, position: int, end: int, payload: bytes, flags: int) -> list[tuple[int, Any]] | None:
        if len(payload) < 9 or flags & 0xFF & ~(layout.FRAG_FIRST | layout.FRAG_LAST):
            raise self._corrupted(f"an impossible fragment at {position}")
        assembly = self._assembly
        if flags & layout.FRAG_FIRST and assembly.drop():
            self._count_drop()
        last = flags & layout.FRAG_LAST
        whole, lost = None, 0
        if flags & layout.FRAG_FIRST or assembly.active:
            whole = assembly.feed(payload, flags)
        elif last:
            self._count_drop()  # our predecessor had the beginning; the producer begins again
            lost = 1
            if self.audit is not None:
                self.audit.lose(position, "incomplete")
        if whole is not None:
            kind, content = whole
            item = arrays.decode(content) if kind == layout.ARRAY else bytes(content)
            self._advance(position, end, 1)
            return [(position, item)]
        head, previous, committed = self._load()[1], self._load()[2], self._load()[4]
        # While a message is incomplete every record comes here, so that one of another kind drops it.
        self._store(end, 0 if assembly.active else min(head, self._grid), head, previous, lost)
        if committed == position:
            self._commit_at(end)
        return None

    def _count_drop(self) -> None:
        words = self.segment.words
        words[layout.DROP_COUNT] = (words[layout.DROP_COUNT] + 1) & layout.NOBODY

    # --- committing ---------------------------------------------------------------------------------------------------

    def _commit_slow(self) -> None:
        """Commit when batches are open: to the cursor, or into the batch that is not handed out to its end."""
        if self._pending:
            self._commit_in_batch(self._batches[-1], self._pending_at)
        else:
            self._batches.clear()
            self._commit_at(self._load()[0])

    def _commit_at(self, position: int) -> None:
        words = self.segment.words
        words[layout.COMMIT] = position
        self._settle(position, self._tail + self._eighth)
        if position >= self._tail + self._eighth or position >= words[layout.SPACE_WANTED]:
            self._publish()

    def _commit_in_batch(self, batch: _Batch, done: int) -> None:
        while self._batches[0] is not batch:
            self._batches.popleft()
        if self._sub[0] == batch.position and self._sub[1] >= done:
            return  # what is done stays done
        self._sub = (batch.position, done)
        if self._load()[4] != batch.position:
            self._commit_at(batch.position)
        self.segment.words[layout.SUB] = (batch.position >> 3 & 0xFFFFFFFF) << 32 | done

    def commit_to(self, message_id: int) -> None:
        """Declare a message and everything handed out before it done. What is done already stays done.

        Args:
            message_id: from ``take``, ``get_with_id`` or ``position``.

        Raises:
            RingCorrupted: the producer overwrote the record meanwhile.
        """
        cursor, _, last, _, committed = self._load()
        assert message_id <= last, "a message is handed out before it is committed"
        open_batches = self._batches
        while open_batches and open_batches[0].end <= message_id:
            open_batches.popleft()
        if open_batches and open_batches[0].position <= message_id:
            batch = open_batches[0]
            done = message_id - batch.position + 1
            if done < batch.messages:
                self._commit_in_batch(batch, done)
                return
            open_batches.popleft()
            end = batch.end
        elif message_id < committed:
            return
        else:
            n = self.segment.words[((message_id & self.geometry.mask) >> 3) + layout.DATA_WORD] & 0xFFFFFFFF
            end = message_id + layout.record_bytes(n)
            if end > cursor or message_id & 7:
                raise self._corrupted(f"the record at {message_id} changed after it was handed out")
        if end > committed:
            self._commit_at(end)

    def _note_boundary(self) -> None:
        """Remember where an audit window ends: at the cursor, once it has reached the grid line."""
        if self.audit is not None:
            cursor, _, _, count, _ = self._load()
            if cursor >= self._grid:
                self._notes.append((cursor, count + len(self._pending) - self._pending_at if self._pending else count))
                size = self.geometry.audit_window
                self._grid = (cursor // size + 1) * size

    def _publish(self) -> None:
        """Let the producer reuse what is committed, and tell it if it waits for that."""
        words = self.segment.words
        cursor, _, _, count, committed = self._load()
        done = count if committed == cursor else self._count_at(committed)
        if self.audit is not None:
            self._note_boundary()
            while self._notes and self._notes[0][0] <= committed:
                self.audit.advance(*self._notes.popleft())
            self.audit.absorb(committed)
        if fence.publish_fence is not None:
            fence.publish_fence()
        # The mark first: while TAIL is the old one, everything behind the mark before is still there.
        self._counted = (committed, done)
        self._marks.write(committed, done)
        words[layout.TAIL] = self._tail = committed
        words[layout.GET_COUNT] = count & layout.NOBODY
        self._settle(committed, committed + self._eighth)
        if committed >= words[layout.SPACE_WANTED]:
            words[layout.SPACE_WANTED] = layout.NOBODY
            if self._bell is not None:
                self._bell()

    def _count_at(self, position: int) -> int:
        """How many messages lie before a record boundary at or behind TAIL."""
        at, count = self._counted
        return count + count_between(self.segment, self.geometry, at, position)

    def release_space(self) -> None:
        """Publish TAIL now: before sleeping without ``get`` having said that the ring is empty, or before leaving."""
        self._publish()
