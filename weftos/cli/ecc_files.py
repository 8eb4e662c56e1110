"""Memory spaces as files: one JSON value a line, the collection first, then an entry each.

Why it is as it is: JSON is read everywhere and by eye, and a line at a time keeps both ends small, however large the
space is. Vectors are the bytes of 32-bit floats, little-endian, in base64, so they come back bit for bit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import click
import msgspec

from weftos.cli.session import connect
from weftos.ecc.embedding.provider import EmbeddingIdentity
from weftos.errors import CollectionNotFound, InvalidRequest, StorageFailed, WeftError
from weftos.rpc import ecc_types as e

__all__ = ["export_entries", "import_entries"]

_FORMAT: Final = "weftos.ecc.export/1"
#: Entries asked for, or written, at once, and bytes of them: an answer and a request have room for so many.
_PAGE: Final = 32
_PAGE_BYTES: Final = 48 * 1024


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    space: str
    dimension: int
    metric: str
    identity: EmbeddingIdentity | None
    entries: int


def export_entries(space: str, file: Path, *, show_progress: bool) -> int:
    """Write the entries of a space; returns how many.

    Raises:
        CollectionNotFound: there is no such space.
        StorageFailed: the file cannot be written.
        WeftError: the kernel refused.
    """
    encode = msgspec.json.encode
    with connect() as client:
        spaces: list[e.SpaceView] = client.call("ecc.collections")
        held = next((row.collection for row in spaces if row.space == space), None)
        if held is None:
            raise CollectionNotFound(f"the memory space {space!r} has no entries; `weaver ecc collections` lists them")
        head = _Head(_FORMAT, space, held.dimension, held.metric, held.identity, held.live)
        count, after, more = 0, 0, True
        try:
            with _opened(file, "wb") as out, _progress(held.live, show_progress) as step:
                out.write(encode(head) + b"\n")
                limit = _PAGE
                while more:
                    try:
                        page: e.EccPage = client.call(
                            "ecc.entries", e.EccEntriesParams(space=space, after=after, limit=limit, vectors=True)
                        )
                    except InvalidRequest:
                        if limit == 1:
                            raise
                        limit //= 2  # large documents: fewer of them fit an answer
                        continue
                    for entry in page.entries:
                        out.write(encode(entry) + b"\n")
                    count += len(page.entries)
                    after, more = page.after, page.more
                    step(len(page.entries))
        except OSError as error:
            raise StorageFailed(f"{file} cannot be written: {error.strerror}") from error
    return count


def import_entries(file: Path, space: str | None, *, show_progress: bool) -> tuple[int, str]:
    """Write the entries of a file into a space; returns how many, and which space it was.

    Raises:
        InvalidRequest: a line is not what an export writes; those before it are written.
        WeftError: the kernel refused.
    """
    count = 0
    with connect() as client, _opened(file, "rb") as source:
        head = _decoded(source.readline(), _Head, file, 1)
        if head.format != _FORMAT:
            raise InvalidRequest(f"{file} has the format {head.format!r:.40}; {_FORMAT!r} is read here")
        target = space or head.space
        with _progress(head.entries, show_progress) as step:
            for batch in _batches(source, file):
                params: dict[str, Any] = {
                    "space": target,
                    "dimension": head.dimension,
                    "metric": head.metric,
                    "identity": head.identity,
                    "entries": batch,
                }
                try:
                    client.call("ecc.put", msgspec.convert(params, e.EccPutParams, from_attributes=True))
                except WeftError as error:
                    raise type(error)(f"{error} ({count} entries were written before)") from error
                count += len(batch)
                step(len(batch))
    return count, target


def _batches(source: IO[bytes], file: Path) -> Iterator[list[e.EccEntry]]:
    batch: list[e.EccEntry] = []
    size = 0
    for number, line in enumerate(source, 2):
        if batch and (len(batch) == _PAGE or size + len(line) > _PAGE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(_decoded(line, e.EccEntry, file, number))
        size += len(line)
    if batch:
        yield batch


def _decoded(line: bytes, form: type[Any], file: Path, number: int) -> Any:
    try:
        return msgspec.json.decode(line, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file}, line {number}: not what `weaver ecc export` writes: {error}") from error


@contextmanager
def _opened(file: Path, mode: str) -> Iterator[IO[bytes]]:
    if str(file) == "-":
        yield sys.stdout.buffer if "w" in mode else sys.stdin.buffer
        return
    try:
        opened = open(file, mode)  # noqa: SIM115 -- closed below; opening it fails in a way of its own
    except OSError as error:
        raise StorageFailed(f"{file} cannot be opened: {error.strerror}") from error
    with opened:
        yield opened


@contextmanager
def _progress(total: int, shown: bool) -> Iterator[Any]:
    if not shown or not sys.stderr.isatty():
        yield lambda _count: None
        return
    with click.progressbar(length=total, file=sys.stderr, label="entries") as bar:
        yield bar.update
