"""The directory of a log: which files belong to it, and what it means if they do not look as expected.

Why it is as it is: a directory with no log in it may be new, somebody else's, or a log whose files were removed. The
first is begun, the second left alone, the third reported; so they are told apart before anything is written.

    NNNNNNNN.log        segments, from 00000001, without a gap; the oldest may have been pruned
    pruned              where the log begins now, and what was kept of what lay before; absent if nothing was pruned
    pruned.next         likewise, of a pruning that is not finished
    checkpoint          how far the log has come, signed
    tile/               the Merkle tree and its entries, for those who verify parts; made again from the segments
    archived            which of the segments are in the archive too
    torn-SEQ-N.bin      bytes of unfinished writes that were set aside; SEQ is the record that says so
    *.tmp               left over by a crash while one of these was made; removed when the log is opened
"""

from __future__ import annotations

import os
import re
from typing import Final, NoReturn

import msgspec

from weftos.chain.statements.pruned_file import NEXT_NAME, PRUNED_NAME, Pruned, read_pruned
from weftos.errors import ChainCorrupted, ChainError

__all__ = [
    "ARCHIVED_NAME",
    "CHECKPOINT_NAME",
    "TILES_NAME",
    "Listing",
    "archive_path",
    "corrupted",
    "list_log",
    "segment_path",
]

CHECKPOINT_NAME: Final = "checkpoint"
TILES_NAME: Final = "tile"
#: Numbers of the segments that are here and in the archive too, one a line.
ARCHIVED_NAME: Final = "archived"
#: What version 0.1 had in place of a checkpoint.
_OLD_HEAD: Final = "head.json"
_SEGMENT = re.compile(r"([0-9]{8})\.log")
_TORN = re.compile(r"torn-([0-9]+)-([0-9]+)\.bin")
_TEMPORARY = re.compile(r"(?:[0-9]{8}\.log|checkpoint|archived|pruned(?:\.next)?|torn-[0-9]+-[0-9]+\.bin)\.tmp")


class Listing(msgspec.Struct):
    """What lies in a directory.

    Attributes:
        directory: its path.
        segments: numbers of the segment files, ascending.
        torn: (seq, n, name) of the files that were set aside, ascending.
        temporary: names that a crash left over.
        checkpoint: whether there is a checkpoint.
        foreign: all other names, ascending.
        pruned: where the log begins, if its beginning was pruned.
        leftover: numbers of segment files that lie before that, which is where a crash came between two removals.
        announced: there is a pruning that was not finished.
        archive: folder in which the pruned segments are looked for; empty if they are not.
    """

    directory: str
    segments: list[int]
    torn: list[tuple[int, int, str]]
    temporary: list[str]
    checkpoint: bool
    foreign: list[str]
    pruned: Pruned | None = None
    leftover: list[int] = []
    announced: bool = False
    archive: str = ""

    def path(self, number: int) -> str:
        """Return the path of a segment."""
        if self.archive and self.pruned is not None and number <= self.pruned.segment:
            return archive_path(self.archive, number)
        return segment_path(self.directory, number)

    @property
    def first_number(self) -> int:
        """Number of the segment that the log begins with."""
        return 1 if self.pruned is None or self.archive else self.pruned.segment + 1

    @property
    def first_seq(self) -> int:
        """Number of the record that the log begins with."""
        return 0 if self.pruned is None or self.archive else self.pruned.size

    def with_archive(self, archive: str) -> Listing:
        """Return the same with the pruned segments as they lie in an archive.

        Raises:
            ChainError: the archive cannot be read.
        """
        if self.pruned is None:
            return self
        try:
            names = set(os.listdir(archive))
        except OSError as error:
            raise ChainError(f"the archive cannot be read: {error}") from error
        numbers = range(1, self.pruned.segment + 1)
        there = [n for n in numbers if os.path.basename(archive_path(archive, n)) in names]
        return msgspec.structs.replace(self, archive=archive, segments=there + self.segments)

    @property
    def missing(self) -> list[int]:
        """Numbers that lack between the first and the last segment; at most the first hundred."""
        have = set(self.segments)
        last = self.segments[-1] if self.segments else 0
        lacking = []
        for number in range(self.first_number, last):
            if number not in have:
                lacking.append(number)
                if len(lacking) == 100:
                    break
        return lacking

    def check_present(self) -> None:
        """Refuse a directory without a log that is not empty.

        Raises:
            ChainCorrupted: there are traces of a log, but no log.
            ChainError: it belongs to somebody else.
        """
        if self.segments:
            return
        if self.checkpoint or self.torn or self.pruned is not None:
            raise ChainCorrupted(f"the segments of the log in {self.directory} are gone", path=self.directory)
        if self.foreign:
            raise ChainError(
                f"{self.directory} holds no log, but other files, such as {self.foreign[0]!r}; "
                "give the log a directory of its own"
            )


def corrupted(path: str, offset: int, detail: str) -> NoReturn:
    """Raise ``ChainCorrupted``."""
    raise ChainCorrupted(f"{path}, offset {offset}: {detail}", path=path, offset=offset)


def segment_path(directory: str, number: int) -> str:
    """Return the path of a segment file."""
    return os.path.join(directory, f"{number:08d}.log")


def archive_path(folder: str, number: int) -> str:
    """Return the path of a segment in an archive."""
    return os.path.join(folder, f"{number:08d}.log.gz")


def list_log(directory: str) -> Listing:
    """Look what lies in a directory.

    Raises:
        FileNotFoundError: there is no such directory.
        ChainError: it cannot be read, or is none.
    """
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ChainError(f"the directory of the log cannot be read: {error}") from error
    listing = Listing(directory, [], [], [], False, [])
    for name in names:
        if (match := _SEGMENT.fullmatch(name)) and int(match[1]) > 0:
            listing.segments.append(int(match[1]))
        elif match := _TORN.fullmatch(name):
            listing.torn.append((int(match[1]), int(match[2]), name))
        elif _TEMPORARY.fullmatch(name):
            listing.temporary.append(name)
        elif name == CHECKPOINT_NAME:
            listing.checkpoint = True
        elif name == PRUNED_NAME:
            listing.pruned = _read_pruned(directory)
        elif name == NEXT_NAME:
            listing.announced = True
        elif name == _OLD_HEAD:
            raise ChainError(
                f"the log in {directory} was made by version 0.1, which signed it in another form: verify it with that "
                "version, and give this one a directory of its own"
            )
        elif name not in (TILES_NAME, ARCHIVED_NAME):
            listing.foreign.append(name)
    listing.torn.sort()
    if listing.pruned is not None:
        last = listing.pruned.segment
        listing.leftover = [number for number in listing.segments if number <= last]
        listing.segments = [number for number in listing.segments if number > last]
    return listing


def _read_pruned(directory: str) -> Pruned | None:
    try:
        return read_pruned(directory)
    except OSError as error:
        raise ChainError(f"what was pruned of the log cannot be read: {error}") from error
