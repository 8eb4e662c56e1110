"""Reads files into memory. Any number run side by side; one that is killed is restarted and does its piece again.

What it does bears repetition: ids are those of passages, so the same file gives the same entries. The mark in the graph
stands before the first change, so a run that ends in the middle is seen by the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos.agent.context import Context
from weftos.ecc.passages.cutting import cut
from weftos.ecc.passages.folder import LeftOut, read_data, text_of
from weftos.ecc.passages.model import Document, Passage
from weftos.ecc.vectors.filters import Value
from weftos.errors import EmbeddingRefused, MessageTooLarge, MetadataInvalid, PassageRefused, VectorRefused

from .memory_files import Asked, Result, Status, embedded_text, metadata_of, outline_of, passage_id, source_of
from .memory_graph import Mark
from .pieces import work_off

__all__ = ["main"]

#: Passages that are embedded and written together: some MB of vectors.
_TOGETHER: Final = 512
#: Errors that are about one passage: its file is reported and the others go on.
_OF_A_FILE: Final = (EmbeddingRefused, MessageTooLarge, MetadataInvalid, PassageRefused, VectorRefused)


class _Rows(msgspec.Struct):
    """Passages that are ready to be written."""

    ids: list[str]
    vectors: NDArray[np.float32]
    metadata: list[dict[str, Value]]
    documents: list[bytes]


class _Reader:
    """Reads the files of one folder into one space."""

    def __init__(self, ctx: Context, root: str, space: str, mark: Mark) -> None:
        self._ctx = ctx
        self._root = Path(root)
        self._space = space
        self._mark = mark
        self._marked = False

    def read(self, asked: Asked) -> Result:
        """Bring a file into memory, if its content is not there."""
        data = read_data(self._root, asked.file)
        if isinstance(data, LeftOut):
            return Result(asked.file, "left out", data.why)
        source = source_of(data)
        if source == asked.source:
            return Result(asked.file, "unchanged", source=source, size=len(data))
        text = text_of(asked.file, data)
        if isinstance(text, LeftOut):
            return Result(asked.file, "left out", text.why, source, len(data))
        try:
            document = self._cut(asked.file, text.text)
            # All is embedded before anything is written: what is refused leaves the earlier version as it is.
            parts = list(self._embedded(document, source))
            self._write(parts)
        except _OF_A_FILE as error:
            return Result(asked.file, "failed", str(error), source, len(data))
        removed = self._forget_others(document) if asked.there else 0
        status: Status = "read" if document.passages or removed else "empty"
        counts = len(document.passages), removed
        return Result(asked.file, status, "", source, len(data), *counts, outline_of(document))

    def outline(self, file: str) -> Result:
        """Cut a file whose content is in memory, for the links of the folder alone."""
        data = read_data(self._root, file)
        text = data if isinstance(data, LeftOut) else text_of(file, data)
        if isinstance(text, LeftOut):
            return Result(file, "left out", text.why)
        try:
            return Result(file, "unchanged", outline=outline_of(self._cut(file, text.text)))
        except PassageRefused as error:
            return Result(file, "failed", str(error))

    def _cut(self, file: str, text: str) -> Document:
        """Cut a document under the path that is shown.

        Raises:
            PassageRefused: it cannot be cut.
        """
        try:
            return cut(f"{self._root.name}/{file}", text)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            # Parsers of foreign formats stumble over foreign texts; one text must not end the job.
            raise PassageRefused(f"{file} cannot be cut: {type(error).__name__}: {error}"[:300]) from error

    def _embedded(self, document: Document, source: str) -> Iterator[_Rows]:
        for begin in range(0, len(document.passages), _TOGETHER):
            part: tuple[Passage, ...] = document.passages[begin : begin + _TOGETHER]
            yield _Rows(
                [passage_id(one) for one in part],
                self._ctx.memory.provider.embed([embedded_text(one) for one in part]),
                [metadata_of(document, one, str(self._root), source) for one in part],
                [one.text.encode("utf-8", "surrogatepass") for one in part],
            )

    def _write(self, parts: list[_Rows]) -> None:
        self._set_mark()
        for rows in parts:
            self._ctx.memory.put(rows.ids, rows.vectors, rows.metadata, rows.documents, space=self._space, texts=True)

    def _forget_others(self, document: Document) -> int:
        """Take out the passages of a file that its new version does not have."""
        there = self._ctx.memory.ids({"root": str(self._root), "file": document.file}, space=self._space)
        gone = sorted(set(there) - {passage_id(one) for one in document.passages})
        return self._ctx.memory.forget(gone, space=self._space) if gone else 0

    def _set_mark(self) -> None:
        if not self._marked:
            self._ctx.causal.link_many([self._mark.edge], space=self._space)
            self._marked = True


def main(ctx: Context) -> None:
    """Arguments: root, space, name of the run, pid of the keeper.

    Pieces are ``["read", rows of Asked]`` or ``["outline", paths]``; what is done comes back as rows of ``Result``.
    """
    root, space, run, keeper = ctx.args
    reader = _Reader(ctx, root, space, Mark(Path(root).name, root, run))

    def do(piece: list[Any]) -> dict[str, Any]:
        kind, files = piece
        if kind == "read":
            results = [reader.read(one) for one in msgspec.convert(files, list[Asked])]
        else:
            results = [reader.outline(file) for file in files]
        return {"results": msgspec.msgpack.encode(results)}

    work_off(ctx, int(keeper), do)
