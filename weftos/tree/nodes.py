"""A node as a reader of the tree sees it: a copy, complete and without a way back into the tree."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from weftos.tree.names import Kind
from weftos.tree.paths import ResourcePath
from weftos.tree.scoring import Scoring

__all__ = ["INCARNATION", "Node"]

#: Key of the metadata that counts how often an agent's name was registered. The tree keeps it; no change may set it.
INCARNATION: Final = "incarnation"


class Node(msgspec.Struct, frozen=True):
    """One resource.

    Attributes:
        path: where it is.
        kind: what it stands for.
        metadata: text keys and plain values; a copy that the reader may change.
        scoring: its six figures.
        chain_seq: number of the last record in the log that changed it; -1 for a root that nothing has changed.
        created_ns, updated_ns: times of the first and of the last record about it, ns since 1970 UTC.
        child_count: nodes directly below it.
        policies: identifiers of the access policies on it, sorted.
    """

    path: ResourcePath
    kind: Kind
    metadata: dict[str, Any]
    scoring: Scoring
    chain_seq: int
    created_ns: int
    updated_ns: int
    child_count: int
    policies: tuple[str, ...]
