"""Walks the folder and hands out pieces of work to the hashers, two to each at a time.

Pieces are numbered, and a piece is the hasher's until it says that it is done. The kernel delivers the piece that a
killed hasher held again, but not for ever: what killed its reader three times goes to the dead letters. So a hasher
says hello in each of its lives and gets again what it still owes; its entries count once, however often they arrive.
One that dies again and again is given up by the kernel, and then the job fails.
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
#: How long a full ring is waited for, in seconds: a restart with its longest delay, and a large file, fit in.
_PATIENCE_S: Final = 60.0


#: Pieces that a hasher has at a time: the next one is there when one is done.
_AHEAD: Final = 2


def main(ctx: Context) -> None:
    """Arguments: root (hex of its bytes), pid of the recorder, patterns to leave out (JSON).

    Takes ``{"hello": incarnation}`` and ``{"done": number}`` from hashers, sends ``{"piece": number, "work": rows}``.
    """
    root, recorder = bytes.fromhex(ctx.args[0]), int(ctx.args[1])
    exclude = msgspec.json.decode(ctx.args[2], type=list[str])
    work = enumerate(_pieces(walk(root, exclude), ctx, recorder))
    owed: dict[int, dict[int, list[Any]]] = {}
    for message in ctx:
        payload, hasher = message.payload, message.sender
        if not isinstance(payload, dict):
            continue
        mine = owed.setdefault(hasher, {})
        if "hello" in payload:
            for number, piece in mine.items():
                ctx.send(hasher, {"piece": number, "work": piece}, timeout=_PATIENCE_S)
        else:
            mine.pop(payload.get("done", -1), None)
        while len(mine) < _AHEAD and (fresh := next(work, None)) is not None:
            number, piece = fresh
            mine[number] = piece
            ctx.send(hasher, {"piece": number, "work": piece}, timeout=_PATIENCE_S)


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
                ctx.send(recorder, {"entries": direct}, timeout=_PATIENCE_S)
                direct = []
            continue
        piece.append([index, entry_row(entry)])
        size += entry.size
        if len(piece) >= _WORK_FILES or size >= _WORK_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
    ctx.send(recorder, {"entries": direct, "total": total}, timeout=_PATIENCE_S)
