"""Signs checkpoints and brings them onto the disk beside the service's loop.

Why it is as it is: two signatures and four syncs take some ten milliseconds, once a second. In the loop everybody's
append would wait for them; in a thread they mostly run in C, without the interpreter's lock. There is never more than
one checkpoint under way. A seal of what the checkpoint covers takes as many syncs, and is made behind it.
"""

from __future__ import annotations

from weftos.chain.writing.checkpointing import PendingCheckpoint
from weftos.errors import ChainError
from weftos.service.beside import Beside
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
        self._beside = Beside("checkpoints")

    def start(self, pending: PendingCheckpoint, seal: SealJob | None = None) -> None:
        """Begin with a checkpoint; the one before has been collected.

        Args:
            pending: the checkpoint.
            seal: to be made when the checkpoint is on the disk, or ``None``.
        """

        def work() -> None:
            write_cosigned(pending, self._witnesses)
            if seal is not None:
                seal.run()

        self._beside.start(work)
        self.pending = pending

    def collect(self, *, wait: bool = False) -> tuple[PendingCheckpoint, OSError | ChainError | None] | None:
        """Return the checkpoint that is done, with the error if it failed; ``None`` if none is.

        Args:
            wait: until the one under way is done.
        """
        if self.pending is None or not (wait or self._beside.is_done()):
            return None
        found, self.pending = self.pending, None
        try:
            self._beside.collect()
        except (OSError, ChainError) as error:
            return found, error
        return found, None

    def close(self) -> None:
        """End the thread; what is under way is finished."""
        self._beside.close()
