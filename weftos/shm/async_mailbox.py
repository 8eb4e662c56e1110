"""A mailbox for asyncio: one helper thread sleeps on the doorbell and pokes the event loop.

Why it is as it is: a semaphore is no file descriptor, so a selector cannot wait for it. The thread sleeps only when the
loop has asked for it, and touches nothing but the sleep flag; reading the ready bytes and the rings stays with the
loop's thread.

Guaranteed: ``wait`` returns when the mailbox has something, at the time-out, or when it is closed. Not guaranteed: a
low latency for a loop that is busy; it gets its turn like any callback.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Self

from weftos import limits
from weftos.errors import DoorbellLost
from weftos.shm.doorbell import Doorbell
from weftos.shm.mailbox import Mailbox

__all__ = ["AsyncMailbox"]


class AsyncMailbox:
    """The bridge between a mailbox and the running event loop. Made and used within that loop, by one task at a time.

    Args:
        mailbox: the owner's side; the loop's thread goes on using it for ``next_ready``.
        doorbell: the owner's, to wake the helper when the bridge is closed.
        has_work: looked at in addition to the ready bytes.
    """

    __slots__ = (
        "_asked",
        "_bell",
        "_closing",
        "_event",
        "_failure",
        "_has_work",
        "_loop",
        "_mailbox",
        "_outstanding",
        "_thread",
    )

    def __init__(self, mailbox: Mailbox, doorbell: Doorbell, *, has_work: Callable[[], bool] | None = None) -> None:
        self._mailbox = mailbox
        self._bell = doorbell
        self._has_work = has_work
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._asked = threading.Semaphore(0)
        self._outstanding = False
        self._closing = False
        self._failure: DoorbellLost | None = None
        self._thread = threading.Thread(target=self._sleep, name="weftos-doorbell", daemon=True)
        self._thread.start()

    def _ready(self) -> bool:
        return self._closing or (self._has_work is not None and self._has_work())

    def _sleep(self) -> None:
        """Run in the helper: for each request, wait until there is something, then tell the loop."""
        while True:
            self._asked.acquire()
            try:
                while not self._closing and not self._mailbox.wait(limits.WAIT_SLICE_S * 20, self._ready, spin=False):
                    continue
            except DoorbellLost as error:
                self._failure = error
            if self._closing:
                return
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:
                return  # the loop was closed without closing the bridge first: nobody is left to tell

    def _wake(self) -> None:
        self._outstanding = False
        self._event.set()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until a ready byte is set or ``has_work()``.

        Args:
            timeout_s: seconds; None waits for ever.

        Returns:
            True when there is something to look at, False at the deadline or when closed.

        Raises:
            DoorbellLost: the doorbell was closed.
        """
        if self._mailbox.any_ready() or self._ready():
            return not self._closing
        if not self._outstanding:
            self._outstanding = True
            self._event.clear()
            self._asked.release()
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        if self._failure is not None:
            raise self._failure
        self._event.clear()
        return not self._closing

    async def close(self) -> None:
        """End the helper thread. Idempotent; the mailbox and the doorbell stay with their owner."""
        if self._closing:
            return
        self._closing = True
        self._asked.release()
        self._bell.post()
        self._event.set()
        await asyncio.to_thread(self._thread.join)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
