"""Puts the inventory together and on the chain, or compares it with the one that is there.

Entries come at least once (a hasher that dies repeats its piece) and in any order; each counts once, by its number. The
end event carries
the totals and the digest over all entries, so a record without it is no inventory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from weftos import chain
from weftos.agent.context import Context
from weftos.errors import AgentExited, WeftError
from weftos.home import find_home

from .inventory_files import Entry, compare, entry_row, root_digest, row_entry, summarise

__all__ = ["BEGIN", "CHECK", "END", "ENTRIES", "main", "recorded"]

BEGIN: Final = "app.inventory.begin"
ENTRIES: Final = "app.inventory.entries"
END: Final = "app.inventory.end"
CHECK: Final = "app.inventory.check"

#: Entries go into one event up to this size, in bytes; far below what the chain accepts.
_EVENT_BYTES: Final = 40 * 1024
#: Names listed in an answer, for each kind of change.
_NAMES_MAX: Final = 10_000


def recorded(directory: str, root: bytes) -> tuple[dict[str, Any], list[Entry]] | None:
    """Find the last complete inventory of a folder on the chain.

    Args:
        directory: of the chain.
        root: the folder, bytes.

    Returns:
        The end event's payload and the entries; ``None`` when there is none.

    Raises:
        ChainError: the log cannot be read.
        WeftError: the record does not fit its own digest.
    """
    open_runs: dict[str, list[Entry]] = {}
    found: tuple[dict[str, Any], list[Entry]] | None = None
    for record in chain.read(directory):
        payload = record.payload
        if record.kind == BEGIN and payload.get("root") == root:
            open_runs[payload["run"]] = []
        elif record.kind == ENTRIES and payload.get("run") in open_runs:
            open_runs[payload["run"]].extend(row_entry(row) for row in payload["entries"])
        elif record.kind == END and payload.get("run") in open_runs:
            found = (payload, open_runs.pop(payload["run"]))
    if found is not None and root_digest(found[1]) != found[0]["root_digest"]:
        raise WeftError(f"the record of run {found[0]['run']} does not fit its own digest")
    return found


class _Recorder:
    """Collects entries by number."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.root = bytes.fromhex(ctx.args[0])
        self.run = ctx.args[1]
        self.check = ctx.args[2] == "check"
        self.entries: dict[int, Entry] = {}
        self._fresh: list[Any] = []
        self._fresh_bytes = 0
        self._hashed = 0
        self.total: int | None = None
        self.first_seq: int | None = None

    def begin(self) -> None:
        """Open the record."""
        if not self.check:
            ack = self._ctx.service.append(BEGIN, {"run": self.run, "root": self.root})
            self.first_seq = ack.seq

    def take(self, payload: dict[str, Any]) -> None:
        """Take what a hasher or the scanner sent."""
        for index, row in payload.get("entries", ()):
            if index in self.entries:
                continue
            entry = self.entries[index] = row_entry(row)
            self._hashed += entry.size
            if not self.check:
                self._fresh.append(entry_row(entry))
                self._fresh_bytes += len(entry.path) + len(entry.target) + 80
                if self._fresh_bytes >= _EVENT_BYTES:
                    self._write()
        if "total" in payload:
            self.total = payload["total"]

    def _write(self) -> None:
        if self._fresh:
            self._ctx.service.append(ENTRIES, {"run": self.run, "entries": self._fresh}, durable=False)
            self._fresh, self._fresh_bytes = [], 0

    @property
    def complete(self) -> bool:
        """Whether every entry that the scanner counted is here."""
        return self.total is not None and len(self.entries) == self.total

    def progress(self) -> dict[str, Any]:
        """How far it is."""
        return {"files": len(self.entries), "bytes": self._hashed, "total": self.total}

    def end(self) -> dict[str, Any]:
        """Close the record, or compare; returns the summary."""
        entries = list(self.entries.values())
        digest = root_digest(entries)
        summary: dict[str, Any] = {**summarise(entries), "root_digest": digest.hex()}
        summary["errors"] = [[_shown(e.path), e.status] for e in entries if e.status not in ("ok", "skipped")][
            :_NAMES_MAX
        ]
        if self.check:
            return summary | self._compare(entries)
        self._write()
        payload = {"run": self.run, "root": self.root, "root_digest": digest, **summarise(entries)}
        ack = self._ctx.service.append(END, payload)
        return summary | {"first_seq": self.first_seq, "last_seq": ack.seq}

    def _compare(self, entries: list[Entry]) -> dict[str, Any]:
        old = recorded(str(find_home().chain), self.root)
        if old is None:
            return {"missing": True}
        changes = compare(old[1], entries)
        counts = {name: len(getattr(changes, name)) for name in ("changed", "added", "removed", "unreadable")}
        ack = self._ctx.service.append(CHECK, {"run": self.run, "root": self.root, "against": old[0]["run"], **counts})
        names = {name: [_shown(path) for path in getattr(changes, name)[:_NAMES_MAX]] for name in counts}
        return names | {"counts": counts, "against": old[0]["run"], "last_seq": ack.seq}


def _shown(path: bytes) -> str:
    """A path for people: broken bytes and control characters escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def main(ctx: Context) -> None:
    """Arguments: root (hex of its bytes), name of the run, ``record`` or ``check``."""
    recorder = _Recorder(ctx)
    recorder.begin()
    told = 0
    for message in _payloads(ctx):
        recorder.take(message)
        if recorder.complete:
            ctx.send(ctx.parent, {"done": recorder.end()}, timeout=60.0)
            return
        if len(recorder.entries) - told >= 64:
            told = len(recorder.entries)
            ctx.send(ctx.parent, {"progress": recorder.progress()}, timeout=60.0)
    raise AgentExited("stopped before the inventory was complete")


def _payloads(ctx: Context) -> Iterator[dict[str, Any]]:
    for message in ctx:
        if isinstance(message.payload, dict):
            yield message.payload
