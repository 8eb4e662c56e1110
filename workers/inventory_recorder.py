"""Puts the inventory together and on the chain, or compares it with the one that is there.

Entries come at least once (a hasher that dies repeats its piece) and in any order; each counts once, by its number. The
end event carries the totals and the digest over all entries, so a record without it is no inventory.
"""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from weftos.agent.context import Context
from weftos.errors import AgentExited
from weftos.home import find_home

from .inventory_changes import compare
from .inventory_files import OK, SKIPPED, Entry, entry_row, root_digest, row_entry, summarise
from .inventory_names import some_shown
from .inventory_record import BEGIN, CHECK, END, ENTRIES, Recorded, recorded_entries
from .siblings import Siblings

__all__ = ["main"]

#: Entries go into one event up to this size, in bytes; far below what the chain accepts.
_EVENT_BYTES: Final = 40 * 1024
#: What an entry takes in an event beside its path and target, in bytes.
_ENTRY_BYTES: Final = 120
#: Between two reports of progress, in seconds.
_REPORT_S: Final = 0.1


class _Recorder:
    """Collects entries by number."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._root = bytes.fromhex(ctx.args[0])
        self._run = ctx.args[1]
        self._against = msgspec.json.decode(ctx.args[2], type=Recorded | None)
        self._exclude = msgspec.json.decode(ctx.args[3], type=list[str])
        self._entries: dict[int, Entry] = {}
        self._fresh: list[Any] = []
        self._fresh_bytes = 0
        self._hashed = 0
        # Bytes read of files that are not done yet, by hasher.
        self._reading: dict[int, int] = {}
        self._total: int | None = None
        self._total_bytes: int | None = None
        self._first_seq: int | None = None

    def begin(self) -> None:
        """Open the record."""
        if self._against is None:
            payload = {"run": self._run, "root": self._root, "exclude": self._exclude}
            self._first_seq = self._ctx.service.append(BEGIN, payload).seq

    def take(self, sender: int, payload: dict[str, Any]) -> None:
        """Take what a hasher or the scanner sent."""
        self._reading[sender] = payload.get("reading", 0)
        for index, row in payload.get("entries", ()):
            if index in self._entries:
                continue
            entry = self._entries[index] = row_entry(row)
            self._hashed += entry.size if entry.digest else 0
            if self._against is None:
                size = len(entry.path) + len(entry.target) + _ENTRY_BYTES
                if self._fresh_bytes + size > _EVENT_BYTES:
                    self._write()
                self._fresh.append(entry_row(entry))
                self._fresh_bytes += size
        if "total" in payload:
            self._total, self._total_bytes = payload["total"], payload["total_bytes"]

    def _write(self) -> None:
        if self._fresh:
            # The end event waits for the disk, and with it for all before it.
            self._ctx.service.append(ENTRIES, {"run": self._run, "entries": self._fresh}, durable=False)
            self._fresh, self._fresh_bytes = [], 0

    @property
    def complete(self) -> bool:
        """Whether every entry that the scanner counted is here."""
        return self._total is not None and len(self._entries) == self._total

    def progress(self) -> dict[str, Any]:
        """How far it is."""
        read = self._hashed + sum(self._reading.values())
        return {
            "files": len(self._entries),
            "bytes": read,
            "total": self._total,
            "total_bytes": self._total_bytes,
        }

    def end(self) -> dict[str, Any]:
        """Close the record, or compare; returns the summary."""
        entries = list(self._entries.values())
        digest = root_digest(entries)
        counts = summarise(entries)
        wrong = [entry for entry in entries if entry.status not in (OK, SKIPPED)]
        wrong.sort(key=lambda entry: entry.path)
        names = some_shown(entry.path for entry in wrong)
        errors = [[name, entry.status] for name, entry in zip(names, wrong, strict=False)]
        summary: dict[str, Any] = {**counts, "root_digest": digest.hex(), "errors": errors}
        if self._against is not None:
            return summary | self._compare(self._against, entries)
        self._write()
        payload = {"run": self._run, "root": self._root, "exclude": self._exclude, "first_seq": self._first_seq}
        ack = self._ctx.service.append(END, payload | {"root_digest": digest} | counts, durable=True)
        return summary | {"first_seq": self._first_seq, "last_seq": ack.seq}

    def _compare(self, old: Recorded, entries: list[Entry]) -> dict[str, Any]:
        changes = compare(recorded_entries(str(find_home().chain), old), entries)
        kinds = changes.__struct_fields__
        counts = {kind: len(getattr(changes, kind)) for kind in kinds}
        payload = {"run": self._run, "root": self._root, "against": old.run, **counts}
        ack = self._ctx.service.append(CHECK, payload, durable=True)
        names = {kind: some_shown(getattr(changes, kind)) for kind in kinds}
        return names | {"counts": counts, "against": old.run, "first_seq": ack.seq, "last_seq": ack.seq}


def main(ctx: Context) -> None:
    """Arguments: root (hex of its bytes), name of the run, what to compare with or ``null``, patterns (both JSON).

    Takes ``{"entries": [[number, row], …]}``, ``{"reading": bytes}`` and ``{"total": entries, "total_bytes": bytes}``.
    """
    recorder, siblings = _Recorder(ctx), Siblings(ctx)
    recorder.begin()
    reported = 0.0
    for message in ctx:
        if not isinstance(message.payload, dict) or message.sender not in siblings:
            continue
        recorder.take(message.sender, message.payload)
        if recorder.complete:
            ctx.send(ctx.parent, {"progress": recorder.progress(), "done": recorder.end()}, timeout=60.0)
            return
        if time.monotonic() - reported >= _REPORT_S:
            reported = time.monotonic()
            ctx.send(ctx.parent, {"progress": recorder.progress()}, timeout=60.0)
    raise AgentExited("stopped before the inventory was complete")
