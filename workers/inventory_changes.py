"""What differs between a recorded inventory and the folder as it is now.

Content decides: who restores a backup or touches a file has changed nothing. What cannot be read is never taken for
removed, because that would make a lost permission look like a lost file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .inventory_files import FOLDER, UNREADABLE, VANISHED, Entry

__all__ = ["Changes", "compare"]


class Changes(msgspec.Struct):
    """What differs between a recorded inventory and the folder now; paths as bytes, in order."""

    changed: list[bytes] = []
    added: list[bytes] = []
    removed: list[bytes] = []
    unreadable: list[bytes] = []

    @property
    def any(self) -> bool:
        """Whether anything differs."""
        return bool(self.changed or self.added or self.removed or self.unreadable)


def compare(recorded: Iterable[Entry], found: Iterable[Entry]) -> Changes:
    """Compare by content: kind, size, digest, link target, status; a changed time alone is no change.

    A file that can no longer be read is ``unreadable``, whatever its content may be; so is all that was in a folder
    that can no longer be read: nobody knows whether it is gone.
    """
    old = {entry.path: entry for entry in recorded}
    new = {entry.path: entry for entry in found}
    closed = {entry.path for entry in new.values() if entry.kind == FOLDER and entry.status == UNREADABLE}
    changes = Changes()
    for path in sorted(old.keys() | new.keys()):
        kind = _difference(old.get(path), new.get(path), closed, path)
        if kind:
            getattr(changes, kind).append(path)
    return changes


def _difference(before: Entry | None, after: Entry | None, closed: set[bytes], path: bytes) -> str:
    """Name the list of changes into which a path belongs; empty for none."""
    if after is None or after.status == VANISHED:
        # A folder in the record is one that was not entered: if it is now, what is in it is new.
        if before is None or before.status == VANISHED or before.kind == FOLDER:
            return ""
        return "unreadable" if closed and _inside(path, closed) else "removed"
    if (
        after.status == UNREADABLE
        and (path in closed or before is not None)
        and (before is None or before.status != UNREADABLE)
    ):
        return "unreadable"
    if before is None or before.status == VANISHED:
        return "added"
    return "changed" if _content(before) != _content(after) else ""


def _inside(path: bytes, folders: set[bytes]) -> bool:
    """Whether a path lies in one of the folders."""
    if b"." in folders:
        return True
    while path := path.rpartition(b"/")[0]:
        if path in folders:
            return True
    return False


def _content(entry: Entry) -> tuple[Any, ...]:
    return entry.kind, entry.size, entry.digest, entry.target, entry.status
