"""Hashes files. Any number run side by side; one that is killed is restarted and gets the piece it was working on
again.
"""

from __future__ import annotations

import time
from typing import Any, Final

from weftos.agent.context import Context

from .inventory_files import entry_row, hash_file, row_entry
from .pieces import PATIENCE_S, work_off

__all__ = ["main"]

#: Between two reports from within a piece, in seconds.
_REPORT_S: Final = 0.25


class _Reports:
    """Tells the recorder how many bytes of a piece are read, now and then: a single file may take minutes."""

    def __init__(self, ctx: Context, recorder: int) -> None:
        self._ctx = ctx
        self._recorder = recorder
        self._told = time.monotonic()
        self._before = 0

    def file_done(self, size: int) -> None:
        """The file is read; the next begins."""
        self._before += size

    def read(self, size: int) -> None:
        """So many bytes of the file are read."""
        now = time.monotonic()
        if now - self._told >= _REPORT_S:
            self._told = now
            self._ctx.send(self._recorder, {"reading": self._before + size}, timeout=PATIENCE_S)


def main(ctx: Context) -> None:
    """Arguments: root (hex of its bytes), pid of the scanner, pid of the recorder."""
    root, scanner, recorder = bytes.fromhex(ctx.args[0]), int(ctx.args[1]), int(ctx.args[2])

    def hash_piece(work: list[Any]) -> dict[str, Any]:
        reports = _Reports(ctx, recorder)
        done = []
        for index, row in work:
            entry = hash_file(root, row_entry(row), reports.read)
            reports.file_done(entry.size)
            done.append([index, entry_row(entry)])
        ctx.send(recorder, {"entries": done}, timeout=PATIENCE_S)
        return {}

    work_off(ctx, scanner, hash_piece)
