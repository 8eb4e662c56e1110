"""Which segments are archived and pruned: the rules, what they come to, and doing it.

Why it is as it is: an audit log is kept because somebody may ask. So rules say what is kept, and what any of them keeps
stays; a segment goes when no rule wants it any more. Without a rule nothing goes. And nothing goes that was not
archived, unless the configuration says in so many words that there is to be no archive.

Guaranteed: the open segment and the newest closed one always stay, and everything that no checkpoint covers, or whose
records somebody still needs (``keep_from``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from weftos.chain.folder.archive import archived_header, archived_numbers
from weftos.chain.folder.closed import Closed, closed_segments
from weftos.chain.folder.reader import list_segments, segment_header, tail
from weftos.chain.folder.segments import Listing, archive_path
from weftos.chain.records.record import Ack
from weftos.chain.retention.archiving import Archiving
from weftos.chain.retention.pruning import Pruning
from weftos.chain.retention.steps import Step
from weftos.disk.files import ReadFile
from weftos.errors import ChainError

if TYPE_CHECKING:
    from weftos.chain.writing.writer import ChainWriter

__all__ = [
    "Plan",
    "RetentionPolicy",
    "SegmentRow",
    "archive_segments",
    "carry_out",
    "is_archived",
    "plan",
    "prune_segments",
    "segment_rows",
    "to_archive",
]

State: TypeAlias = Literal["live", "archived", "pruned"]
_DAY_NS: Final = 86_400 * 10**9


class RetentionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules; 0 is no rule.

    Attributes:
        keep_segments: the newest closed segments, so many of them.
        keep_days: segments with a record of the last so many days.
        keep_bytes: the newest segments, until they have so many bytes.
        archive: ``True``: archive every closed segment, and prune only what is archived. ``None``: prune only what was
            archived by hand. ``False``: prune without an archive.
        archive_dir: folder for archived segments; empty without one.
    """

    keep_segments: int = 0
    keep_days: float = 0
    keep_bytes: int = 0
    archive: bool | None = None
    archive_dir: str = ""

    @property
    def prunes(self) -> bool:
        """Whether there is any rule."""
        return bool(self.keep_segments or self.keep_days or self.keep_bytes)


class SegmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One segment of a log.

    Attributes:
        name: of its file.
        state: ``live``: here; ``archived``: here and in the archive; ``pruned``: not here.
        first_seq: number of its first record.
        records: in it.
        bytes: size of its file here; of a pruned one as it was.
        archive: path of its file in the archive; empty if it is not there, or out of reach.
        archive_bytes: size of that.
        open: it is still written to.
    """

    name: str
    state: State
    first_seq: int
    records: int
    bytes: int
    archive: str
    archive_bytes: int
    open: bool = False


class Plan(msgspec.Struct, frozen=True):
    """What would be done.

    Attributes:
        segments: that would be archived or pruned, oldest first.
        why_not: what keeps the next one; empty if nothing does.
    """

    segments: list[Closed]
    why_not: str = ""


def is_archived(archive: str, one: Closed) -> bool:
    """Whether a segment is in an archive; its content is not looked at."""
    path = archive_path(archive, one.number)
    if not archive or not os.path.lexists(path):
        return False
    try:
        header = archived_header(path)
    except (OSError, ChainError):
        return False  # whoever wants to rely on it will be told
    return (header.log_id, header.number) == (one.log_id, one.number)


def to_archive(directory: str, archive: str, covered: int) -> Plan:
    """Return the closed segments that can be archived and are not.

    Args:
        directory: of the log.
        archive: folder of the archive.
        covered: records that a checkpoint covers, cosigned if there are witnesses.

    Raises:
        ChainError: the log cannot be read.
    """
    todo = [one for one in _closed(list_segments(directory)) if not is_archived(archive, one)]
    ready = [one for one in todo if one.next_seq <= covered]
    return Plan(ready, _not_covered(todo[len(ready)], covered) if len(ready) < len(todo) else "")


def plan(
    directory: str, policy: RetentionPolicy, archive: str, covered: int, now_ns: int, keep_from: int | None = None
) -> Plan:
    """Return the segments that would be pruned.

    Args:
        directory: of the log.
        policy: the rules.
        archive: folder of the archive; empty without one.
        covered: as in ``to_archive``.
        now_ns: nanoseconds since 1970 UTC.
        keep_from: records from this number on are still needed; ``None`` if none are.

    Raises:
        ChainError: the log cannot be read.
    """
    if not policy.prunes:
        return Plan([], "no rule says what is to be kept: set keep_segments, keep_days or keep_bytes in [chain]")
    listing = list_segments(directory)
    closed = _closed(listing)
    newer = sum(one.size_bytes for one in closed) + os.path.getsize(listing.path(listing.segments[-1]))
    gone: list[Closed] = []
    for index, one in enumerate(closed):
        newer -= one.size_bytes
        reason = _kept_by(policy, one, len(closed) - index, newer, now_ns)
        if not reason and one.next_seq > covered:
            reason = _not_covered(one, covered)
        if not reason and keep_from is not None and one.next_seq > keep_from:
            reason = f"records from {keep_from} on are still needed, to rebuild what follows from them"
        if not reason and policy.archive is not False and not is_archived(archive, one):
            reason = f"segment {one.number:08d} is not archived"
        if reason:
            return Plan(gone, reason)
        gone.append(one)
    return Plan(gone)


def _kept_by(policy: RetentionPolicy, one: Closed, from_end: int, newer: int, now_ns: int) -> str:
    name = f"segment {one.number:08d}"
    if from_end <= max(policy.keep_segments, 1):
        return f"{name} is one of the newest {max(policy.keep_segments, 1)} that are closed"
    if policy.keep_days and now_ns - one.end_ns < policy.keep_days * _DAY_NS:
        return f"{name} is not {policy.keep_days:g} days old yet"
    if policy.keep_bytes and newer < policy.keep_bytes:
        return f"{name} belongs to the newest {policy.keep_bytes} bytes"
    return ""


def _not_covered(one: Closed, covered: int) -> str:
    return f"segment {one.number:08d} ends with record {one.next_seq - 1}, and a checkpoint covers {covered} records"


def _closed(listing: Listing) -> list[Closed]:
    try:
        return closed_segments(listing)
    except OSError as error:
        raise ChainError(f"the log cannot be read: {error}") from error


# --- doing it ---------------------------------------------------------------------------------------------------------


def carry_out(writer: ChainWriter, step: Step) -> Ack:
    """Do a step from beginning to end, in this thread.

    Returns:
        The place of its record.

    Raises:
        StorageFailed: the log has failed.
        ChainError, OSError: it cannot be done, or not to its end; see ``steps``.
    """
    try:
        step.prepare()
    except BaseException:
        step.give_up()
        raise
    ack = step.announce()
    if step.needs_checkpoint:
        writer.checkpoint()
    step.finish()
    step.end()
    return ack


def archive_segments(writer: ChainWriter, segments: Sequence[Closed]) -> list[Ack]:
    """Archive segments one after the other, in this thread; errors as for ``carry_out``.

    Returns:
        The places of their records.
    """
    return [carry_out(writer, Archiving(writer, one)) for one in segments]


def prune_segments(writer: ChainWriter, segments: Sequence[Closed], *, archived: bool) -> Ack:
    """Prune segments in one act, in this thread; errors as for ``carry_out``.

    Args:
        writer: of the log.
        segments: the oldest ones of a plan.
        archived: they must be in the archive.
    """
    return carry_out(writer, Pruning(writer, list(segments), archived=archived))


# --- showing ----------------------------------------------------------------------------------------------------------


def segment_rows(directory: str, archive: str) -> list[SegmentRow]:
    """Return all segments that a log ever had, oldest first.

    Args:
        directory: of the log.
        archive: folder of the archive; it may be missing.

    Raises:
        ChainError: the log or the archive cannot be read.
        ChainCorrupted: a segment does not begin as a segment does.
    """
    listing = list_segments(os.path.abspath(directory))
    try:
        there = set(archived_numbers(archive)) if archive else set()
        rows = _pruned_rows(listing, archive, there)
        for one in closed_segments(listing):
            kept = one.number in there and is_archived(archive, one)
            path = archive_path(archive, one.number) if kept else ""
            rows.append(
                SegmentRow(
                    name=f"{one.number:08d}.log",
                    state="archived" if kept else "live",
                    first_seq=one.first_seq,
                    records=one.next_seq - one.first_seq,
                    bytes=one.size_bytes,
                    archive=path,
                    archive_bytes=os.path.getsize(path) if kept else 0,
                )
            )
        last = listing.path(listing.segments[-1])
        with ReadFile(last) as file:
            first = segment_header(file).first_seq
        newest = tail(directory, 1)
        count = newest[0].seq + 1 - first if newest else 0
        rows.append(
            SegmentRow(
                name=os.path.basename(last),
                state="live",
                first_seq=first,
                records=max(count, 0),
                bytes=os.path.getsize(last),
                archive="",
                archive_bytes=0,
                open=True,
            )
        )
    except OSError as error:
        raise ChainError(f"the segments of the log cannot be listed: {error}") from error
    return rows


def _pruned_rows(listing: Listing, archive: str, there: set[int]) -> list[SegmentRow]:
    rows = []
    for act in listing.pruned.acts if listing.pruned is not None else ():
        starts = [*act.first_seqs, act.size]
        for at, size in enumerate(act.sizes):
            number = act.first_segment + at
            path = archive_path(archive, number) if number in there else ""
            rows.append(
                SegmentRow(
                    name=f"{number:08d}.log",
                    state="pruned",
                    first_seq=starts[at],
                    records=starts[at + 1] - starts[at],
                    bytes=size,
                    archive=path,
                    archive_bytes=os.path.getsize(path) if path else 0,
                )
            )
    return rows
