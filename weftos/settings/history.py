"""What became of each setting, added up from the log alone.

Guaranteed: the result depends on nothing but the records, in their order. A change that was announced and neither done
nor undone is shown as ``pending``: the kernel was killed in between and has not been started since.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from weftos.chain.records.record import Record

__all__ = ["Change", "History"]

_KINDS: Final = {"config.done": "done", "config.undone": "undone", "config.edited": "edited", "config.set": "pending"}


class Change(msgspec.Struct, kw_only=True):
    """One change of a setting.

    Attributes:
        seq: number of its record.
        timestamp: of that record, seconds since 1970.
        key: of the setting.
        old: value before; null is the default.
        new: value after.
        by: who wanted it; ``file`` if it was found in the file.
        state: ``done``, ``undone``, ``edited`` or ``pending``.
        effect: when it holds, if it is done.
        reason: why it was undone.
    """

    seq: int
    timestamp: float
    key: str
    old: Any
    new: Any
    by: str
    state: str
    effect: str = ""
    reason: str = ""


class History:
    """The sum over the records so far.

    Attributes:
        changes: oldest first.
        values: what the file sets, by key.
    """

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.values: dict[str, Any] = {}
        self._pending: Change | None = None

    def take(self, record: Record) -> None:
        """Add a record; they come in their order."""
        state = _KINDS.get(record.kind)
        if state is None or record.source != "kernel":
            return
        payload = record.payload
        if self._pending is not None and state in ("done", "undone"):
            self.changes.remove(self._pending)
            self._pending = None
        change = Change(
            seq=record.seq,
            timestamp=record.t_ns / 1e9,
            key=payload["key"],
            old=payload.get("old"),
            new=payload.get("new"),
            by=payload["by"],
            state=state,
            effect=payload.get("effect", ""),
            reason=payload.get("reason", ""),
        )
        self.changes.append(change)
        if state == "pending":
            self._pending = change
        elif state != "undone":
            self._put(change)

    def take_all(self, records: Iterable[Record]) -> History:
        """Add records and return this."""
        for record in records:
            self.take(record)
        return self

    def _put(self, change: Change) -> None:
        if change.new is None:
            self.values.pop(change.key, None)
        else:
            self.values[change.key] = change.new
