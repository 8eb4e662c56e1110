"""What an inventory knows of a folder: walking it, hashing a file, totals. No process, no ring.

Names are bytes from end to end: a file name on Linux is any bytes but NUL and ``/``, and newlines or broken UTF-8 in it
are facts to be recorded, not errors. Links are recorded with their target and never followed, and a folder that is
mounted into itself is entered once.

Not guaranteed: a picture of one instant. Whoever changes the folder meanwhile gets statuses, not a consistent record.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import blake3
import msgspec

__all__ = [
    "FOLDER",
    "OK",
    "SKIPPED",
    "UNREADABLE",
    "VANISHED",
    "Entry",
    "entry_row",
    "hash_file",
    "root_digest",
    "row_entry",
    "summarise",
    "walk",
]

_CHUNK: Final = 1 << 20

#: Kinds of entries and what became of them.
FILE, LINK, OTHER, FOLDER = "file", "link", "other", "folder"
OK, UNREADABLE, VANISHED, GROWING, SKIPPED = "ok", "unreadable", "vanished", "growing", "skipped"
_WORDS: Final = {word: word for word in (FILE, LINK, OTHER, FOLDER, OK, UNREADABLE, VANISHED, GROWING, SKIPPED)}


class Entry(msgspec.Struct, frozen=True):
    """One name in the folder.

    Attributes:
        path: relative to the root, bytes.
        kind: ``file``, ``link``, ``other`` (device, socket, pipe), ``folder`` (only when it is not entered: it cannot
            be read, or it is one of the folders around it).
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
    entry = msgspec.convert(dict(zip(Entry.__struct_fields__, row, strict=False)), Entry)
    # Few words for very many entries: each once in memory.
    kind, status = _WORDS.get(entry.kind, entry.kind), _WORDS.get(entry.status, entry.status)
    return Entry(entry.path, kind, entry.size, entry.mtime_ns, entry.digest, status, entry.target, entry.inode)


def walk(root: bytes, exclude: Iterable[str] = ()) -> Iterator[Entry]:
    """Yield what lies below a folder, in the order of names, without following links. Files come without digest.

    Args:
        root: the folder.
        exclude: patterns of names or relative paths to leave out (fnmatch).
    """
    patterns = [os.fsencode(pattern) for pattern in exclude]
    # A stack of our own: a folder may lie deeper than calls can nest. Each level holds the names still to come.
    levels: list[tuple[bytes, _Folder]] = []
    around: set[tuple[int, int]] = set()
    top = _enter(root, b"", around)
    if isinstance(top, Entry):
        yield top
        return
    levels.append((b"", top))
    while levels:
        below, folder = levels[-1]
        if not folder.names:
            levels.pop()
            around.discard(folder.identity)
            continue
        name = folder.names.pop()
        path = os.path.join(below, name) if below else name
        if any(fnmatch.fnmatchcase(name, p) or fnmatch.fnmatchcase(path, p) for p in patterns):
            continue
        entry = _entry(root, path)
        inside = _enter(root, path, around) if entry is None else entry
        if isinstance(inside, Entry):
            yield inside
        else:
            levels.append((path, inside))


class _Folder(msgspec.Struct):
    """A folder that is being walked: device and inode, and the names still to come, last name first."""

    identity: tuple[int, int]
    names: list[bytes]


def _enter(root: bytes, below: bytes, around: set[tuple[int, int]]) -> _Folder | Entry:
    """Read the names in a folder and note it among those around; or the entry that says why it is not entered."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if below else 0)
    try:
        fd = os.open(os.path.join(root, below), flags)
        try:
            facts = os.fstat(fd)
            identity = facts.st_dev, facts.st_ino
            if identity in around:
                return Entry(below, FOLDER, 0, facts.st_mtime_ns, status=SKIPPED)
            # Through the descriptor: what is listed is what was looked at, even if a link took its place. It gives
            # names as text, from which the bytes come back exactly.
            names = sorted(map(os.fsencode, os.listdir(fd)), reverse=True)
        finally:
            os.close(fd)
    except OSError as error:
        return Entry(below or b".", FOLDER, 0, 0, status=_status(error))
    around.add(identity)
    return _Folder(identity, names)


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


def hash_file(root: bytes, entry: Entry, on_read: Callable[[int], None] | None = None) -> Entry:
    """Read a file and return its entry with digest, size and time as read; what goes wrong becomes its status.

    A file that changes while it is read is read once more; if it changes again it is ``growing``.

    Args:
        root: the folder.
        entry: as ``walk`` gave it.
        on_read: called with the number of bytes read so far, after each piece of a file.
    """
    if entry.kind != FILE or entry.status != OK:
        return entry
    found = entry
    for _ in range(2):
        found, steady = _hash_once(root, entry, on_read)
        if steady:
            return found
    return msgspec.structs.replace(found, status=GROWING)


def _hash_once(root: bytes, entry: Entry, on_read: Callable[[int], None] | None) -> tuple[Entry, bool]:
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
            if on_read is not None:
                on_read(size)
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
    """Count what was found: files, their bytes, links, what was not opened, problems, content that is there twice."""
    names = ("files", "bytes", "links", "hard_links", "skipped", "problems", "duplicates", "duplicate_bytes")
    counts = dict.fromkeys(names, 0)
    seen: set[bytes] = set()
    inodes: set[str] = set()
    for entry in entries:
        if entry.kind == LINK:
            counts["links"] += 1
        if entry.status == SKIPPED:
            counts["skipped"] += 1
        elif entry.status != OK:
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
