"""What an agent asks of the log beyond appending, as calls of ``ServiceClient``: lineage, and pages of raw records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TypeVar, cast

from weftos import limits
from weftos.chain.folder.pages import Page, RawRecord
from weftos.chain.statements.lineage import DerivationType
from weftos.service import protocol as p
from weftos.service.paging import one_page

__all__ = ["LogCalls"]

R = TypeVar("R")


class LogCalls(ABC):
    """The calls; whoever has them knows how to ask."""

    @abstractmethod
    def ask(self, request: p.Request, kind: type[R], timeout_s: float) -> R:
        """Send a request and wait for its answer, which is of that kind."""

    def derive(
        self,
        child: str,
        child_hash: bytes,
        parent: str | None = None,
        parent_hash: bytes | None = None,
        type: DerivationType = "user",  # noqa: A002 - the name on the log
        mutations: int = 0,
        description: str = "",
        *,
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> p.Appended:
        """Put on the log from what something was made, and wait until it is on the disk.

        Args:
            child: name of what was made; yours, so the log names it with this agent's scope in front and ``#`` between:
                ``model-2`` of the agent ``trainer`` is ``trainer#model-2``.
            child_hash: of its content, 32 bytes.
            parent: name of what it was made from: one of yours, or a full one of another's; ``None`` for an origin.
            parent_hash: of the parent's content, 32 bytes; ``None`` for an origin.
            type: how it was made. A ``merge`` is recorded once for each of its parents.
            mutations: changes made on the way, as you count them.
            description: for a reader; it stays on the log for good.
            timeout_s: in seconds.

        Raises:
            LineageRefused: the child is recorded already, or the parent is not, or with another hash.
            AppendRefused: a field does not have its form.
            StorageFailed, ServiceUnavailable, RingFull, MessageTooLarge: as for ``append``.
        """
        request = p.Derive(child, child_hash, parent, parent_hash, type, mutations, description)
        return self.ask(request, p.Appended, timeout_s)

    def page(
        self,
        seq: int,
        max_records: int = limits.CHAIN_PAGE_RECORDS,
        max_bytes: int = limits.CHAIN_PAGE_BYTES,
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> Page:
        """Return raw records from a number on, without a gap, and the newest checkpoint; see ``chain.pages``."""
        asking = one_page(seq, max_records, max_bytes)
        request = next(asking)
        while True:
            try:
                request = asking.send(self.ask(request, p.RawPage, timeout_s))
            except StopIteration as done:
                return cast("Page", done.value)

    def tail_from(self, seq: int) -> Iterator[RawRecord]:
        """Yield every record from a number on, up to the present end; ask again behind the last for later ones."""
        while records := self.page(seq).records:
            yield from records
            seq += len(records)
