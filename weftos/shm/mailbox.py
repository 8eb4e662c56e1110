"""Mailboxes: one page per agent that says which of its incoming rings have something, and whether it sleeps.

Why it is as it is: an agent may have thousands of incoming rings; looking at each of them to find the one that has a
message would cost more than the message. A sender sets one byte, the owner finds it with one search. And ringing a bell
is a system call, so a sender does it only when the owner has said that it sleeps.

    sender                                   owner
    ──────                                   ─────
    write record, publish HEAD               arm: SLEEP = 1
    READY[slot] = 1                          full fence (membarrier)
    SLEEP set? clear it, ring the bell       look at READY once more; nothing: wait for the bell

Guaranteed: a registered sender's message is never slept through (``fence.mode()`` says whether that is by fence or
within ``limits.WAIT_SLICE_S``). Not guaranteed: that a ready byte means a message. Every sender can write the whole
page, so bytes and flags are hints: a wrong one costs a look, a cleared one is found by the caller's sweep of its rings.
"""

from __future__ import annotations

import mmap
import struct
import time
import zlib
from collections.abc import Callable
from typing import Final

import msgspec

from weftos import limits
from weftos.errors import SegmentInvalid
from weftos.shm import fence
from weftos.shm.doorbell import Doorbell
from weftos.shm.segment import Segment
from weftos.shm.spin import Patience

__all__ = ["Mailbox", "MailboxPeer", "MailboxStatistics", "Notifier", "create_mailbox"]

MAGIC: Final = b"WEFTMAIL"
VERSION: Final = 1
PAGE_BYTES: Final = 4096
STATIC: Final = struct.Struct("<8sIIQ")  # magic, version, generation, owner pid; a CRC-32 follows
SLEEP: Final = 64 // 8  # owner sets, sender clears
LIVENESS: Final = 128 // 8  # owner counts up; the kernel reads
HANDLING: Final = 136 // 8  # owner: id of the message in its handler plus 1; 0 is none
READY: Final = PAGE_BYTES - limits.MAILBOX_SLOTS  # one byte per slot; sender sets, owner clears


class MailboxStatistics(msgspec.Struct, frozen=True):
    """Counters of a mailbox's owner.

    Attributes:
        waits: times that the owner waited.
        sleeps: waits that went as far as the doorbell.
        spin_hits: waits that spinning ended.
        spin_misses: spins in vain.
        liveness: the liveness word.
    """

    waits: int
    sleeps: int
    spin_hits: int
    spin_misses: int
    liveness: int


def create_mailbox(*, owner_pid: int = 0, generation: int = 1) -> Segment:
    """Make the page of a mailbox.

    Args:
        owner_pid: kernel pid of the agent, for the reader of a dump; not used as authority.
        generation: incarnation number of the mailbox.

    Raises:
        SharedMemoryError: the system refuses.
    """
    segment = Segment.create(PAGE_BYTES, label=f"weftos-mailbox-{owner_pid}")
    static = STATIC.pack(MAGIC, VERSION, generation, owner_pid)
    segment.map[: STATIC.size + 4] = static + zlib.crc32(static).to_bytes(4, "little")
    return segment


def _check(segment: Segment) -> tuple[int, int]:
    raw = bytes(segment.map[: STATIC.size + 4])
    magic, version, generation, owner = STATIC.unpack_from(raw)
    if magic != MAGIC or version != VERSION:
        raise SegmentInvalid("the segment holds no mailbox of format 1")
    if int.from_bytes(raw[STATIC.size :], "little") != zlib.crc32(raw[: STATIC.size]):
        raise SegmentInvalid("the mailbox's static header does not match its checksum")
    return owner, generation


