"""Parameters and results of the methods that archive and prune the log."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from weftos import limits

__all__ = ["ArchiveParams", "PruneParams", "RetentionRules", "RetentionStatus", "SegmentPlan", "SegmentRange"]

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=limits.CONFIG_MAX)]
_Days: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=36_500)]


class ArchiveParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to archive.

    Attributes:
        dry_run: only say what would be archived.
    """

    dry_run: bool = False


class PruneParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to prune. If any of the rules is given, those that are configured do not count this time.

    Attributes:
        dry_run: only say what would be pruned.
        keep_segments: the newest closed segments that stay; 0 is no rule.
        keep_days: segments with a record of the last so many days stay; 0 is no rule.
        keep_bytes: the newest segments with together so many bytes stay; 0 is no rule.
    """

    dry_run: bool = False
    keep_segments: _Count = 0
    keep_days: _Days = 0
    keep_bytes: _Count = 0


class SegmentRange(msgspec.Struct, frozen=True, kw_only=True):
    """One segment that is to be archived or pruned.

    Attributes:
        number: of the segment.
        first_seq: number of its first record.
        records: in it.
        bytes: size of its file.
    """

    number: int
    first_seq: int
    records: int
    bytes: int


class SegmentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be archived or pruned.

    Attributes:
        segments: oldest first.
        why_not: what keeps the next segment; empty if nothing does.
        begun: the service has begun; ``chain.retention`` says how far it is.
    """

    segments: list[SegmentRange]
    why_not: str
    begun: bool


class RetentionRules(msgspec.Struct, frozen=True, kw_only=True):
    """What is configured.

    Attributes:
        keep_segments: see ``PruneParams``.
        keep_days: see ``PruneParams``.
        keep_bytes: see ``PruneParams``.
        archive: whether segments are archived by themselves, and pruned only then; null: pruned only if archived.
        archive_dir: folder of the archive.
    """

    keep_segments: int
    keep_days: float
    keep_bytes: int
    archive: bool | None
    archive_dir: str


class RetentionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the service is at.

    Attributes:
        state: what it is doing.
        job: what it was asked to do and has not finished: ``archive``, ``prune`` or empty.
        archived: segments archived since it started.
        pruned: segments pruned since it started.
        failure: what went wrong last; empty after a success.
        rules: what is configured.
    """

    state: Literal["idle", "looking", "archiving", "pruning"]
    job: str
    archived: int
    pruned: int
    failure: str
    rules: RetentionRules
