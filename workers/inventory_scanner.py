"""Walks the folder and hands out pieces of work to the hashers, two to each at a time.

It walks on whenever no hasher asks, so that the number of files and bytes is known early, but only so far ahead that
its memory stays small, however large the folder.

Pieces are numbered, and a piece is the hasher's until it says that it is done. The kernel delivers the piece that a
killed hasher held again, but not for ever: what killed its reader three times goes to the dead letters. So a hasher
says hello in each of its lives and gets again what it still owes; its entries count once, however often they arrive.
One that dies again and again is given up by the kernel, and then the job fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from weftos.agent.context import Context

from .inventory_files import FILE, OK, Entry, entry_row, walk
from .inventory_siblings import Siblings

__all__ = ["main"]

#: A piece of work ends at this many files or bytes, whichever comes first: small enough to share, large enough to be
#: worth a message.
_WORK_FILES: Final = 64
_WORK_BYTES: Final = 16 * 1024 * 1024
#: Pieces that wait here to be handed out: about 130 000 files, some 100 MB at most.
_WAITING: Final = 2048
#: Pieces that a hasher has at a time: the next one is there when one is done.
_AHEAD: Final = 2
#: How long a full ring is waited for, in seconds: a restart with its longest delay, and a large file, fit in.
_PATIENCE_S: Final = 60.0


class _Scanner:
    """What was found, what waits, and who has what."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        root, self._recorder = bytes.fromhex(ctx.args[0]), int(ctx.args[1])
        exclude = msgspec.json.decode(ctx.args[2], type=list[str])
        self._pieces = self._walk(walk(root, exclude))
        self._waiting: deque[tuple[int, list[Any]]] = deque()
        self._number = 0
        self._owed: dict[int, dict[int, list[Any]]] = {}
        self._walking = True

    @property
    def wants_to_walk(self) -> bool:
        """Whether there is more of the folder to see, and room for it."""
        return self._walking and len(self._waiting) < _WAITING

    def walk_on(self) -> None:
        """Find the next piece, and give it to a hasher that has less than it could."""
        piece = next(self._pieces, None)
        if piece is None:
            self._walking = False
            return
        self._waiting.append((self._number, piece))
        self._number += 1
        for hasher in self._owed:
            self._hand_out(hasher)

    def take(self, hasher: int, payload: dict[str, Any]) -> None:
        """A hasher began a life, or is done with a piece."""
        mine = self._owed.setdefault(hasher, {})
        if "hello" in payload:
            for number, piece in mine.items():
                self._ctx.send(hasher, {"piece": number, "work": piece}, timeout=_PATIENCE_S)
        else:
            mine.pop(payload.get("done", -1), None)
        self._hand_out(hasher)

    def _hand_out(self, hasher: int) -> None:
        mine = self._owed[hasher]
        while self._waiting and len(mine) < _AHEAD:
            number, piece = self._waiting.popleft()
            mine[number] = piece
            self._ctx.send(hasher, {"piece": number, "work": piece}, timeout=_PATIENCE_S)

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
                    self._ctx.send(self._recorder, {"entries": direct}, timeout=_PATIENCE_S)
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
        self._ctx.send(self._recorder, end, timeout=_PATIENCE_S)


def main(ctx: Context) -> None:
    """Arguments: root (hex of its bytes), pid of the recorder, patterns to leave out (JSON).

    Takes ``{"hello": incarnation}`` and ``{"done": number}`` from hashers, sends ``{"piece": number, "work": rows}``.
    """
    scanner, siblings = _Scanner(ctx), Siblings(ctx)
    while True:
        message = ctx.recv(timeout=0 if scanner.wants_to_walk else None)
        if message is not None:
            if isinstance(message.payload, dict) and message.sender in siblings:
                scanner.take(message.sender, message.payload)
        elif ctx.stopping:
            return
        elif scanner.wants_to_walk:
            scanner.walk_on()
