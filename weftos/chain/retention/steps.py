"""The shape that archiving and pruning share: slow work beside the writer, a record by the writer, the effect after it.

    prepare   any thread   look at everything, write what is needed; nothing that counts has changed
    announce  writer       the record, on the disk
    (the checkpoint that covers it, if the step asks for that)
    finish    any thread   the effect; may be repeated
    end       writer       takes note

Why it is as it is: a segment takes a second or two to read and pack, during which the writer could take ten thousand
records. So only the middle, a record and a small file, belongs to the writer.
"""

from __future__ import annotations

import threading
from typing import Protocol

from weftos.chain.records.record import Ack
from weftos.errors import ArchiveFailed

__all__ = ["Step", "Stopped", "Stopping"]


class Stopped(ArchiveFailed):
    """Somebody asked for an end before anything was announced."""


class Stopping:
    """Lets another thread break off ``prepare``."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Ask for an end."""
        self._asked.set()

    def look(self) -> None:
        """Go on, or not.

        Raises:
            Stopped: somebody asked for an end.
        """
        if self._asked.is_set():
            raise Stopped("broken off, because something else has to come first; it begins again later")


class Step(Protocol):
    """Archiving of one segment, or one act of pruning.

    Attributes:
        stopping: to break off ``prepare``.
    """

    stopping: Stopping

    @property
    def needs_checkpoint(self) -> bool:
        """Whether ``finish`` must wait until a checkpoint covers the record."""

    def prepare(self) -> None:
        """See above. May run in any thread.

        Raises:
            OSError, ChainError: it cannot be done; nothing has changed.
        """

    def announce(self) -> Ack:
        """Put the record on the log and the disk; for the writer's thread.

        Raises:
            StorageFailed: the log has failed.
            OSError: a file cannot be written; nothing has changed.
        """

    def finish(self) -> None:
        """Do what was announced. May run in any thread.

        Raises:
            OSError: it is not done, or not all of it; the next opening of the log goes on.
        """

    def end(self) -> None:
        """Take note that it is done; for the writer's thread."""

    def give_up(self) -> None:
        """Remove what ``prepare`` made, which will not be announced.

        Raises:
            OSError: it cannot be removed.
        """
