"""What ``weaver artifact`` does with files: the store's folder read without a kernel, and a bar for what takes long.

Reading changes nothing in the folder. If something is damaged the kernel is asked to look at it too, because setting a
file aside is its business: the log must say so first.
"""

from __future__ import annotations

import mimetypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from weftos.cli.session import call
from weftos.errors import (
    ArtifactCorrupted,
    ArtifactNotFound,
    ArtifactStorageFailed,
    InvalidRequest,
    KernelNotRunning,
    ServiceUnavailable,
    WeftTimeout,
)
from weftos.rpc import artifact_types as t

if TYPE_CHECKING:
    from weftos.artifacts import ArtifactStream

__all__ = ["WATCHED_BYTES", "Watched", "examined", "guess_type", "resolve", "watched", "write_out"]

#: Below this a bar would be gone before it is seen, in bytes.
WATCHED_BYTES: Final = 16 * 1024 * 1024
#: Fewest digits that stand for a hash: what a person copies from a table, and hardly ever ambiguous.
_DIGITS: Final = 6

Advance = Callable[[int], None]


def resolve(folder: Path, text: str) -> str:
    """Return the hash that begins with these digits.

    Raises:
        InvalidRequest: these are no digits of a hash, or several artifacts begin with them.
        ArtifactNotFound: no artifact does.
    """
    from weftos.artifacts.form import is_hash
    from weftos.artifacts.looking import list_artifacts

    if is_hash(text):
        return text
    if not _DIGITS <= len(text) < 64 or not set(text) <= set("0123456789abcdef"):
        raise InvalidRequest(f"{text!r:.80} is no hash: 64 lower-case hex digits, or at least the first {_DIGITS}")
    found = []
    for info in list_artifacts(folder, after=text.ljust(64, "0")[:63]):
        if not info.hash.startswith(text):
            break
        found.append(info.hash)
    if not found:
        raise ArtifactNotFound(f"no artifact begins with {text}; `weaver artifact list` shows those there are")
    if len(found) > 1:
        raise InvalidRequest(f"{len(found)} artifacts begin with {text}; give more digits")
    return found[0]


def guess_type(path: str) -> str:
    """Return the content type that a file's name suggests."""
    kind, encoding = mimetypes.guess_type(path)
    return kind if kind is not None and encoding is None else "application/octet-stream"


class Watched:
    """A file that tells how far it was read; a ``Source`` for the store.

    Args:
        file: open for reading bytes.
        advance: called with the bytes of each piece.
    """

    def __init__(self, file: IO[bytes], advance: Advance) -> None:
        self._file, self._advance = file, advance

    def read(self, count: int, /) -> bytes:
        """Return the next bytes; nothing only at the end."""
        data = self._file.read(count)
        self._advance(len(data))
        return data


@contextmanager
def watched(what: str, total: int | None) -> Iterator[Advance]:
    """Give a function that moves a bar on standard error; it does nothing if that is no terminal, or for little.

    Args:
        what: is done, in a word.
        total: bytes; ``None`` if nobody knows.
    """
    if not sys.stderr.isatty() or (total is not None and total < WATCHED_BYTES):
        yield lambda _count: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from weftos.cli.output import console

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def examined(digest: str) -> Iterator[None]:
    """Have the kernel look at damage that is found inside; without a kernel, say what was found.

    Raises:
        ArtifactCorrupted: what the kernel found, or else what was found here.
    """
    try:
        yield
    except ArtifactCorrupted as damage:
        with suppress(KernelNotRunning, ServiceUnavailable, ArtifactNotFound, WeftTimeout):
            call("artifact.stat", t.ArtifactStatParams(hash=digest, check=True))
        raise damage from None


def write_out(stream: ArtifactStream, output: Path | None) -> None:
    """Write an artifact to a file, which is there only when all of it is, or to standard output.

    Raises:
        ArtifactCorrupted: it was changed while it was read.
        ArtifactStorageFailed: the file cannot be written.
    """
    with watched("reading", stream.size) as advance:
        if output is None:
            _copy(stream, sys.stdout.buffer, advance)
            return
        plain = not output.exists() or output.is_file()
        target = output.with_name(f".{output.name}.{os.getpid()}.tmp") if plain else output
        try:
            with target.open("wb") as file:
                _copy(stream, file, advance)
            if plain:
                target.replace(output)
        except BaseException as error:
            if plain:
                with suppress(OSError):
                    target.unlink()
            if isinstance(error, OSError):
                raise ArtifactStorageFailed(f"{output} cannot be written: {error.strerror or error}") from error
            raise


def _copy(stream: ArtifactStream, target: Any, advance: Advance) -> None:
    for block in stream:
        target.write(block)
        advance(len(block))
    target.flush()
