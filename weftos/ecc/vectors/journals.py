"""The journals of a store: closed ones, and the one that is written.

Why it is as it is: an order to build a segment names the files that its entries are in, and those must not change while
it is carried out. So the journal is closed when an order is given, and the next one begins; a closed one goes when no
collection needs it any more.

Guaranteed: the numbers of mutations go on without a gap from one journal to the next, or the opening fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

import msgspec

from weftos.disk.files import Files
from weftos.ecc.journal import Journal, read_closed, read_head
from weftos.ecc.vectors.changes import JOURNAL_KIND, Begin, Change, Commit, Create, Delete, Drop, Upsert, decode_change
from weftos.errors import JournalFailed, VectorsDamaged

__all__ = ["Journals", "journal_name", "journal_number"]

_NAME: Final = re.compile(r"journal-(\d{8})")
Apply = Callable[[Change], None]


def journal_name(number: int) -> str:
    """Return the name of a journal."""
    return f"journal-{number:08d}"


def journal_number(name: str) -> int | None:
    """Return the number of the journal that has this name, or None if none can have it."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


class Journals:
    """All journals from the first that is needed.

    Args:
        fs: the calls on files.
        folder: where they are.
        first: number of the first.
        fresh: whether nothing was ever written, so that there need not be a first one.
        apply: called with each change, in order.

    Raises:
        JournalDamaged: something that had been synced is not there any more.
        OSError: a call failed.
    """

    def __init__(self, fs: Files, folder: str, first: int, *, fresh: bool, apply: Apply) -> None:
        self._fs, self._folder, self._apply = fs, folder, apply
        self._expected = -1
        self._failed: OSError | None = None
        self.first = first
        present = sorted(
            number for number in map(journal_number, os.listdir(folder)) if number is not None and number >= first
        )
        if not present and fresh:
            Journal.create(fs, self._path(first), JOURNAL_KIND, first).close()
            present = [first]
        if present != list(range(first, first + len(present))) or not present:
            raise VectorsDamaged(f"{folder}: of the journals from {first} on there are {present}; restore the others")
        self.current = present[-1]
        self._closed_bytes: dict[int, int] = {}
        for number in present[:-1]:
            self._head(number)
            for content in read_closed(self._path(number), JOURNAL_KIND):
                self._replay(number, content)
            self._closed_bytes[number] = os.stat(self._path(number)).st_size
        self._head(self.current)
        self._begun = False
        self._journal = Journal.open(fs, self._path(self.current), JOURNAL_KIND, self._replay_current)

    @property
    def next_op(self) -> int:
        """Number of the mutation that comes next, as the journals say; -1 if they do not."""
        return self._expected

    @property
    def size(self) -> int:
        """Bytes of all journals."""
        return sum(self._closed_bytes.values()) + self._journal.size

    @property
    def count(self) -> int:
        """How many there are."""
        return self.current - self.first + 1

    def closed_names(self) -> list[str]:
        """Return the names of those that are not written any more."""
        return [journal_name(number) for number in sorted(self._closed_bytes)]

    def begin(self, next_op: int) -> None:
        """Write what each journal begins with, if it is not there.

        Raises:
            JournalFailed: it did not work.
        """
        if not self._begun:
            self._journal.append(msgspec.msgpack.encode(Begin(self.current, next_op)))
            self._begun = True

    def append(self, change: Change) -> None:
        """Add a change; it is in memory until :meth:`sync`.

        Raises:
            JournalFailed: an earlier call failed, or the change is too large.
        """
        self.check()
        self._journal.append(msgspec.msgpack.encode(change))

    def sync(self) -> None:
        """Bring all changes onto the disk.

        Raises:
            JournalFailed: it did not work; open the store again.
        """
        self.check()
        self._journal.sync()

    def begin_sync(self) -> Callable[[], None] | None:
        """As ``Journal.begin_sync``; only the journal that is written can have something to bring."""
        self.check()
        return self._journal.begin_sync()

    def finish_sync(self) -> None:
        """As ``Journal.finish_sync``."""
        self._journal.finish_sync()

    def rotate(self, next_op: int) -> None:
        """Close the journal that is written, and begin the next.

        Raises:
            JournalFailed: it did not work; open the store again.
        """
        self.sync()
        number = self.current + 1
        try:
            fresh = Journal.create(self._fs, self._path(number), JOURNAL_KIND, number)
        except OSError as error:
            self.fail(error)
            raise JournalFailed(f"{self._path(number)}: {error.strerror}; open the store again") from error
        self._closed_bytes[self.current] = self._journal.size
        self._journal.close()
        self._journal, self.current, self._begun = fresh, number, False
        self.begin(next_op)
        self.sync()

    def drop_before(self, number: int) -> None:
        """Remove the journals below ``number``, which no manifest needs any more.

        Raises:
            OSError: a call failed; those that are left are removed by the next start.
        """
        self.first = number
        for old in [one for one in self._closed_bytes if one < number]:
            del self._closed_bytes[old]
            self._fs.unlink(self._path(old))

    def fail(self, error: OSError) -> None:
        """Take nothing more: what is on disk is not known any more."""
        self._failed = error

    def check(self) -> None:
        """Raise ``JournalFailed`` if something failed before."""
        if self._failed is not None:
            raise JournalFailed(f"{self._folder}: failed before ({self._failed.strerror}); open the store again")

    def close(self) -> None:
        """Close the file; what was not synced is dropped."""
        self._journal.close()

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, journal_name(number))

    def _head(self, number: int) -> None:
        path = self._path(number)
        if read_head(path, JOURNAL_KIND).generation != number:
            raise VectorsDamaged(f"{path} is another journal than its name says; restore it from a copy")

    def _replay_current(self, content: bytes) -> None:
        self._begun = True
        self._replay(self.current, content)

    def _replay(self, number: int, content: bytes) -> None:
        path = self._path(number)
        change = decode_change(content, path)
        if isinstance(change, Begin):
            if change.number != number or self._expected not in (-1, change.op):
                raise VectorsDamaged(f"{path} begins with mutation {change.op}, not {self._expected}; restore it")
            self._expected = change.op
            return
        count = _mutations(change)
        if self._expected == -1 or (not isinstance(change, Commit) and change.op != self._expected):
            raise VectorsDamaged(f"{path}: mutation {self._expected} is not where it belongs; restore the file")
        self._expected += count
        self._apply(change)


def _mutations(change: Change) -> int:
    """How many mutations a record is."""
    match change:
        case Upsert() | Delete():
            return len(change.ids)
        case Create() | Drop():
            return 1
        case Begin() | Commit():
            return 0
