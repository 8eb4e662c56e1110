"""Has segments of the vector index built beside the loop, and takes them in when they are done.

Why it is as it is: a merge of large segments takes minutes. What is written meanwhile is scanned at each search, so
when there is much of it a second builder makes a small segment of that.

Guaranteed: at most two segments are built at a time; one that fails leaves the index as it is, and is tried again
later, less often each time.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from weftos.ecc.vectors.orders import Sealed, SealOrder
from weftos.ecc.vectors.store import VectorStore
from weftos.errors import WeftError
from weftos.service.ecc_beside import Beside
from weftos.service.side_work import Job

__all__ = ["Sealing"]

log = logging.getLogger(__name__)

_RETRY_MAX_S: Final = 600.0
#: Shortest time between two looks whether something is to be built, in seconds: the loop goes round for every search,
#: and to look at all collections costs as much as a short one.
_LOOK_S: Final = 0.02
_BUILDERS: Final = 2


class Sealing:
    """See the head of this file. All methods are the loop's.

    Args:
        beside: builds.
    """

    def __init__(self, beside: Beside) -> None:
        self._beside = beside
        self._under_way = 0
        self._not_before = self._look_at = 0.0
        self._pause_s = 1.0
        self.built = self.failures = 0

    @property
    def busy(self) -> bool:
        """Whether a segment is being built."""
        return self._under_way > 0

    def turn(self, store: VectorStore) -> None:
        """Have built what is wanted.

        Raises:
            EccError: the store failed.
        """
        now = time.monotonic()
        if now < self._look_at and not store.compaction_asked:
            return
        self._look_at = now + _LOOK_S
        if self._under_way == _BUILDERS or self._beside.closing or now < self._not_before:
            return
        order = store.wanted(beside=self._under_way > 0)
        if order is not None:
            self._under_way += 1
            self._beside.begin(self._job(store, order), self._done)

    def _job(self, store: VectorStore, order: SealOrder) -> Job:
        try:
            sealed = yield lambda: self._beside.run("seal", order, Sealed)
            loaded = yield lambda: store.load(sealed)
        except WeftError:
            store.give_up(order)
            raise
        store.adopt(sealed, loaded)

    def _done(self, _result: object, error: WeftError | None) -> None:
        self._under_way -= 1
        if error is None:
            self.built += 1
            self._pause_s = 1.0
            return
        self.failures += 1
        if not self._beside.closing:
            log.warning("a segment of the vector index was not built: %s; tried again in %.0f s", error, self._pause_s)
        self._not_before = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _RETRY_MAX_S)
