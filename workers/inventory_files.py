"""What an inventory knows of a folder: walking it, hashing a file, comparing two inventories. No process, no ring.

Names are bytes from end to end: a file name on Linux is any bytes but NUL and ``/``, and newlines or broken UTF-8 in it
    are facts to be
recorded, not errors. Links are recorded with their target and never followed.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import blake3
import msgspec

__all__ = [
    "Changes",
    "Entry",
    "compare",
    "entry_row",
    "hash_file",
    "root_digest",
    "row_entry",
    "summarise",
    "walk",
]

_CHUNK: Final = 1 << 20

#: Kinds of entries and what became of them.
FILE, LINK, OTHER, FOLDER_ERROR = "file", "link", "other", "folder"
OK, UNREADABLE, VANISHED, GROWING, SKIPPED = "ok", "unreadable", "vanished", "growing", "skipped"


class Entry(msgspec.Struct, frozen=True):
    """One name in the folder.

    Attributes:
        path: relative to the root, bytes.
        kind: ``file``, ``link``, ``other`` (device, socket, pipe), ``folder`` (only when it cannot be read).
        size: bytes.
        mtime_ns: time of the last change of content, nanoseconds since 1970.
        digest: BLAKE3 of the content, 32 bytes; empty when there is none.
        status: ``ok``, ``unreadable``, ``vanished``, ``growing`` (it changed while it was read, twice), ``skipped``.
        target: where a link points, bytes.
        inode: device and inode in hexadecimal when the file has several names, empty otherwise.
    """

    path: bytes
    kind: str
    size: int
    mtime_ns: int
    digest: bytes = b""
    status: str = OK
    target: bytes = b""
    inode: str = ""


def entry_row(entry: Entry) -> list[Any]:
    """An entry as it travels and as it is recorded: a list of plain values."""
    return [entry.path, entry.kind, entry.size, entry.mtime_ns, entry.digest, entry.status, entry.target, entry.inode]


def row_entry(row: Sequence[Any]) -> Entry:
    """Inverse of ``entry_row``; raises ``msgspec.ValidationError`` for anything else."""
    if len(row) > len(Entry.__struct_fields__):
        raise msgspec.ValidationError(f"an entry of {len(row)} parts")
    # What stands at the end with its default may be missing: records made before hard links were told apart.
    return msgspec.convert(dict(zip(Entry.__struct_fields__, row, strict=False)), Entry)


def walk(root: bytes, exclude: Iterable[str] = ()) -> Iterator[Entry]:
    """Yield what lies below a folder, in the order of names, without following links. Files come without digest.

    Args:
        root: the folder.
        exclude: patterns of names or relative paths to leave out (fnmatch).
    """
    patterns = [os.fsencode(pattern) for pattern in exclude]
    # A stack of our own: a folder may lie deeper than calls can nest. Each level holds the names still to come.
    first, error = _names(root, b"")
    if error is not None:
        yield error
    levels = [(b"", first)]
    while levels:
        below, names = levels[-1]
        if not names:
            levels.pop()
            continue
        name = names.pop()
        path = os.path.join(below, name) if below else name
        if any(fnmatch.fnmatchcase(name, p) or fnmatch.fnmatchcase(path, p) for p in patterns):
            continue
        entry = _entry(root, path)
        if entry is not None:
            yield entry
            continue
        inside, error = _names(root, path)
        if error is not None:
            yield error
        levels.append((path, inside))


def _names(root: bytes, below: bytes) -> tuple[list[bytes], Entry | None]:
    """What is in a folder, last name first; or the entry that says why it cannot be told."""
    try:
        return sorted(os.listdir(os.path.join(root, below)), reverse=True), None
    except OSError as error:
        return [], Entry(below or b".", FOLDER_ERROR, 0, 0, status=_status(error))


def _entry(root: bytes, path: bytes) -> Entry | None:
    """The facts about one name; ``None`` for a folder."""
    full = os.path.join(root, path)
    try:
        facts = os.lstat(full)
        if stat.S_ISDIR(facts.st_mode):
            return None
        if stat.S_ISREG(facts.st_mode):
            # Only a file with several names needs to be told from others: the rest stay as small as they were.
            inode = f"{facts.st_dev:x}:{facts.st_ino:x}" if facts.st_nlink > 1 else ""
            return Entry(path, FILE, facts.st_size, facts.st_mtime_ns, inode=inode)
        if stat.S_ISLNK(facts.st_mode):
            return Entry(path, LINK, facts.st_size, facts.st_mtime_ns, target=os.readlink(full))
        return Entry(path, OTHER, 0, facts.st_mtime_ns, status=SKIPPED)
    except OSError as error:
        return Entry(path, FILE, 0, 0, status=_status(error))


def _status(error: OSError) -> str:
    return VANISHED if isinstance(error, FileNotFoundError | NotADirectoryError) else UNREADABLE


def hash_file(root: bytes, entry: Entry) -> Entry:
    """Read a file and return its entry with digest, size and time as read; what goes wrong becomes its status.

    A file that changes while it is read is read once more; if it changes again it is ``growing``.
    """
    if entry.kind != FILE or entry.status != OK:
        return entry
    found = entry
    for _ in range(2):
        found, steady = _hash_once(root, entry)
        if steady:
            return found
    return msgspec.structs.replace(found, status=GROWING)


def _hash_once(root: bytes, entry: Entry) -> tuple[Entry, bool]:
    hasher = blake3.blake3()
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(os.path.join(root, entry.path), flags)
    except OSError as error:
        return msgspec.structs.replace(entry, status=_status(error)), True
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            return msgspec.structs.replace(entry, kind=OTHER, status=SKIPPED), True
        size = 0
        while chunk := os.read(fd, _CHUNK):
            hasher.update(chunk)
            size += len(chunk)
        after = os.fstat(fd)
    except OSError as error:
        return msgspec.structs.replace(entry, status=_status(error)), True
    finally:
        os.close(fd)
    steady = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns) and size == after.st_size
    found = msgspec.structs.replace(entry, size=size, mtime_ns=after.st_mtime_ns, digest=hasher.digest())
    return found, steady


def root_digest(entries: Iterable[Entry]) -> bytes:
    """BLAKE3 over all entries in the order of their paths, each length-prefixed: equal for equal content of a folder.

    Times are left out, so a copy of a folder has the digest of the original.
    """
    hasher = blake3.blake3(derive_key_context="weftos inventory root v1")
    for entry in sorted(entries, key=lambda e: e.path):
        for part in (entry.path, entry.kind.encode(), entry.digest, entry.status.encode(), entry.target):
            hasher.update(len(part).to_bytes(8, "big") + part)
        hasher.update(entry.size.to_bytes(8, "big"))
    return hasher.digest()


def summarise(entries: Iterable[Entry]) -> dict[str, int]:
    """Count files, bytes, links, further names of the same file, problems, and files whose content is there already."""
    counts = dict.fromkeys(("files", "bytes", "links", "hard_links", "problems", "duplicates", "duplicate_bytes"), 0)
    seen: set[bytes] = set()
    inodes: set[str] = set()
    for entry in entries:
        if entry.kind == LINK:
            counts["links"] += 1
        if entry.status not in (OK, SKIPPED):
            counts["problems"] += 1
        if entry.kind != FILE or not entry.digest:
            continue
        counts["files"] += 1
        counts["bytes"] += entry.size
        if entry.inode in inodes:
            # A further name of a file that was counted: it takes no room, so it is no duplicate.
            counts["hard_links"] += 1
            continue
        if entry.inode:
            inodes.add(entry.inode)
        if entry.size and entry.digest in seen:
            counts["duplicates"] += 1
            counts["duplicate_bytes"] += entry.size
        seen.add(entry.digest)
    return counts


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

    A file that can no longer be read is ``unreadable``, whatever its content may be.
    """
    old = {entry.path: entry for entry in recorded}
    new = {entry.path: entry for entry in found}
    changes = Changes()
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if after is None or after.status == VANISHED:
            if before is not None and before.status != VANISHED:
                changes.removed.append(path)
        elif before is None or before.status == VANISHED:
            changes.added.append(path)
        elif after.status == UNREADABLE and before.status != UNREADABLE:
            changes.unreadable.append(path)
        elif _content(before) != _content(after):
            changes.changed.append(path)
    return changes


def _content(entry: Entry) -> tuple[Any, ...]:
    return entry.kind, entry.size, entry.digest, entry.target, entry.status
