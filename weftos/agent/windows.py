"""Audit windows on their way to the chain: collected from the rings, sent several at a time, never waited for."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from weftos.service.client import ServiceClient
from weftos.service.protocol import AppendBatch, Event
from weftos.shm import Window

__all__ = ["WindowSender"]

#: Windows travel in batches of this size, and at least this often (seconds) while there are any.
_BATCH: Final = 32
_EVERY_S: Final = 1.0


class WindowSender:
    """Collects windows and commits them.

    Args:
        service: where they go.
    """

    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self._waiting: list[dict[str, Any]] = []
        self._sent_at = time.monotonic()

    def collect(self, windows: Iterable[Window], side: str) -> None:
        """Take windows of one end (``producer`` or ``consumer``) of a ring."""
        for window in windows:
            self._waiting.append(
                {
                    "ring": window.ring_id,
                    "side": side,
                    "from": window.start,
                    "to": window.end,
                    "count": window.count,
                    "bytes": window.bytes,
                    "digest": window.digest,
                    "complete": window.complete,
                }
            )

    def send(self, *, force: bool = False) -> None:
        """Hand a batch to the service if one is due; what finds no room waits for the next time."""
        if not self._waiting:
            return
        now = time.monotonic()
        if not force and len(self._waiting) < _BATCH and now - self._sent_at <= _EVERY_S:
            return
        batch = self._waiting[:_BATCH]
        if self._service.offer(AppendBatch([Event("ipc.window", payload) for payload in batch], durable=False)):
            del self._waiting[: len(batch)]
            self._sent_at = now

    def flush(self) -> None:
        """Send everything that finds room now."""
        before = -1
        while self._waiting and len(self._waiting) != before:
            before = len(self._waiting)
            self.send(force=True)
