"""Signs checkpoints and brings them onto the disk beside the service's loop.

Why it is as it is: two signatures and four syncs take some ten milliseconds, once a second. In the loop everybody's
append would wait for them; in a thread they mostly run in C, without the interpreter's lock. There is never more than
one checkpoint under way. A seal of what the checkpoint covers takes as many syncs, and is made behind it.
"""

from __future__ import annotations

import threading

from weftos.chain.checkpointing import PendingCheckpoint
from weftos.errors import ChainError
from weftos.service.sealing import SealJob
from weftos.service.witnesses import Witnesses

__all__ = ["CheckpointThread", "write_cosigned"]


def write_cosigned(pending: PendingCheckpoint, witnesses: Witnesses) -> None:
    """Sign a checkpoint, bring it onto the disk, and then let the witnesses sign it too.

    Raises:
        OSError, ChainError: it cannot be signed or written. That witnesses do not sign is no error.
    """
    pending.write()
    note, signed = witnesses.cosign(pending.checkpoint, pending.note)
    if signed:
        pending.add_cosignatures(note, signed)


class CheckpointThread:
    """One thread, made when it is first needed.

    Args:
        witnesses: are asked to cosign.

    Attributes:
        pending: what it is at, or ``None``.
    """

    def __init__(self, witnesses: Witnesses) -> None:
        self._witnesses = witnesses
        self.pending: PendingCheckpoint | None = None
        self._seal: SealJob | None = None
        self._failure: OSError | ChainError | None = None
        self._todo = threading.Semaphore(0)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._ending = False

    def start(self, pending: PendingCheckpoint, seal: SealJob | None = None) -> None:
        """Begin with a checkpoint; the one before has been collected.

        Args:
            pending: the checkpoint.
            seal: to be made when the checkpoint is on the disk, or ``None``.
        """
        assert self.pending is None, "one at a time"
        self.pending, self._seal = pending, seal
        self._done.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
            self._thread.start()
        self._todo.release()

    def collect(self, *, wait: bool = False) -> tuple[PendingCheckpoint, OSError | ChainError | None] | None:
        """Return the checkpoint that is done, with the error if it failed; ``None`` if none is.

        Args:
            wait: until the one under way is done.
        """
        if self.pending is None or not (self._done.is_set() or (wait and self._done.wait())):
            return None
        found, self.pending = self.pending, None
        return found, self._failure

    def close(self) -> None:
        """End the thread; what is under way is finished."""
        self._ending = True
        self._todo.release()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._todo.acquire()
            pending = self.pending
            if pending is None or self._done.is_set():
                if self._ending:
                    return
                continue
            self._failure = None
            try:
                write_cosigned(pending, self._witnesses)
                if self._seal is not None:
                    self._seal.run()
            except (OSError, ChainError) as error:
                self._failure = error
            self._done.set()
