"""Whether an index beside a log is of that log, and whether the log could make it again.

Why it is as it is: an index that is lost is made again from the first record on. If that was pruned, an index made
from the rest would take keys that were used for new ones. So there is none then, and whoever needs it is told why.
"""

from __future__ import annotations

import os

from weftos.chain.folder.locate import known_record
from weftos.chain.folder.reader import list_segments
from weftos.errors import RecordPruned

__all__ = ["check_whole", "knows"]


def knows(directory: str, seq: int, digest: bytes) -> bool:
    """Whether the log has, or had, this record.

    Args:
        directory: of the log.
        seq: number of the record.
        digest: its hash, 32 bytes.

    Raises:
        ChainError: the log cannot be read.
    """
    listing = list_segments(os.path.abspath(directory))
    if listing.pruned is not None and seq < listing.first_seq:
        # The index was on the disk up to the end of what was pruned, before it was.
        return seq == listing.first_seq - 1 and digest == listing.pruned.head_hash
    return known_record(directory, seq, digest) is not None


def check_whole(path: str, directory: str, problem: str) -> None:
    """Refuse to make an index anew from a log whose beginning is gone: it would take known keys for new ones.

    Args:
        path: of the index.
        directory: of the log.
        problem: why the index cannot be used.

    Raises:
        RecordPruned: it is gone.
    """
    first = list_segments(os.path.abspath(directory)).first_seq
    if first:
        raise RecordPruned(
            f"the index of the log, {path}, cannot be used ({problem}), and cannot be made again: the records before "
            f"{first} were pruned. Put the index back, or the whole log with `weaver chain restore`"
        )
