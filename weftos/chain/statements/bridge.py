"""Heads of foreign logs, noted in this one: what another instance signed for, and that it never took it back.

Why it is as it is: a log proves its order to whoever remembers its head. Two instances that note each other's heads
remember for one another, without trust and without a third. A head counts only if the keys that were pinned for that
log signed it. What contradicts an earlier head is worth more than what agrees: two signed heads that cannot both be
true prove that somebody showed two histories, to anybody who has the public keys. So it is kept, with both notes.

Guaranteed: of the heads of one origin on this log, each is signed, larger than the one before, and, where a proof is
with it, shown to continue it. Not guaranteed without a proof: that it continues the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec

from weftos.chain.signing.checkpoint import Checkpoint, open_checkpoint
from weftos.chain.signing.note import SignaturePolicy
from weftos.chain.signing.rotation import PublicKeys
from weftos.chain.statements.versioned import fields_of
from weftos.errors import AppendRefused, ProofInvalid, SplitView
from weftos.merkle.proofs import verify_consistency

__all__ = ["BRIDGE_KIND", "SPLIT_VIEW_KIND", "Bridge", "KnownHead", "check_head", "split_view_payload"]

#: Kind of the record that notes a head.
BRIDGE_KIND: Final = "chain.bridge"
#: Kind of the record that keeps the evidence of two histories.
SPLIT_VIEW_KIND: Final = "chain.split_view"
_VERSION: Final = 1


class Bridge(msgspec.Struct, frozen=True):
    """A head of a foreign log.

    Attributes:
        origin: names the log.
        size: records that it covers.
        root: Merkle root over them, 32 bytes.
        pair_id: of the keys that signed it, 16 hex digits.
        note: the signed note.
        previous: number of the record on this log with the head before; ``None`` for the first of its origin.
        proof: hashes that lead from that head to this one, or ``None`` if nobody gave them.
    """

    origin: str
    size: int
    root: bytes
    pair_id: str
    note: bytes
    previous: int | None
    proof: list[bytes] | None

    def to_payload(self) -> dict[str, Any]:
        """Return the payload of a ``chain.bridge`` record."""
        return {"version": _VERSION, **msgspec.structs.asdict(self)}

    def summary(self) -> dict[str, Any]:
        """Return what the next head is compared with, and what is shown of this one."""
        return {"size": self.size, "root": self.root, "pair_id": self.pair_id, "proven": self.proof is not None}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Self:
        """Read a head from a record's payload. Only its form is checked.

        Raises:
            AppendRefused: it has another form.
        """
        fields = fields_of(payload, cls, version=_VERSION, name="the head of a foreign log", error=AppendRefused)
        try:
            return msgspec.convert(fields, cls, strict=True)
        except msgspec.ValidationError as error:
            raise AppendRefused(f"this is no head of a foreign log: {error}") from error


class KnownHead(msgspec.Struct, frozen=True):
    """The newest head of a foreign log that is noted.

    Attributes:
        record: number of its record on this log.
        size: records that it covers.
        root: Merkle root over them, 32 bytes.
    """

    record: int
    size: int
    root: bytes


def check_head(
    note: bytes,
    origin: str,
    keys: PublicKeys,
    known: KnownHead | None,
    proof: Sequence[bytes] | None,
) -> Bridge | None:
    """Check a head of a foreign log against its keys and against the head before.

    Args:
        note: signed checkpoint.
        origin: of the log that it must be of.
        keys: pinned for that log.
        known: the newest head of it that is noted, or ``None``.
        proof: that the new head continues that one, or ``None``.

    Returns:
        What to note; ``None`` if it is noted already.

    Raises:
        SignatureInvalid, ChainCorrupted: it is not signed by these keys, or malformed.
        SplitView: it contradicts the head before.
        ProofInvalid: the proof does not show what it should.
    """
    head = open_checkpoint(note, keys.verifier_keys(origin), SignaturePolicy(), origin)
    if known is not None:
        _compare(head, known)
        if head.size == known.size:
            return None
    if proof is not None:
        if known is None:
            raise ProofInvalid(f"there is no earlier head of {origin} that a proof could begin with; leave it out")
        verify_consistency(known.size, known.root, head.size, head.root, proof)
    previous = known.record if known is not None else None
    return Bridge(origin, head.size, head.root, keys.pair_id, note, previous, None if proof is None else list(proof))


def _compare(head: Checkpoint, known: KnownHead) -> None:
    if head.size < known.size:
        raise SplitView(
            f"{head.origin} shows a head of {head.size} records, and record {known.record} here notes that it had "
            f"signed for {known.size}: it was put back, or this is an old checkpoint",
            reason="regress",
        )
    if head.size == known.size and head.root != known.root:
        raise SplitView(
            f"{head.origin} has signed two roots for its first {head.size} records: this one and that in record "
            f"{known.record} here. Keep both notes: they prove that it shows two histories",
            reason="root",
        )


def split_view_payload(note: bytes, head: Checkpoint, known: KnownHead, reason: str) -> dict[str, Any]:
    """Return the payload of the record that keeps the evidence.

    Args:
        note: the signed head that was refused.
        head: what it says.
        known: what it contradicts.
        reason: ``regress`` or ``root``.
    """
    return {
        "version": _VERSION,
        "origin": head.origin,
        "reason": reason,
        "size": head.size,
        "root": head.root,
        "note": note,
        "known_record": known.record,
        "known_size": known.size,
        "known_root": known.root,
    }
