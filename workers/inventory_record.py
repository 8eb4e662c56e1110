"""An inventory on the chain: which events it consists of, and how it is found and read again.

::

    app.inventory.begin    run, root, exclude
    app.inventory.entries  run, entries (rows, see inventory_files)          any number of them
    app.inventory.end      run, root, exclude, first_seq, root_digest, totals
    app.inventory.check    run, root, against, counts of what differs

An inventory counts when its end is there, when all its events come from the same source (which the service stamps, so
another agent cannot slip entries in), and when the entries have the digest that the end names.
"""

from __future__ import annotations

from typing import Final

import msgspec

from weftos import chain
from weftos.errors import ChainCorrupted

from .inventory_files import Entry, root_digest, row_entry

__all__ = ["BEGIN", "CHECK", "END", "ENTRIES", "Recorded", "last_recorded", "recorded_entries"]

BEGIN: Final = "app.inventory.begin"
ENTRIES: Final = "app.inventory.entries"
END: Final = "app.inventory.end"
CHECK: Final = "app.inventory.check"


class Recorded(msgspec.Struct, frozen=True):
    """Where an inventory lies on the chain.

    Attributes:
        run: its name.
        source: the agent that recorded it, as the service stamped it.
        first_seq: number of its begin event.
        last_seq: number of its end event.
        root_digest: over its entries, 32 bytes.
        exclude: the patterns that were left out.
    """

    run: str
    source: str
    first_seq: int
    last_seq: int
    root_digest: bytes
    exclude: list[str] = []


def last_recorded(directory: str, root: bytes) -> Recorded | None:
    """Find the last complete inventory of a folder.

    Args:
        directory: of the chain.
        root: the folder as it was recorded: absolute, without links.

    Returns:
        ``None`` when there is none.

    Raises:
        ChainError: the log cannot be read.
    """
    begun: dict[tuple[str, str], tuple[int, list[str]]] = {}
    found: Recorded | None = None
    for record in chain.read(directory):
        if record.kind not in (BEGIN, END):
            continue
        payload = record.payload
        if payload.get("root") != root:
            continue
        key = record.source, str(payload.get("run"))
        if record.kind == BEGIN:
            begun[key] = record.seq, list(payload.get("exclude", ()))
        elif key in begun:
            first_seq, exclude = begun.pop(key)
            found = Recorded(key[1], key[0], first_seq, record.seq, bytes(payload["root_digest"]), exclude)
    return found


def recorded_entries(directory: str, inventory: Recorded) -> list[Entry]:
    """Read the entries of an inventory, in the order in which they were recorded.

    Raises:
        ChainError: the log cannot be read.
        ChainCorrupted: the entries do not fit the digest at their end.
    """
    entries: list[Entry] = []
    for record in chain.read(directory, start=inventory.first_seq, stop=inventory.last_seq):
        if record.kind != ENTRIES or record.source != inventory.source:
            continue
        payload = record.payload
        if payload.get("run") == inventory.run:
            entries.extend(row_entry(row) for row in payload["entries"])
    if root_digest(entries) != inventory.root_digest:
        raise ChainCorrupted(
            f"the entries of the inventory in records {inventory.first_seq} to {inventory.last_seq} "
            f"do not fit the digest at its end"
        )
    return entries
