"""Doorbells: named semaphores on which a process sleeps and by which others wake it.

Why it is as it is: a semaphore is the cheapest thing that both counts and can be waited for with a deadline, and
posting it never blocks. It is rung only when its owner has said that it sleeps (see ``mailbox``), so it is off the path
of a busy reader.

Guaranteed: a post after the wait began ends the wait. Not guaranteed: that a wake-up means work. Anyone who holds the
bell may ring it, so a waiter always looks for itself. The time-out is measured on the wall clock by the C library, so
callers wait in short slices (``limits.WAIT_SLICE_S``): a clock that steps back delays a wake-up that was lost, never
one that was rung.

``posix_ipc`` is imported here and in the fallback of ``segment`` only.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import posix_ipc

from weftos.errors import DoorbellLost, SharedMemoryError
from weftos.shm.spin import Pauses

__all__ = ["Doorbell", "sweep"]

_SHM: Final = Path("/dev/shm")  # noqa: S108  where Linux keeps named semaphores


class Doorbell:
    """One semaphore. The kernel names it; the name starts with the instance's prefix, so that leftovers can be swept.

    Attributes:
        name: ``/weftos-<instance tag>-…``.
    """

    __slots__ = ("_acquire", "_closed", "_given_back", "_semaphore", "_waiting", "name")

    def __init__(self, semaphore: posix_ipc.Semaphore) -> None:
        self._semaphore = semaphore
        self._acquire = semaphore.acquire
        self._closed = self._waiting = self._given_back = False
        self.name: str = semaphore.name

    @classmethod
    def create(cls, name: str, *, group: int | None = None) -> Self:
        """Make a new doorbell of mode 0600; of mode 0660 if it is a group's.

        Args:
            name: starts with ``/`` and holds no other slash; at most 249 bytes on Linux, 30 on macOS.
            group: whose members may open it as well (Linux only).

        Raises:
            SharedMemoryError: the name is taken or not acceptable, or the system refuses.
        """
        try:
            bell = cls(posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600, initial_value=0))
        except posix_ipc.ExistentialError as error:
            raise SharedMemoryError(f"doorbell {name} exists already") from error
        except (posix_ipc.Error, OSError, ValueError) as error:
            raise SharedMemoryError(f"doorbell {name} cannot be made: {error}") from error
        if group is not None:
            try:
                _share(name, group)
            except OSError as error:
                bell.unlink()
                bell.close()
                raise SharedMemoryError(f"doorbell {name} cannot be given to group {group}: {error}") from error
        return bell

    @classmethod
    def open(cls, name: str) -> Self:
        """Open the doorbell of another process.

        Raises:
            DoorbellLost: there is none of that name, or it belongs to another user.
        """
        try:
            return cls(posix_ipc.Semaphore(name))
        except (posix_ipc.Error, OSError, ValueError) as error:
            raise DoorbellLost(f"doorbell {name} cannot be opened: {error}") from error

    def post(self) -> None:
        """Ring. Never blocks; a bell that has been rung 2**31 times unheard stays as it is.

        Raises:
            DoorbellLost: this end was closed.
        """
        if self._closed:
            raise DoorbellLost(f"doorbell {self.name} is closed")
        try:
            self._semaphore.release()
        except (posix_ipc.Error, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.EOVERFLOW:
                return  # the count is at its maximum: the owner wakes anyway
            raise DoorbellLost(f"doorbell {self.name} cannot be rung: {error}") from error

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the bell is rung, at most ``timeout_s`` seconds.

        One thread waits at a time. Signals are handled meanwhile; they do not end the wait unless their handler raises.

        Returns:
            True when a ring was taken, False at the deadline.

        Raises:
            DoorbellLost: this end was closed.
        """
        # Under the GIL either this sees the closing, or ``close`` sees this wait and leaves the semaphore to it.
        self._waiting = True
        try:
            return self._wait(timeout_s)
        finally:
            self._waiting = False
            if self._closed:
                self._give_back()

    def _wait(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while True:
            if self._closed:
                raise DoorbellLost(f"doorbell {self.name} is closed")
            if not posix_ipc.SEMAPHORE_TIMEOUT_SUPPORTED and timeout_s > 0:
                return self._poll(deadline)
            try:
                self._acquire(max(timeout_s, 0))
            except posix_ipc.BusyError:
                return False
            except posix_ipc.SignalError:
                timeout_s = deadline - time.monotonic()
                if timeout_s <= 0:
                    return False
            except (posix_ipc.Error, OSError, ValueError) as error:
                raise DoorbellLost(f"doorbell {self.name} cannot be waited for: {error}") from error
            else:
                if self._closed:
                    raise DoorbellLost(f"doorbell {self.name} is closed")
                return True

    def _poll(self, deadline: float) -> bool:
        """Wait where the system cannot wait with a deadline (macOS): try, and pause in between."""
        pauses = Pauses()
        while not self._wait(0):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            pauses.sleep(left)
        return True

    def drain(self) -> int:
        """Take all rings that have piled up, at most 4096, and return their number."""
        taken = 0
        while taken < 4096 and self.wait(0):
            taken += 1
        return taken

    def close(self) -> None:
        """Give this end back. Idempotent, also while a thread waits. The semaphore lives until unlinked and closed."""
        if not self._closed:
            self._closed = True
            if self._waiting:
                # Unmapping it under the waiter would crash the process: wake it, and let it close behind itself.
                self._semaphore.release()
            else:
                self._give_back()

    def _give_back(self) -> None:
        if not self._given_back:
            self._given_back = True
            self._semaphore.close()

    def unlink(self) -> None:
        """Remove the name. Idempotent; those who have the bell open keep it."""
        try:
            posix_ipc.unlink_semaphore(self.name)
        except posix_ipc.ExistentialError:
            return  # gone already, which is what was wanted

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _share(name: str, group: int) -> None:
    """Let a group open a semaphore: the owner first, so that at no time another group may."""
    fd = os.open(_SHM / f"sem.{name[1:]}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(fd, -1, group)
        os.fchmod(fd, 0o660)
    finally:
        os.close(fd)


def sweep(prefix: str) -> list[str]:
    """Unlink the doorbells that an earlier boot left behind.

    Args:
        prefix: ``/weftos-<instance tag>-``; nothing else is touched. It must be long enough to be ours.

    Returns:
        The names removed. Always empty where names cannot be listed (macOS).
    """
    assert prefix.startswith("/weftos-"), "only our own names are swept"
    assert len(prefix) > len("/weftos-"), "the prefix names an instance"
    removed: list[str] = []
    if not _SHM.is_dir():
        return removed
    for entry in sorted(os.listdir(_SHM)):
        if entry.startswith("sem." + prefix[1:]):
            name = "/" + entry[len("sem.") :]
            try:
                posix_ipc.unlink_semaphore(name)
            except posix_ipc.ExistentialError:
                continue  # another sweep was faster
            removed.append(name)
    return removed
