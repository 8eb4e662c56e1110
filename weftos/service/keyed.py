"""Appends under a key that the agent chose: "this order, once", whatever is restarted in between.

Why it is as it is: a place in a ring is forgotten with the ring. A key is a name of the agent's own for an event, and
outlives the agent, the service and the kernel: it stands in the record, and the index of the log finds it. Keys belong
to the agent's *scope*: its name, behind the names of those who spawned it. So an agent that is spawned anew under its
name goes on with its keys, and no agent can take a key of another by choosing that one's name for a child.

Guaranteed: of all events under one key of one scope, the first is on the log and no other; an equal one is answered as
the first was, another is refused. Not guaranteed: that two agents which the operator gave one name do not share keys.
"""

from __future__ import annotations

from typing import Final

from blake3 import blake3

from weftos import limits
from weftos.chain.index.log_index import Keyed, LogIndex
from weftos.chain.records.kinds import check_text
from weftos.chain.records.record import NewEvent
from weftos.errors import IdempotencyConflict

__all__ = ["earlier", "full_key", "scope_of"]

#: Between scope and key. No scope holds it.
_MARK: Final = "#"
#: Begins a scope that was too long and is named by its hash; no name of an agent begins with it.
_HASHED: Final = "~"


def scope_of(parent: str, name: str) -> str:
    """Return the scope of an agent.

    Args:
        parent: scope of the agent that spawned it; empty if the kernel or its operator did.
        name: its own.
    """
    path = f"{parent}/{name}" if parent else name
    if len(path.encode()) <= limits.CHAIN_KEY_SCOPE_BYTES:
        return path
    return _HASHED + blake3(path.encode()).hexdigest(length=16)


def full_key(scope: str, key: str) -> str:
    """Return the key as it stands in the record.

    Raises:
        AppendRefused: it is empty, too long or holds characters that cannot be shown.
    """
    check_text("a key", key, limits.CHAIN_KEY_BYTES)
    return scope + _MARK + key


def earlier(index: LogIndex, event: NewEvent) -> Keyed | None:
    """Return the record that an event under a key has already; ``None`` if it is to be appended.

    Raises:
        IdempotencyConflict: another event was appended under the key.
        AppendRefused: the payload is not acceptable.
        StorageFailed: the index cannot be used.
    """
    known = index.find_key(event)
    if known is not None and not known.same:
        raise IdempotencyConflict(
            f"the key {str(event.key)!r} is taken by record {known.seq}, which says something else; use a key of its "
            "own for another event",
            seq=known.seq,
        )
    return known
