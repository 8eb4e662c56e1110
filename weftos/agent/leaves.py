"""Merkle trees over the messages of windows, and what is kept to prove later that one message lies in a window.

A leaf of a ring's window is ``position (u64, little-endian) ‖ record word ‖ payload``: the record as it lay in the
ring, and where. A leaf of a topic's window is the message as it was sent, which holds topic and counter. Trees are
those of RFC 9162 with SHA-256.

Kept are the leaves of closed windows, newest first out of ``limits.PROOF_KEEP_BYTES`` for all streams of the agent
together; of a message above ``limits.PROOF_MESSAGE_BYTES`` only the hash. Everything is in this process's memory and
ends with it. Whoever wants to prove a message later makes the proof while it is here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, TypeAlias

from weftos import limits
from weftos.merkle.frontier import Frontier, node_hash
from weftos.merkle.proofs import inclusion_proof

__all__ = ["FoundLeaf", "Label", "LeafKeeper", "StreamLeaves", "topic_key"]

#: Names a stream end: (ring, side) or (topic, publisher).
Label: TypeAlias = tuple[int, str] | tuple[str, int] | tuple[()]

#: What keeping a leaf costs beside the message: its hash, its key, and three objects.
_LEAF_BYTES: Final = 200


def topic_key(ring: int, position: int) -> int:
    """Return by what the leaf of a message to a topic is found: where the message lay."""
    return ring << 64 | position


@dataclass(slots=True, frozen=True)
class FoundLeaf:
    """A message in a window.

    Attributes:
        start: where the window begins: position in the ring, or counter in the topic.
        size: leaves of the tree that the path leads to.
        index: of the leaf.
        leaf: its hash, 32 bytes.
        path: hashes that lead to the root, lowest first.
        data: what was hashed; empty if it is not kept.
    """

    start: int
    size: int
    index: int
    leaf: bytes
    path: list[bytes]
    data: bytes


@dataclass(slots=True)
class _Window:
    start: int = -1
    keys: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    kept_bytes: int = 0


class LeafKeeper:
    """The closed windows of all streams of an agent, as far as they fit.

    Args:
        most_bytes: kept at most.
    """

    def __init__(self, most_bytes: int = limits.PROOF_KEEP_BYTES) -> None:
        self._most = most_bytes
        self._kept: deque[tuple[StreamLeaves, _Window]] = deque()
        self._streams: dict[Label, StreamLeaves] = {}
        self.bytes = 0

    def stream(self, label: Label) -> StreamLeaves:
        """Begin, or go on with, the leaves of a stream end."""
        stream = self._streams.get(label)
        if stream is None:
            stream = self._streams[label] = StreamLeaves(self, label)
        return stream

    def find(self, ring: int, side: str, position: int) -> tuple[Label, FoundLeaf] | None:
        """Find a message by its place in a ring: in the ring's windows, or in those of its topic."""
        stream = self._streams.get((ring, side))
        found = stream.find(position) if stream is not None else None
        if found is not None:
            return (ring, side), found
        for label, other in self._streams.items():
            if label and isinstance(label[0], str) and (found := other.find(topic_key(ring, position))) is not None:
                return label, found
        return None

    def keep(self, stream: StreamLeaves, window: _Window) -> None:
        """Keep a closed window; the oldest make room."""
        self._kept.append((stream, window))
        self.bytes += window.kept_bytes
        while self.bytes > self._most:
            owner, oldest = self._kept.popleft()
            owner.forget(oldest)
            self.bytes -= oldest.kept_bytes
            if owner.ended and owner.empty:
                self._streams.pop(owner.label, None)


class StreamLeaves:
    """The leaves of one end of a stream.

    Args:
        keeper: shared by all streams of the agent; ``None`` keeps no closed window.
        label: ring and side, or topic and publisher.

    Attributes:
        ended: nothing more is taken; what is kept goes when there is no room for it.
    """

    def __init__(self, keeper: LeafKeeper | None, label: Label = ()) -> None:
        self._keeper = keeper
        self.label = label
        self.ended = False
        self._open = _Window()
        self._closed: deque[_Window] = deque()

    def take(self, positions: list[int], records: list[bytes]) -> None:
        """Take records of a ring: their positions, and of each record word with payload."""
        if not positions:
            return
        window, hash_of, most = self._open, sha256, limits.PROOF_MESSAGE_BYTES
        if window.start < 0:
            window.start = positions[0]
        leaves = [at.to_bytes(8, "little") + record for at, record in zip(positions, records, strict=True)]
        window.keys += positions
        window.hashes += [hash_of(b"\0" + leaf).digest() for leaf in leaves]
        if self._keeper is not None:
            kept = [leaf if len(leaf) <= most else b"" for leaf in leaves]
            window.data += kept
            window.kept_bytes += sum(map(len, kept)) + _LEAF_BYTES * len(kept)

    def add(self, start: int, key: int, data: bytes) -> None:
        """Take one message of a topic.

        Args:
            start: counter at which the open window begins.
            key: to find it by.
            data: as it was sent.
        """
        window = self._open
        if window.start < 0:
            window.start = start
        window.keys.append(key)
        window.hashes.append(sha256(b"\0" + data).digest())
        if self._keeper is not None:
            kept = data if len(data) <= limits.PROOF_MESSAGE_BYTES else b""
            window.data.append(kept)
            window.kept_bytes += len(kept) + _LEAF_BYTES

    def cut(self, *, complete: bool) -> tuple[bytes, int]:
        """Return root and number of the leaves of the open window; if it is complete, begin the next."""
        window = self._open
        tree = Frontier()
        tree.extend(window.hashes)
        if complete:
            self._open = _Window()
            if self._keeper is not None and window.hashes:
                self._closed.append(window)
                self._keeper.keep(self, window)
        return tree.root(), len(window.hashes)

    @property
    def empty(self) -> bool:
        """Whether no closed window is kept."""
        return not self._closed

    def forget(self, window: _Window) -> None:
        """The keeper has no room for it."""
        assert self._closed[0] is window, "the oldest of all is the oldest of its stream"
        self._closed.popleft()

    def find(self, key: int) -> FoundLeaf | None:
        """Find a message in the windows that are kept, or in the open one as far as it goes."""
        for window in (self._open, *reversed(self._closed)):
            if key in window.keys:
                index = window.keys.index(key)
                size = len(window.hashes)
                path = inclusion_proof(index, size, _Nodes(window.hashes))
                data = window.data[index] if window.data else b""
                return FoundLeaf(window.start, size, index, window.hashes[index], path, data)
        return None


class _Nodes:
    """Gives the hashes of complete subtrees over some leaves."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels = [list(leaves)]

    def __call__(self, level: int, index: int) -> bytes:
        levels = self._levels
        while len(levels) <= level:
            below = levels[-1]
            levels.append([node_hash(a, b) for a, b in zip(below[0::2], below[1::2], strict=False)])
        return levels[level][index]
