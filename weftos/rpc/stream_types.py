"""Parameters and answers of the methods about streams of messages."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["MessageLeaf", "ProveParams"]


class ProveParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which message.

    Attributes:
        message_id: as ``Message.id`` gives it: ring and position in hex.
        side: which end of the ring to ask; the reader is asked first if it is left out.
    """

    message_id: Annotated[str, msgspec.Meta(max_length=40)]
    side: Literal["", "producer", "consumer"] = ""


class MessageLeaf(msgspec.Struct, frozen=True, kw_only=True):
    """A message as a leaf of a window's Merkle tree, as an agent says; the window on the log proves it or not.

    Attributes:
        message_id: as asked for.
        pid: agent that answers.
        incarnation: of the agent.
        ring: that carried the message.
        side: of the agent in that ring, or in the topic.
        topic: empty if the window is one of the ring.
        publisher: pid that publishes to the topic; 0 without one.
        start: where the window begins: position in the ring, or number in the topic.
        size: leaves of the tree.
        index: of the leaf.
        leaf: its hash, 32 bytes.
        path: hashes that lead to the root, lowest first.
        data: what was hashed; empty if the agent does not keep it any more.
    """

    message_id: str
    pid: int
    incarnation: int
    ring: int
    side: str
    topic: str
    publisher: int
    start: int
    size: int
    index: int
    leaf: bytes
    path: list[bytes]
    data: bytes
