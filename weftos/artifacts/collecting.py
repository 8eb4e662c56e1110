"""Which artifacts are loose, and their removal, in two steps: whoever collects says on the log between them what goes.

Why it is as it is: a removal must be on the log before it happens, so what is to go is decided first and then removed,
perhaps by another process after a crash. What keeps this sound is the age: a put sets the file's time under the
folder's lock, and the removal looks at that time under the same lock, so what was put again in between stays.

Guaranteed: only a file whose time is not later than ``before_ns`` is removed. Not guaranteed: anything about
references, which the caller knows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import msgspec

from weftos.artifacts.files import ArtifactFiles
from weftos.artifacts.folder import Folder

__all__ = ["Loose", "Removed", "find_loose", "remove"]


class Loose(msgspec.Struct, frozen=True):
    """What a collection would take.

    Attributes:
        found: hash and size of the file, of each artifact that nothing refers to and that is old enough.
        young: how many nothing refers to that are too young.
        held: how many are referred to.
    """

    found: list[tuple[str, int]]
    young: int
    held: int


class Removed(msgspec.Struct, frozen=True):
    """What a removal did.

    Attributes:
        hashes: of what was removed.
        freed_bytes: size of those files.
        young: how many were put again in the meantime, and stay.
    """

    hashes: list[str]
    freed_bytes: int
    young: int


def find_loose(folder: Folder, referenced: AbstractSet[str], before_ns: int) -> Loose:
    """Look through a folder.

    Args:
        folder: of the store.
        referenced: hashes of artifacts that must stay.
        before_ns: what was put later is too young; nanoseconds since 1970 UTC.

    Raises:
        OSError: the folder cannot be read.
    """
    found: list[tuple[str, int]] = []
    young = held = 0
    for digest, path in folder.names():
        if digest in referenced:
            held += 1
            continue
        try:
            state = os.lstat(path)
        except FileNotFoundError:
            continue  # somebody else removed it, or set it aside
        if state.st_mtime_ns > before_ns:
            young += 1
        else:
            found.append((digest, state.st_size))
    return Loose(found, young, held)


def remove(folder: Folder, fs: ArtifactFiles, digests: Iterable[str], before_ns: int) -> Removed:
    """Remove files; what is gone already is no error.

    Args:
        folder: of the store.
        fs: file calls.
        digests: of what is to go.
        before_ns: what was put later stays; nanoseconds since 1970 UTC.

    Raises:
        OSError: a call failed; some may have been removed.
    """
    hashes: list[str] = []
    freed, young, folders = 0, 0, set()
    try:
        for digest in digests:
            path = folder.path_of(digest)
            with folder.locked():
                try:
                    state = os.lstat(path)
                except FileNotFoundError:
                    continue
                if state.st_mtime_ns > before_ns:
                    young += 1
                    continue
                fs.unlink(path)
            hashes.append(digest)
            folders.add(os.path.dirname(path))
            freed += state.st_size
    finally:
        for shard in sorted(folders):
            fs.sync_dir(shard)
    return Removed(hashes, freed, young)
