"""A file of digests as ``b3sum`` writes and checks it.

A line is digest, two blanks, name; one whose name has a newline or backslash is escaped and marked. ``b3sum --check``
reads its file as UTF-8 and gives up on all of it at the first name that is not, so such a name has no line; whoever
writes the file says which were left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from weftos.errors import InvalidRequest, StorageFailed

if TYPE_CHECKING:
    from weftos_workers.inventory_files import Entry  # type: ignore[import-not-found]

__all__ = ["check_target", "digest_line", "write_digests"]


def digest_line(digest: bytes, path: bytes) -> bytes | None:
    r"""Return one line, ending in a newline, or ``None`` for a name that is not UTF-8.

    When the name has a backslash or a newline, these become ``\\`` and ``\n``, and the line begins with a backslash. A
    carriage return stays as it is: b3sum 1.2 (Debian 12) refuses it escaped and reads it plain.

    Args:
        digest: 32 bytes.
        path: the file's name, any bytes.
    """
    try:
        path.decode()
    except UnicodeDecodeError:
        return None
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    mark = b"\\" if escaped != path else b""
    return mark + digest.hex().encode() + b"  " + escaped + b"\n"


def check_target(target: Path) -> None:
    """Find out before hours of work that the file cannot be written.

    Raises:
        InvalidRequest: it is a folder, or what it would lie in is none or may not be written.
    """
    if target.is_dir():
        raise InvalidRequest(f"{target} is a folder, not a file for digests")
    place = target if target.exists() else target.parent
    if not place.exists():
        raise InvalidRequest(f"{target} cannot be written: {place} does not exist")
    if not os.access(place, os.W_OK):
        raise InvalidRequest(f"{target} cannot be written: no permission for {place}")


def write_digests(target: Path, given: Path, entries: Iterable[Entry]) -> list[bytes]:
    """Write the digests in the order of names, as ``b3sum`` would print them for the same folder.

    Files that changed while they were read have no digest that could be checked, and are left out; so is the file that
    is written, if it lies in the folder.

    Args:
        target: the file to write.
        given: the folder as the user named it.
        entries: of the inventory.

    Returns:
        Paths that were left out because their names are not UTF-8.

    Raises:
        StorageFailed: the file cannot be written.
    """
    prefix = os.fsencode(given)
    own = os.path.realpath(os.fsencode(target))
    root = os.path.realpath(prefix)
    left_out: list[bytes] = []
    try:
        with target.open("wb") as file:
            for entry in sorted(entries, key=lambda one: one.path):
                if not entry.digest or entry.status != "ok" or os.path.join(root, entry.path) == own:
                    continue
                line = digest_line(entry.digest, os.path.join(prefix, entry.path))
                if line is None:
                    left_out.append(entry.path)
                else:
                    file.write(line)
    except OSError as error:
        raise StorageFailed(f"{target} cannot be written: {error.strerror}") from error
    return left_out
