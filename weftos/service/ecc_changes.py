"""What was changed in memory and by whom since the last record about it."""

from __future__ import annotations

import time
from collections import Counter

from weftos import limits

__all__ = ["Changes"]


class Changes:
    """Counts changes between two records.

    Attributes:
        stores: which were changed: ``vectors``, or ``causal:`` and the space.
        counts: what was changed.
        by: how many changes each source made.
        due: monotonic time at which a record has to vouch for them, in seconds; ``None`` if there are none.
    """

    def __init__(self) -> None:
        self.stores: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.by: Counter[str] = Counter()
        self.due: float | None = None

    def note(self, source: str, store: str, **counts: int) -> None:
        """Note a change.

        Args:
            source: who asked for it.
            store: that was changed.
            counts: what it was, as it stands in the record.
        """
        self.by[source] += 1
        self.counts.update({name: count for name, count in counts.items() if count})
        self.stores.add(store)
        if self.due is None:
            self.due = time.monotonic() + limits.ECC_COMMIT_S

    def clear(self) -> None:
        """A record vouches for all of them."""
        self.stores.clear()
        self.counts.clear()
        self.by.clear()
        self.due = None
