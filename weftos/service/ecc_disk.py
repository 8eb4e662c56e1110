"""Brings what was written to the vectors onto the disk while the loop goes on.

Why it is as it is: a disk takes a millisecond and more for it, in which searches of everybody else would wait. So a
thread waits for the disk, the loop serves others meanwhile, and those who wrote are answered when it is done. What is
written meanwhile goes with the next time: as many as come together share one wait.

Guaranteed: the numbers rise; what was changed before ``begin`` is on the disk when its number has landed, or
``JournalFailed`` was raised. One wait at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from weftos.ecc.vectors.store import VectorStore
from weftos.errors import WeftError
from weftos.service.side_work import Job, SideWork

__all__ = ["VectorSync"]


class VectorSync:
    """See the head of this file. All methods are the loop's.

    Args:
        wake: wakes the loop; called from the thread.

    Attributes:
        begun: number of the last wait that was begun.
        landed: number of the last that is over.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._work = SideWork(wake)
        self.begun = self.landed = 0

    @property
    def under_way(self) -> bool:
        """Whether a thread waits."""
        return self.begun > self.landed

    def begin(self, store: VectorStore) -> None:
        """Begin to bring all changes onto the disk; nothing may be under way.

        Raises:
            JournalFailed: it did not work, or an earlier time.
        """
        assert not self.under_way, "one at a time"
        if self._work.closing:
            store.sync()
        bring = store.begin_sync()
        self.begun += 1
        if bring is None:
            self.landed = self.begun
        else:
            self._work.begin(self._job(store, bring), _done)

    def turn(self) -> None:
        """Take in what is done.

        Raises:
            JournalFailed: it did not work.
        """
        self._work.turn()

    def close(self) -> None:
        """Wait for what is under way. Idempotent. Errors as for ``turn``."""
        self._work.close()

    def _job(self, store: VectorStore, bring: Callable[[], None]) -> Job:
        yield bring
        self.landed = self.begun
        store.finish_sync()


def _done(_result: object, error: WeftError | None) -> None:
    if error is not None:
        raise error
