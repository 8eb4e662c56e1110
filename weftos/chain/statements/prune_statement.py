"""The payload of ``chain.pruned``: what was taken away, what stands for it, and the log's signatures under both.

Why it is as it is: records behind the newest checkpoint are not signed yet, and whoever may write files can forge them
while the log is closed. A forged word that removes evidence must not become true by the next checkpoint. So this one
carries both signatures itself, over everything that a verification relies on; only the log's keys can prune.

Guaranteed: a statement without a good signature by each algorithm, from a pair of keys that leads to the one in force
by changes that hold, is refused. The text that is signed can be taken for no checkpoint: its first line is no origin.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self

import msgspec

from weftos.chain.signing.note import SignaturePolicy, parse_note, verify_note
from weftos.chain.signing.rotation import PublicKeys, Rotation, follow_rotations
from weftos.chain.statements.pruned_file import Pruned, kept_hash
from weftos.errors import ChainCorrupted, ChainError, SignatureInvalid

__all__ = ["PRUNED_KIND", "PruneStatement", "check_statement", "signed_by"]

PRUNED_KIND: Final = "chain.pruned"
_FIRST_LINE: Final = "weftos/pruned/v1"


class PruneStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload.

    Attributes:
        version: 1.
        first_seq: number of the first record that goes.
        last_seq: number of the last one.
        count: how many go.
        first_segment, last_segment: the segments that they are in.
        file_bytes: size of these files.
        size: records that are gone from now on, from record 0 on.
        root: of the Merkle tree over those, 32 bytes.
        head_hash: hash of the last of them, 32 bytes.
        kept: how many of those are kept in the file ``pruned``.
        kept_hash: over that file's acts and records, 32 bytes.
        archived: those that go are in the archive.
        where: folder of the archive; empty without one.
        note: signed by the log's keys.
    """

    version: int
    first_seq: int
    last_seq: int
    count: int
    first_segment: int
    last_segment: int
    file_bytes: int
    size: int
    root: bytes
    head_hash: bytes
    kept: int
    kept_hash: bytes
    archived: bool
    where: str
    note: bytes = b""

    @classmethod
    def of(cls, pruned: Pruned) -> Self:
        """Return what is to be said, not signed yet, of the last act of pruning."""
        act = pruned.acts[-1]
        return cls(
            version=1,
            first_seq=act.first_seqs[0],
            last_seq=act.size - 1,
            count=act.size - act.first_seqs[0],
            first_segment=act.first_segment,
            last_segment=pruned.segment,
            file_bytes=sum(act.sizes),
            size=pruned.size,
            root=pruned.root,
            head_hash=pruned.head_hash,
            kept=len(pruned.kept),
            kept_hash=kept_hash(pruned.acts, pruned.kept),
            archived=act.archived,
            where=act.where,
        )

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Read a payload. Nothing is verified.

        Raises:
            ChainCorrupted: it does not have the form.
        """
        try:
            found = msgspec.convert(dict(payload), cls)
        except msgspec.ValidationError as error:
            raise ChainCorrupted(f"the record of a pruning is malformed: {error}") from error
        if found.version != 1:
            raise ChainCorrupted(f"a pruning of version {found.version} cannot be read; known is 1")
        return found

    def to_payload(self) -> dict[str, Any]:
        """Return the payload as a record takes it."""
        return msgspec.structs.asdict(self)

    def text(self, origin: str) -> str:
        """Return the text that is signed."""
        encode = base64.b64encode
        lines = (
            _FIRST_LINE,
            origin,
            f"segments {self.first_segment} {self.last_segment}",
            f"records {self.first_seq} {self.size}",
            f"root {encode(self.root).decode()}",
            f"head {encode(self.head_hash).decode()}",
            f"kept {self.kept} {encode(self.kept_hash).decode()}",
            "archived" if self.archived else "not archived",
        )
        return "".join(f"{line}\n" for line in lines)

    def speaks_of(self, pruned: Pruned) -> bool:
        """Whether it says of the last act of pruning what a file says."""
        return msgspec.structs.replace(PruneStatement.of(pruned), note=self.note) == self


def signed_by(statement: PruneStatement, origin: str, pair: PublicKeys) -> bool:
    """Whether a statement claims to be signed by a pair; nothing is verified.

    Raises:
        ChainCorrupted: the note is malformed.
    """
    try:
        on_note = {(line.name, line.key_id) for line in parse_note(statement.note).signatures}
    except ChainError as error:
        raise ChainCorrupted(f"the record of a pruning has no note in it: {error}") from error
    return any((key.name, key.key_id) in on_note for key in pair.verifier_keys(origin))


def check_statement(
    statement: PruneStatement,
    origin: str,
    pairs: Iterable[PublicKeys],
    rotations: Sequence[Rotation],
    current: PublicKeys,
) -> None:
    """Verify that the log's own keys have signed a statement.

    Args:
        statement: as read.
        origin: of the log.
        pairs: that may have signed it.
        rotations: changes of keys of the log, oldest first.
        current: the pair in force, which is trusted.

    Raises:
        SignatureInvalid: none of them has, or no changes of keys lead from that one to the one in force.
        ChainCorrupted: the note is malformed.
    """
    claimed = [pair for pair in pairs if signed_by(statement, origin, pair)]
    if not claimed:
        raise SignatureInvalid("the record of a pruning is not signed by keys of this log")
    note = parse_note(statement.note)
    if note.text != statement.text(origin):
        raise SignatureInvalid("the record of a pruning says something else than what was signed")
    for pair in claimed:
        verify_note(note, pair.verifier_keys(origin), SignaturePolicy())
        if pair != current and follow_rotations(origin, pair, rotations) != current:
            raise SignatureInvalid(f"no changes of keys lead from {pair.pair_id}, which signed a pruning, to the log's")
