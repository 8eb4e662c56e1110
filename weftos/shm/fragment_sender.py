"""Sending a message that is larger than a record: hand it over piece by piece, together with the reader.

Why it is as it is: the reader frees each piece as it copies it, so the message is nowhere whole in the ring and a
successor of the reader could not begin in its middle. Therefore the sender keeps the message until the last piece is
*committed*, watches the kernel's CONSUMER_EPOCH meanwhile, and begins again from the first piece if the reader was
replaced.

Guaranteed: a return means that a reader has committed the message. ``RingFull`` means that nothing was written.
``WeftTimeout`` after the last piece means that it may still be handled. Not guaranteed: that it is handled once only; a
replaced reader gets it again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from weftos import limits
from weftos.errors import MessageTooLarge, RingFull, WeftTimeout
from weftos.shm import layout
from weftos.shm.segment import Segment

if TYPE_CHECKING:
    from weftos.shm.producer import RingProducer

__all__ = ["put_fragments"]


def put_fragments(producer: RingProducer, kind: int, parts: Sequence[memoryview], deadline: float) -> int:
    """Send one message in fragments.

    Args:
        producer: the ring's writer.
        kind: ``layout.BYTES`` or ``layout.ARRAY``.
        parts: byte views; the message is their concatenation.
        deadline: monotonic time in seconds.

    Returns:
        The id of the message: the position of its last fragment.

    Raises:
        MessageTooLarge: above ``limits.MAX_MESSAGE_BYTES``; found out before anything is copied.
        RingFull: no time given, or no room for the first fragment at the deadline.
        WeftTimeout: the deadline passed midway, or the reader was replaced too often.
    """
    total = sum(len(part) for part in parts)
    ring, capacity = producer.geometry.ring_id, producer.geometry.capacity
    if total > limits.MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"ring {ring}: a message of {total} bytes; the limit is {limits.MAX_MESSAGE_BYTES}",
            size=total,
            limit=limits.MAX_MESSAGE_BYTES,
        )
    if time.monotonic() >= deadline:
        raise RingFull(
            f"ring {ring}: a message of {total} bytes is handed over in parts and needs a timeout above 0",
            depth_bytes=producer.depth_bytes(),
            capacity=capacity,
        )
    producer.fragmented += 1
    words = producer.segment.words
    for _ in range(limits.FRAGMENT_RESTARTS + 1):
        epoch = words[layout.CONSUMER_EPOCH]
        last = _send(producer, kind, parts, total, epoch, deadline)
        if last is not None and _committed(producer, last, epoch, deadline, total):
            return last
        producer.restarts += 1
    raise WeftTimeout(f"ring {ring}: the reader was replaced {limits.FRAGMENT_RESTARTS + 1} times during one message")


def _send(
    producer: RingProducer, kind: int, parts: Sequence[memoryview], total: int, epoch: int, deadline: float
) -> int | None:
    """Write all fragments. Returns the position of the last one, or None if the consumer was replaced meanwhile."""
    geometry, segment = producer.geometry, producer.segment
    step = geometry.max_payload - 8
    sent = head = 0
    while sent < total:
        n = min(step, total - sent)
        flags = (layout.FRAG_FIRST if sent == 0 else 0) | (layout.FRAG_LAST if sent + n == total else 0)
        try:
            head = producer._reserve(layout.record_bytes(n + 8), deadline)
        except RingFull:
            if sent == 0:
                raise
            raise WeftTimeout(
                f"ring {geometry.ring_id}: {sent} of {total} bytes were taken at the deadline; they are dropped"
            ) from None
        if segment.words[layout.CONSUMER_EPOCH] != epoch:
            return None
        start = (head & geometry.mask) + layout.HEADER_BYTES + layout.RECORD_WORD_BYTES
        segment.map[start : start + 8] = (total if sent == 0 else sent).to_bytes(8, "little")
        _gather(segment, start + 8, parts, sent, n)
        word = (n + 8) | layout.FRAGMENT << 32 | (flags | kind << layout.FRAG_KIND_SHIFT) << 40
        producer._finish(head, n + 8, word, 1 if flags & layout.FRAG_LAST else 0)
        sent += n
    return head


def _committed(producer: RingProducer, last: int, epoch: int, deadline: float, total: int) -> bool:
    """Wait until the consumer has committed past ``last``. False if it was replaced before it had."""
    words = producer.segment.words

    def settled() -> bool:
        return words[layout.COMMIT] > last or words[layout.CONSUMER_EPOCH] != epoch

    if not producer._await(settled, producer.position, deadline):
        raise WeftTimeout(
            f"ring {producer.geometry.ring_id}: a message of {total} bytes was written but not committed when the "
            "deadline passed; it may still be handled"
        )
    # COMMIT first, epoch second: a successor commits only after the new epoch, so an old epoch vouches for the commit.
    if words[layout.COMMIT] > last and words[layout.CONSUMER_EPOCH] == epoch:
        return True
    return words[layout.CONSUMER_EPOCH] == epoch + 1 and words[layout.EPOCH_COMMIT] > last


def _gather(segment: Segment, at: int, parts: Sequence[memoryview], offset: int, count: int) -> None:
    """Copy ``count`` bytes of the concatenation of ``parts``, from ``offset`` on, to byte ``at`` of the segment."""
    for part in parts:
        if count == 0:
            return
        if offset >= len(part):
            offset -= len(part)
            continue
        n = min(len(part) - offset, count)
        segment.map[at : at + n] = part[offset : offset + n]
        at += n
        count -= n
        offset = 0
