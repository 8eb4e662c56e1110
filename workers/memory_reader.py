"""Reads files into memory. Any number run side by side; one that is killed is restarted and does its piece again.

What it does bears repetition: ids are those of passages, so the same file gives the same entries. The mark in the graph
stands before the first change, so a run that ends in the middle is seen by the next.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos.agent.context import Context
from weftos.ecc.passages.cutting import cut
from weftos.ecc.passages.folder import LeftOut, read_data, text_of
from weftos.ecc.passages.model import Document, headed
from weftos.ecc.vectors.filters import Value
from weftos.errors import EmbeddingRefused, MessageTooLarge, MetadataInvalid, PassageRefused, VectorRefused

from .memory_files import Asked, Result, Status, metadata_of, outline_of, passage_id, source_of
from .memory_graph import Mark
from .pieces import work_off

__all__ = ["main"]

#: Passages that are embedded together: some MB of vectors.
_TOGETHER: Final = 512
#: Errors that are about one passage: its file is reported and the others go on.
_OF_A_FILE: Final = (EmbeddingRefused, MessageTooLarge, MetadataInvalid, PassageRefused, VectorRefused)


class _Rows(msgspec.Struct):
    """Passages that are ready to be written."""

    ids: list[str] = []
    vectors: list[NDArray[np.float32]] = []
    metadata: list[dict[str, Value]] = []
    documents: list[bytes] = []

    def add(self, other: _Rows) -> None:
        """Take in those of another file."""
        self.ids += other.ids
        self.vectors += other.vectors
        self.metadata += other.metadata
        self.documents += other.documents


class _Ready(msgspec.Struct):
    """A file whose passages are embedded."""

    asked: Asked
    result: Result
    rows: _Rows


class _Reader:
    """Reads the files of one folder into one space."""

    def __init__(self, ctx: Context, root: str, space: str, mark: Mark) -> None:
        self._ctx = ctx
        self._root = Path(root)
        self._space = space
        self._mark = mark
        self._marked = False

    def read(self, files: list[Asked]) -> list[Result]:
        """Bring files into memory, those whose content is not there."""
        found = [self._prepare(asked) for asked in files]
        ready = [one for one in found if isinstance(one, _Ready)]
        whole = _Rows()
        for one in ready:
            whole.add(one.rows)
        try:
            # Together they share requests, and waits for the disk.
            self._write(whole)
        except _OF_A_FILE:
            done = [self._write_one(one) for one in ready]
        else:
            done = [one.result for one in ready]
        for one, result in zip(ready, done, strict=True):
            one.result = result if result.status == "failed" else self._without_others(one)
        return [one.result if isinstance(one, _Ready) else one for one in found]

    def _prepare(self, asked: Asked) -> Result | _Ready:
        """Read a file, cut it and embed its passages. What is refused leaves the earlier version as it is."""
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
            rows = self._embed(document, source)
        except _OF_A_FILE as error:
            return Result(asked.file, "failed", str(error), source, len(data))
        status: Status = "read" if rows.ids else "empty"
        outline = outline_of(document)
        return _Ready(asked, Result(asked.file, status, "", source, len(data), len(rows.ids), 0, outline), rows)

    def _write(self, rows: _Rows) -> None:
        if not rows.ids:
            return
        if not self._marked:
            self._ctx.causal.link_many([self._mark.edge], space=self._space)
            self._marked = True
        matrix = np.vstack(rows.vectors)
        self._ctx.memory.put(rows.ids, matrix, rows.metadata, rows.documents, space=self._space, texts=True)

    def _write_one(self, one: _Ready) -> Result:
        try:
            self._write(one.rows)
        except _OF_A_FILE as error:
            result = one.result
            return Result(result.file, "failed", str(error), result.source, result.size)
        return one.result

    def _without_others(self, one: _Ready) -> Result:
        """Take out the passages of a file that its new version does not have."""
        if not one.asked.there:
            return one.result
        where = {"root": str(self._root), "file": self._shown(one.asked.file)}
        gone = sorted(set(self._ctx.memory.ids(where, space=self._space)) - set(one.rows.ids))
        removed = self._ctx.memory.forget(gone, space=self._space) if gone else 0
        return msgspec.structs.replace(one.result, status="read", removed=removed)

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
            return cut(self._shown(file), text)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            # Parsers of foreign formats stumble over foreign texts; one text must not end the job.
            raise PassageRefused(f"{file} cannot be cut: {type(error).__name__}: {error}"[:300]) from error

    def _embed(self, document: Document, source: str) -> _Rows:
        """Embed the passages of a document.

        Raises:
            EmbeddingRefused: one of them cannot be embedded.
        """
        passages, provider = document.passages, self._ctx.memory.provider
        parts = [passages[begin : begin + _TOGETHER] for begin in range(0, len(passages), _TOGETHER)]
        return _Rows(
            [passage_id(one) for one in passages],
            [provider.embed([headed(one.path, one.text) for one in part]) for part in parts],
            [metadata_of(document, one, str(self._root), source) for one in passages],
            [one.text.encode("utf-8", "surrogatepass") for one in passages],
        )

    def _shown(self, file: str) -> str:
        return f"{self._root.name}/{file}"


def main(ctx: Context) -> None:
    """Arguments: root, space, name of the run, pid of the keeper.

    Pieces are ``["read", rows of Asked]`` or ``["outline", paths]``; what is done comes back as rows of ``Result``.
    """
    root, space, run, keeper = ctx.args
    reader = _Reader(ctx, root, space, Mark(Path(root).name, root, run))

    def do(piece: list[Any]) -> dict[str, Any]:
        kind, files = piece
        if kind == "read":
            results = reader.read(msgspec.convert(files, list[Asked]))
        else:
            results = [reader.outline(file) for file in files]
        return {"results": msgspec.msgpack.encode(results)}

    work_off(ctx, int(keeper), do)
