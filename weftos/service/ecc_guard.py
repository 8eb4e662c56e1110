"""What stands around each use of the stores of memory: a store that fails is given up, at once and for all.

Why a class: it is on the way of each search, where a generator made into a context costs as much as the gate.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from weftos.errors import EccError, EccUnavailable, JournalDamaged, JournalFailed

__all__ = ["Guard"]


class Guard:
    """Gives the stores up if one of them fails in the body of the ``with``.

    Args:
        fail: gives them up and returns what to raise.

    Raises:
        EccUnavailable: one did.
    """

    __slots__ = ("_fail",)

    def __init__(self, fail: Callable[[EccError | OSError], EccUnavailable]) -> None:
        self._fail = fail

    def __enter__(self) -> None:
        """Nothing is needed before."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, (JournalDamaged, JournalFailed, OSError)):
            raise self._fail(error) from error
