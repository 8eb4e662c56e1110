"""Who is acting: the peer on whose request the running task works.

Why it is as it is: a record says who caused it, and the parts that write records know nothing of connections. So who
asked is bound to the task that serves the request, and to nothing that it starts: timers and callbacks outlive a
request, and what they do later is not the operator's doing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from weftos.events.registry import SCHEMAS
from weftos.kernel.peers import Peer

__all__ = ["Acting"]


class Acting:
    """Which task works for whom."""

    def __init__(self) -> None:
        self._peers: dict[asyncio.Task[Any], Peer] = {}

    @contextmanager
    def on_behalf(self, peer: Peer) -> Iterator[None]:
        """What the running task does meanwhile, it does for this peer."""
        task = asyncio.current_task()
        assert task is not None
        assert task not in self._peers, "a connection is served one request at a time"
        self._peers[task] = peer
        try:
            yield
        finally:
            del self._peers[task]

    def peer(self) -> Peer | None:
        """For whom the running task works; ``None`` if the kernel acts by itself."""
        task = asyncio.current_task() if self._peers else None
        return self._peers.get(task) if task is not None else None

    def by(self) -> str:
        """As ``peer``, as it stands on the log; ``kernel`` if the kernel acts by itself."""
        peer = self.peer()
        return peer.by if peer is not None else "kernel"

    def signed(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Return a payload with who caused it, if it is the operator and events of this kind say so."""
        if not self._peers or "by" in payload or (peer := self.peer()) is None:
            return payload
        schema = SCHEMAS.get(kind)
        return payload | {"by": peer.by} if schema is not None and "by" in schema.__struct_fields__ else payload
