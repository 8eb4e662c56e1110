"""Numbers of a log's writer."""

from __future__ import annotations

import msgspec

__all__ = ["ChainStatistics"]


class ChainStatistics(msgspec.Struct, frozen=True):
    """Numbers of a writer.

    Attributes:
        records: in the log, those not yet written included.
        appended: taken since opening.
        duplicates: answered from memory, because they were in the log already.
        buffered: taken and not yet written.
        bytes: of all segments, without what is buffered.
        segments: files.
        writes: groups written since opening.
        syncs: syncs since opening.
        mean_group: records per write, on average.
        largest_group: most records in one write.
        last_sync_seconds: duration of the last sync.
        remembered: positions in the idempotency index.
        failed: why nothing can be appended any more, or ``""``.
    """

    records: int
    appended: int
    duplicates: int
    buffered: int
    bytes: int
    segments: int
    writes: int
    syncs: int
    mean_group: float
    largest_group: int
    last_sync_seconds: float
    remembered: int
    failed: str
