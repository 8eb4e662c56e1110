"""Numbered pieces of work, handed out to agents that may be killed at any moment.

A piece is a worker's until it says that it is done. The kernel delivers the piece that a killed worker held again, but
not for ever: what killed its reader three times goes to the dead letters. So a worker says hello in each of its lives
and gets again what it still owes. A piece may so be done twice; its result counts once, by its number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from weftos.agent.context import Context

__all__ = ["PATIENCE_S", "Pieces", "work_off"]

#: Pieces that a worker has at a time: the next one is there when one is done.
_AHEAD: Final = 2
#: How long a full ring is waited for, in seconds: a restart with its longest delay, and a large file, fit in.
PATIENCE_S: Final = 60.0


class Pieces:
    """The pieces of one job: what waits, and who has what.

    Args:
        ctx: of the agent that hands them out.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._waiting: deque[tuple[int, list[Any]]] = deque()
        self._number = 0
        self._owed: dict[int, dict[int, list[Any]]] = {}

    @property
    def waiting(self) -> int:
        """How many nobody has yet."""
        return len(self._waiting)

    @property
    def left(self) -> bool:
        """Whether any is not done yet."""
        return bool(self._waiting) or any(self._owed.values())

    def add(self, piece: list[Any]) -> None:
        """Take in a piece, and give it to a worker that has less than it could."""
        self._waiting.append((self._number, piece))
        self._number += 1
        for worker in self._owed:
            self._hand_out(worker)

    def take(self, worker: int, payload: dict[str, Any]) -> bool:
        """A worker began a life, or is done with a piece; it gets more.

        Returns:
            Whether a piece is done that was not before: its result counts.
        """
        mine = self._owed.setdefault(worker, {})
        fresh = False
        if "hello" in payload:
            for number, piece in mine.items():
                self._send(worker, number, piece)
        else:
            fresh = mine.pop(payload.get("done", -1), None) is not None
        self._hand_out(worker)
        return fresh

    def _hand_out(self, worker: int) -> None:
        mine = self._owed[worker]
        while self._waiting and len(mine) < _AHEAD:
            number, piece = self._waiting.popleft()
            mine[number] = piece
            self._send(worker, number, piece)

    def _send(self, worker: int, number: int, piece: list[Any]) -> None:
        self._ctx.send(worker, {"piece": number, "work": piece}, timeout=PATIENCE_S)


def work_off(ctx: Context, giver: int, do: Callable[[list[Any]], dict[str, Any]]) -> None:
    """Do pieces until the agent is to stop.

    Args:
        ctx: of the worker.
        giver: pid of the agent that hands them out.
        do: does a piece; what it returns goes to the giver with the word that it is done.
    """
    finished: set[int] = set()
    ctx.send(giver, {"hello": ctx.incarnation}, timeout=PATIENCE_S)
    for message in ctx:
        if message.sender != giver or not isinstance(message.payload, dict) or "piece" not in message.payload:
            continue
        number = message.payload["piece"]
        result: dict[str, Any] = {}
        # After a restart a piece comes from the kernel, which delivers it again, and from the giver.
        if number not in finished:
            result = do(message.payload["work"])
            finished.add(number)
        ctx.send(giver, {"done": number, **result}, timeout=PATIENCE_S)
