"""A bell for one raw ring: a mailbox page with a single slot and its doorbell in one object.

Why it is as it is: agents have a mailbox for all their rings, but a lone ring between two processes (a reply ring, a
test, a benchmark) wants ``get_wait`` and a wake-up without that apparatus.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from weftos.shm.doorbell import Doorbell
from weftos.shm.mailbox import Mailbox, MailboxPeer, create_mailbox
from weftos.shm.segment import Segment

__all__ = ["Waiter"]

_SLOT: Final = 1


class Waiter:
    """What ``RingConsumer(waiter=…)`` sleeps on and ``RingProducer(wake=waiter.notifier())`` rings.

    Args:
        segment: a mailbox page.
        doorbell: the semaphore.
    """

    __slots__ = ("_mailbox", "doorbell", "segment")

    def __init__(self, segment: Segment, doorbell: Doorbell) -> None:
        self.segment = segment
        self.doorbell = doorbell
        self._mailbox = Mailbox(segment, doorbell)

    @classmethod
    def create(cls, name: str) -> Self:
        """Make page and doorbell; the other process inherits both by fork or gets the descriptor and the name.

        Args:
            name: of the doorbell, see ``Doorbell.create``.
        """
        return cls(create_mailbox(), Doorbell.create(name))

    def notifier(self) -> Callable[[], None]:
        """Build the producer's ``wake``."""
        return MailboxPeer(self.segment, self.doorbell).notifier(_SLOT)

    def wait(self, timeout_s: float, has_work: Callable[[], bool]) -> bool:
        """Wait until ``has_work()``, at most ``timeout_s`` seconds. The ready byte is taken as read."""
        if has_work():
            return True
        while self._mailbox.next_ready() is not None:
            if has_work():
                return True
        return self._mailbox.wait(timeout_s, has_work)

    def close(self) -> None:
        """Give page and doorbell back, and remove the doorbell's name. Idempotent."""
        self.segment.close()
        self.doorbell.close()
        self.doorbell.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