class Mailbox:
    """The owner's side.

    Args:
        segment: made by ``create_mailbox``.
        doorbell: the owner's.
        spin: whether spinning is allowed; by default when there is more than one CPU.
        spin_s: how long it spins before it sleeps, in seconds.

    Attributes:
        owner_pid: kernel pid from the header.
        generation: from the header.

    Raises:
        SegmentInvalid: the segment holds no mailbox.
    """

    __slots__ = (
        "_doorbell",
        "_find",
        "_liveness",
        "_map",
        "_patience",
        "_sleeps",
        "_slice",
        "_waits",
        "_words",
        "generation",
        "owner_pid",
        "segment",
    )

    def __init__(
        self, segment: Segment, doorbell: Doorbell, *, spin: bool | None = None, spin_s: float = limits.SPIN_S
    ) -> None:
        fence.register()
        self.owner_pid, self.generation = _check(segment)
        self.segment = segment
        self._doorbell = doorbell
        self._map, self._words, self._find = segment.map, segment.words, segment.map.find
        self._patience = Patience(allowed=spin, spin_s=spin_s)
        self._liveness = self._words[LIVENESS]
        self._waits = self._sleeps = 0
        self._slice = limits.WAIT_SLICE_FENCED_S if fence.mode() == "membarrier" else limits.WAIT_SLICE_S

    def next_ready(self) -> int | None:
        """Return a slot whose ready byte is set, having cleared it; None when there is none.

        Clear first, then read the ring: what is published after the clearing sets the byte again. Slot 0 is found
        first.
        """
        at = self._find(b"\x01", READY, PAGE_BYTES)
        if at < 0:
            return None
        self._map[at] = 0
        return at - READY

    def any_ready(self) -> bool:
        """Whether a ready byte is set."""
        return self._find(b"\x01", READY, PAGE_BYTES) >= 0

    def mark(self, slot: int) -> None:
        """Set a ready byte oneself: the ring of this slot was not read to its end."""
        assert 0 <= slot < limits.MAILBOX_SLOTS, "a slot of this page"
        self._map[READY + slot] = 1

    def arm(self) -> None:
        """Say that the owner sleeps, with a full fence behind it. Look for work once more before sleeping."""
        self._words[SLEEP] = 1
        fence.full_fence()

    def disarm(self) -> None:
        """Say that the owner is awake."""
        self._words[SLEEP] = 0

    def beat(self) -> None:
        """Count the liveness word up: the owner's loop goes round."""
        self._liveness = (self._liveness + 1) & ((1 << 64) - 1)
        self._words[LIVENESS] = self._liveness

    def handling(self, mark: int) -> None:
        """Leave word of what is being handled, for the exit record: a message id plus 1, 0 for nothing."""
        self._words[HANDLING] = mark

    def wait(self, timeout_s: float | None, has_work: Callable[[], bool] | None = None, *, spin: bool = True) -> bool:
        """Wait until a ready byte is set or ``has_work()``.

        Spins first where that pays, then sleeps on the doorbell in slices (``limits.WAIT_SLICE_FENCED_S``, or
        ``WAIT_SLICE_S`` where no fence is in force).

        Args:
            timeout_s: seconds; None waits for ever.
            has_work: looked at in addition to the ready bytes, which may have been cleared by anyone.
            spin: False goes to sleep at once; for a thread beside others of the same process.

        Returns:
            True when there is something to look at, False at the deadline.

        Raises:
            DoorbellLost: the doorbell was closed.
        """
        find = self._find

        def ready() -> bool:
            return (has_work is not None and has_work()) or find(b"\x01", READY, PAGE_BYTES) >= 0

        now = time.monotonic
        deadline = float("inf") if timeout_s is None else now() + timeout_s
        self._waits += 1
        if self._patience.spin(ready, deadline) if spin else ready():
            return True
        bell = self._doorbell.wait
        slept = False
        try:
            while True:
                self.arm()
                if ready():
                    return True
                left = deadline - now()
                if left <= 0:
                    return False
                if not slept:
                    slept = True
                    self._sleeps += 1
                bell(min(left, self._slice))
        finally:
            self.disarm()

    def statistics(self) -> MailboxStatistics:
        """Return the counters."""
        return MailboxStatistics(self._waits, self._sleeps, self._patience.hits, self._patience.misses, self._liveness)


class Notifier:
    """Marks a ring as ready in its reader's page, and rings if the reader sleeps. Call it after each publication.

    Its parts are public because a producer's hot path does the same in line and calls only to wake a sleeper.

    Args:
        page: the reader's page.
        at: index of the ring's ready byte in it.
        words: the page as 8-byte words.
        post: rings.

    Attributes:
        page, at, words: as given.
        sleep: index of the word that is not 0 while the reader sleeps.
    """

    __slots__ = ("_barrier", "_post", "at", "page", "sleep", "words")

    def __init__(self, page: mmap.mmap, at: int, words: memoryview, post: Callable[[], None]) -> None:
        self.page, self.at, self.words, self.sleep, self._post = page, at, words, SLEEP, post
        self._barrier = fence.publish_fence

    def __call__(self) -> None:
        """Do it."""
        if self._barrier is not None:
            self._barrier()
        self.page[self.at] = 1
        if self.words[self.sleep]:
            self.words[self.sleep] = 0
            self._post()


class MailboxPeer:
    """The senders' side, also used by the kernel to look.

    Args:
        segment: the mailbox's page.
        doorbell: the owner's, opened by name.

    Raises:
        SegmentInvalid: the segment holds no mailbox.
    """

    __slots__ = ("_doorbell", "generation", "owner_pid", "segment")

    def __init__(self, segment: Segment, doorbell: Doorbell) -> None:
        fence.register()
        self.owner_pid, self.generation = _check(segment)
        self.segment = segment
        self._doorbell = doorbell

    def notifier(self, slot: int) -> Notifier:
        """Build what a producer calls after each publication.

        Args:
            slot: the ring's, 1 to ``limits.MAILBOX_SLOTS`` - 1; 0 is the kernel's control.
        """
        assert 0 <= slot < limits.MAILBOX_SLOTS, "a slot of this page"
        return Notifier(self.segment.map, READY + slot, self.segment.words, self._doorbell.post)

    @property
    def liveness(self) -> int:
        """The owner's liveness word; it changes as long as the owner's loop goes round."""
        return self.segment.words[LIVENESS]

    @property
    def handling(self) -> int | None:
        """Id of the message in the owner's handler, if it left word of one."""
        mark = self.segment.words[HANDLING]
        return mark - 1 if mark else None

    @property
    def asleep(self) -> bool:
        """Whether the owner says that it sleeps."""
        return self.segment.words[SLEEP] != 0
