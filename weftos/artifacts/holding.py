"""Who holds which artifact: a sum over the records of a log. Pure; no log is read here.

An artifact is held by each record that names it under the key ``artifact`` of its payload, until that payload is
erased; and by whoever put it, until they release it. The removal of an artifact ends everything that held it before.

A payload that was erased is empty, so it names nothing: redaction needs no rule of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from weftos.artifacts.form import is_hash

__all__ = ["DAMAGED", "GC", "OPERATOR", "PUT", "REFERENCE", "RELEASE", "Holdings"]

PUT: Final = "artifact.put"
RELEASE: Final = "artifact.release"
GC: Final = "artifact.gc"
DAMAGED: Final = "artifact.damaged"
#: Key of a payload under which a record names an artifact.
REFERENCE: Final = "artifact"
#: Who acts on the control socket.
OPERATOR: Final = "operator"


class Holdings:
    """What the records taken so far hold.

    Attributes:
        puts: hash to who put it, in which boot (``("agent:3", boot id)``), with the number of their newest record.
        named: hash to the numbers of the records that name it.
    """

    def __init__(self) -> None:
        self.puts: dict[str, dict[tuple[str, bytes], int]] = {}
        self.named: dict[str, list[int]] = {}

    def take(self, seq: int, boot_id: bytes, kind: str, payload: Mapping[str, Any]) -> None:
        """Add one record; they come in order.

        Args:
            seq: its number.
            boot_id: of the kernel that it was written under. Agents are told apart by pid within one boot only.
            kind: of the record.
            payload: empty if it was erased.
        """
        digest = payload.get("hash")
        if kind == PUT and is_hash(digest):
            self.puts.setdefault(digest, {})[_holder(payload, boot_id)] = seq
        elif kind == RELEASE and is_hash(digest):
            self._release(digest, _holder(payload, boot_id))
        elif kind == GC:
            for gone in payload.get("hashes", ()):
                self.puts.pop(gone, None)
                self.named.pop(gone, None)
        else:
            reference = payload.get(REFERENCE)
            named = reference.get("hash") if isinstance(reference, dict) else None
            if is_hash(named):
                self.named.setdefault(named, []).append(seq)

    def _release(self, digest: str, holder: tuple[str, bytes]) -> None:
        holders = self.puts.get(digest, {})
        if holder[0] == OPERATOR:
            holders.clear()
        holders.pop(holder, None)
        if not holders:
            self.puts.pop(digest, None)

    def hashes(self) -> set[str]:
        """Return the hashes of all artifacts that something holds."""
        return self.puts.keys() | self.named.keys()


def _holder(payload: Mapping[str, Any], boot_id: bytes) -> tuple[str, bytes]:
    by = str(payload.get("by", ""))
    return (by, b"") if by == OPERATOR else (by, boot_id)
