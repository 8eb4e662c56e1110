"""Walks the folder and hands out pieces of work to the hashers, two to each at a time.

It walks on whenever no hasher asks, so that the number of files and bytes is known early, but only so far ahead that
its memory stays small, however large the folder.

What becomes of a piece when its hasher is killed is said in ``pieces.py``; the recorder counts its entries once,
however often they arrive. A hasher that dies again and again is given up by the kernel, and then the job fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from weftos.agent.context import Context

from .inventory_files import FILE, OK, Entry, entry_row, walk
from .pieces import PATIENCE_S, Pieces
from .siblings import Siblings

__all__ = ["main"]

#: A piece of work ends at this many files or bytes, whichever comes first: small enough to share, large enough to be
#: worth a message.
_WORK_FILES: Final = 64
_WORK_BYTES: Final = 16 * 1024 * 1024
#: Pieces that wait here to be handed out: about 130 000 files, some 100 MB at most.
_WAITING: Final = 2048


class _Scanner:
    """What was found, and the pieces that it makes."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        root, self._recorder = bytes.fromhex(ctx.args[0]), int(ctx.args[1])
        exclude = msgspec.json.decode(ctx.args[2], type=list[str])
        self._found = self._walk(walk(root, exclude))
        self.pieces = Pieces(ctx)
        self._walking = True

    @property
    def wants_to_walk(self) -> bool:
        """Whether there is more of the folder to see, and room for it."""
        return self._walking and self.pieces.waiting < _WAITING

    def walk_on(self) -> None:
        """Find the next piece, and give it to a hasher that has less than it could."""
        piece = next(self._found, None)
        if piece is None:
            self._walking = False
        else:
            self.pieces.add(piece)

    def _walk(self, entries: Iterator[Entry]) -> Iterator[list[Any]]:
        """Yield pieces of work; entries without content to hash go to the recorder directly, and at the end the number
        of all.
        """
        piece: list[Any] = []
        direct: list[Any] = []
        size = total = total_bytes = 0
        for index, entry in enumerate(entries):
            total = index + 1
            row = [index, entry_row(entry)]
            if entry.kind != FILE or entry.status != OK:
                direct.append(row)
                if len(direct) >= _WORK_FILES:
                    self._ctx.send(self._recorder, {"entries": direct}, timeout=PATIENCE_S)
                    direct = []
                continue
            piece.append(row)
            size += entry.size
            total_bytes += entry.size
            if len(piece) >= _WORK_FILES or size >= _WORK_BYTES:
                yield piece
                piece, size = [], 0
        if piece:
            yield piece
        end = {"entries": direct, "total": total, "total_bytes": total_bytes}
        self._ctx.send(self._recorder, end, timeout=PATIENCE_S)


def main(ctx: Context) -> None:
    """Arguments: root (hex of its bytes), pid of the recorder, patterns to leave out (JSON).

    Takes ``{"hello": incarnation}`` and ``{"done": number}`` from hashers, sends ``{"piece": number, "work": rows}``.
    """
    scanner, siblings = _Scanner(ctx), Siblings(ctx)
    while True:
        message = ctx.recv(timeout=0 if scanner.wants_to_walk else None)
        if message is not None:
            if isinstance(message.payload, dict) and message.sender in siblings:
                scanner.pieces.take(message.sender, message.payload)
        elif ctx.stopping:
            return
        elif scanner.wants_to_walk:
            scanner.walk_on()
