"""Reading the texts of a folder. Nothing in it is trusted: links are not followed, what is no text is counted.

Names are text as the operating system gives it, with lone surrogates for bytes that are not UTF-8. Not guaranteed: a
picture of one instant.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

import msgspec

from weftos.errors import PassageRefused
from weftos.limits import PASSAGE_FILE_BYTES, PASSAGE_FILES

__all__ = ["LeftOut", "Listed", "Source", "list_folder", "read_data", "read_folder", "text_of"]

#: Folders of tools, not of people: what is in them is made from something else, or is an instance with its keys.
_LEFT_OUT: Final = frozenset(
    {".git", ".hg", ".svn", ".venv", ".weftos", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache"}
)

#: Numbers and paths of lines: they would fill the memory and answer no question.
_PICTURE: Final = ".svg"

Reason = Literal["link", "special", "unreadable", "gone", "large", "binary", "encoding", "excluded", "picture"]


class Source(msgspec.Struct, frozen=True):
    """One text: its path relative to the folder, ``/`` between parts, and its content."""

    file: str
    text: str


class Listed(msgspec.Struct, frozen=True):
    """One file that may be a text: its path relative to the folder, and its size in bytes."""

    file: str
    size: int


class LeftOut(msgspec.Struct, frozen=True):
    """One name that was not read, and why.

    Attributes:
        file: path relative to the folder.
        why: ``link``; ``special`` (pipe, socket, device); ``unreadable`` (file or folder); ``gone`` (since it was
            listed); ``large``; ``binary`` (it holds a NUL); ``encoding`` (it is not UTF-8); ``excluded`` (file or
            folder, by a pattern); ``picture`` (SVG: text by its letters, but nothing to read).
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
    for found in list_folder(root):
        if isinstance(found, LeftOut):
            yield found
        else:
            data = read_data(root, found.file)
            yield data if isinstance(data, LeftOut) else text_of(found.file, data)


def list_folder(root: Path, exclude: Iterable[str] = ()) -> Iterator[Listed | LeftOut]:
    """As ``read_folder``, but open no file: yield what may be a text, and what is none for sure.

    Args:
        root: the folder.
        exclude: patterns of names or relative paths to leave out (fnmatch).

    Raises:
        PassageRefused: as for ``read_folder``.
    """
    patterns = list(exclude)
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
            if any(fnmatchcase(name, one) or fnmatchcase(file, one) for one in patterns):
                yield LeftOut(file, "excluded")
                continue
            found = _look(root, file)
            if found is not None:
                yield found
            elif name not in _LEFT_OUT:
                folders.append(file)
        waiting += reversed(folders)


def _look(root: Path, file: str) -> Listed | LeftOut | None:
    """What is at a name; ``None`` for a folder."""
    try:
        facts = os.lstat(root / file)
    except OSError as error:
        return LeftOut(file, _reason(error))
    if stat.S_ISDIR(facts.st_mode):
        return None
    if stat.S_ISLNK(facts.st_mode):
        return LeftOut(file, "link")
    if not stat.S_ISREG(facts.st_mode):
        return LeftOut(file, "special")
    if file.lower().endswith(_PICTURE):
        return LeftOut(file, "picture")
    return LeftOut(file, "large") if facts.st_size > PASSAGE_FILE_BYTES else Listed(file, facts.st_size)


def read_data(root: Path, file: str) -> bytes | LeftOut:
    """Read a file that was listed.

    Args:
        root: the folder.
        file: path relative to it.

    Returns:
        Its content, at most ``PASSAGE_FILE_BYTES``; or why there is none.
    """
    try:
        # Should a link or a pipe have taken its place meanwhile: not followed, and not waited for.
        fd = os.open(root / file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as stream:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return LeftOut(file, "special")
            data = stream.read(PASSAGE_FILE_BYTES + 1)
    except OSError as error:
        return LeftOut(file, _reason(error))
    return LeftOut(file, "large") if len(data) > PASSAGE_FILE_BYTES else data


def text_of(file: str, data: bytes) -> Source | LeftOut:
    """Decode the content of a file; or say why it is no text."""
    if b"\0" in data:
        return LeftOut(file, "binary")
    try:
        return Source(file, data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return LeftOut(file, "encoding")


def _reason(error: OSError) -> Literal["gone", "unreadable"]:
    return "gone" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable"
