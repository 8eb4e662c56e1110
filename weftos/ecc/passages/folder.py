"""Reading the texts of a folder. Nothing in it is trusted: links are not followed, what is no text is counted.

Names are text as the operating system gives it, with lone surrogates for bytes that are not UTF-8. Not guaranteed: a
picture of one instant.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from weftos.errors import PassageRefused
from weftos.limits import PASSAGE_FILE_BYTES, PASSAGE_FILES

__all__ = ["LeftOut", "Source", "read_folder"]

#: Folders of tools, not of people: what is in them is made from something else.
_LEFT_OUT: Final = frozenset(
    {".git", ".hg", ".svn", ".venv", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache"}
)

Reason = Literal["link", "special", "unreadable", "large", "binary", "encoding"]


class Source(msgspec.Struct, frozen=True):
    """One text: its path relative to the folder, ``/`` between parts, and its content."""

    file: str
    text: str


class LeftOut(msgspec.Struct, frozen=True):
    """One name that was not read, and why.

    Attributes:
        file: path relative to the folder.
        why: ``link``; ``special`` (pipe, socket, device); ``unreadable`` (file or folder); ``large``; ``binary`` (it
            holds a NUL); ``encoding`` (it is not UTF-8).
    """

    file: str
    why: Reason


def read_folder(root: Path) -> Iterator[Source | LeftOut]:
    """Yield each text below a folder, in the order of names, and what was left out.

    Folders of tools (``.git``, ``__pycache__`` and their like) are passed over.

    Args:
        root: the folder.

    Raises:
        PassageRefused: the folder cannot be read, or holds more than ``PASSAGE_FILES`` names.
    """
    try:
        os.scandir(root).close()
    except OSError as error:
        raise PassageRefused(f"{root} cannot be read: {error.strerror}; name a folder that can") from error
    # A stack of our own: a folder may lie deeper than calls can nest. Links are never entered, so there are no loops.
    waiting = [""]
    count = 0
    while waiting:
        below = waiting.pop()
        try:
            names = sorted(os.listdir(root / below))
        except OSError:
            yield LeftOut(below, "unreadable")
            continue
        count += len(names)
        if count > PASSAGE_FILES:
            raise PassageRefused(f"{root} holds more than {PASSAGE_FILES} names; name a smaller folder")
        folders = []
        for name in names:
            file = f"{below}/{name}" if below else name
            found = _read(root, file)
            if found is not None:
                yield found
            elif name not in _LEFT_OUT:
                folders.append(file)
        waiting += reversed(folders)


def _read(root: Path, file: str) -> Source | LeftOut | None:
    """What is at a name; ``None`` for a folder."""
    try:
        mode = os.lstat(root / file).st_mode
        if stat.S_ISDIR(mode):
            return None
        if stat.S_ISLNK(mode):
            return LeftOut(file, "link")
        if not stat.S_ISREG(mode):
            return LeftOut(file, "special")
        # Should a link or a pipe have taken its place meanwhile: not followed, and not waited for.
        fd = os.open(root / file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as stream:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return LeftOut(file, "special")
            data = stream.read(PASSAGE_FILE_BYTES + 1)
    except OSError:
        return LeftOut(file, "unreadable")
    if len(data) > PASSAGE_FILE_BYTES:
        return LeftOut(file, "large")
    if b"\0" in data:
        return LeftOut(file, "binary")
    try:
        return Source(file, data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return LeftOut(file, "encoding")
