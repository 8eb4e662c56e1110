"""Putting a message back together that was too large for one record.

A fragment's payload begins with one u64: the size of the whole in the first fragment, the offset of its bytes in the
others. The reader frees each fragment as it copies it, so the sender can go on; therefore the sender keeps the message
until the last fragment is committed and begins again if the reader was replaced. A reader that meets a first fragment,
or anything but a fragment, in the middle of a message drops what it has: its sender died or began again.

Guaranteed: memory grows with what arrives, never with what a header claims.
"""

from __future__ import annotations

from weftos import limits
from weftos.errors import RingCorrupted
from weftos.shm import layout

__all__ = ["Assembly"]


class Assembly:
    """The message in fragments that is being received, if there is one."""

    __slots__ = ("_chunks", "_kind", "_received", "_total")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._kind = self._received = self._total = 0

    @property
    def active(self) -> bool:
        """Whether a first fragment has arrived and the last has not."""
        return self._total > 0

    def drop(self) -> bool:
        """Forget an incomplete message. Returns whether there was one."""
        dropped = self._total > 0
        self._chunks = []
        self._kind = self._received = self._total = 0
        return dropped

    def feed(self, payload: bytes, flags: int) -> tuple[int, bytearray] | None:
        """Add one fragment that continues or begins a message; ``drop`` comes before a first one.

        Args:
            payload: private copy of the record's payload.
            flags: of its record word.

        Returns:
            Kind and payload of the whole message, if this was the last fragment.

        Raises:
            RingCorrupted: sizes, offsets, kinds or flags contradict each other.
        """
        kind, part = flags >> layout.FRAG_KIND_SHIFT, flags & (layout.FRAG_FIRST | layout.FRAG_LAST)
        value = int.from_bytes(payload[:8], "little")
        if part & layout.FRAG_FIRST:
            if not 0 < value <= limits.MAX_MESSAGE_BYTES or kind not in (layout.BYTES, layout.ARRAY):
                raise RingCorrupted(f"a message in fragments of {value} bytes and kind {kind}")
            self._kind, self._total = kind, value
        elif value != self._received or kind != self._kind:
            raise RingCorrupted(f"a fragment for offset {value} where {self._received} was due")
        self._chunks.append(payload)
        self._received += len(payload) - 8
        if self._received > self._total or (self._received == self._total) != bool(part & layout.FRAG_LAST):
            raise RingCorrupted(f"fragments of {self._received} bytes for a message of {self._total}")
        if not part & layout.FRAG_LAST:
            return None
        whole = bytearray().join([memoryview(chunk)[8:] for chunk in self._chunks])
        kind = self._kind
        self.drop()
        return kind, whole
