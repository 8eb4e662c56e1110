"""Walks the folder and hands out files to whoever asks for work.

Hashers ask, the scanner answers: so a hasher with a large file holds nobody up, and a hasher that was killed simply
    asks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from weftos.agent.context import Context

from .inventory_files import FILE, OK, Entry, entry_row, walk

__all__ = ["main"]

#: A piece of work ends at this many files or bytes, whichever comes first: small enough to share, large enough to be
#: worth a message.
_WORK_FILES: Final = 64
_WORK_BYTES: Final = 16 * 1024 * 1024


def main(ctx: Context) -> None:
    """Arguments: root (hex of its bytes), pid of the recorder, patterns to leave out (JSON)."""
    root, recorder = bytes.fromhex(ctx.args[0]), int(ctx.args[1])
    exclude = msgspec.json.decode(ctx.args[2], type=list[str])
    work = _pieces(walk(root, exclude), ctx, recorder)
    exhausted = False
    for message in ctx:
        if message.payload != "want":
            continue
        piece = None if exhausted else next(work, None)
        if piece is None:
            exhausted = True
            ctx.send(message.sender, {"work": []}, timeout=60.0)
        else:
            ctx.send(message.sender, {"work": piece}, timeout=60.0)


def _pieces(entries: Iterator[Entry], ctx: Context, recorder: int) -> Iterator[list[Any]]:
    """Yield pieces of work; entries without content to hash go to the recorder directly, and at the end the number of
    all.
    """
    piece: list[Any] = []
    direct: list[Any] = []
    size = total = 0
    for index, entry in enumerate(entries):
        total = index + 1
        if entry.kind != FILE or entry.status != OK:
            direct.append([index, entry_row(entry)])
            if len(direct) >= _WORK_FILES:
                ctx.send(recorder, {"entries": direct}, timeout=60.0)
                direct = []
            continue
        piece.append([index, entry_row(entry)])
        size += entry.size
        if len(piece) >= _WORK_FILES or size >= _WORK_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
    ctx.send(recorder, {"entries": direct, "total": total}, timeout=60.0)
