"""A proof that a record is in a log, as one small file that verifies anywhere with nothing but the log's public keys.

Why it is as it is: the form is the one of C2SP's tlog-proof, so tools of others can check inclusion and signatures. In
its ``extra`` line stands the record itself: its header part, which is what the tree holds, and its payload, which the
header names by hash. So a proof also shows what was logged, unless the payload was taken away.

    c2sp.org/tlog-proof@v1
    extra BASE64
    index NUMBER
    BASE64 of each hash, lowest first

    the signed checkpoint

Source: C2SP, tlog-proof and tlog-checkpoint.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Final

import msgspec

from weftos import limits
from weftos.chain.folder.locate import archived_record, record_at
from weftos.chain.folder.reader import check_present, list_segments
from weftos.chain.folder.segments import CHECKPOINT_NAME
from weftos.chain.records.record import Record, decode_header, encode_header, payload_hash, record_hash
from weftos.chain.signing.checkpoint import Checkpoint, open_checkpoint, parse_text
from weftos.chain.signing.note import SignaturePolicy, parse_note
from weftos.chain.signing.rotation import PublicKeys
from weftos.chain.tiles.tile_tree import TileTree
from weftos.disk.files import ReadFile
from weftos.errors import ChainCorrupted, ChainError, ProofInvalid
from weftos.merkle.frontier import leaf_hash
from weftos.merkle.proofs import inclusion_proof, verify_inclusion

__all__ = ["EventProof", "Prover", "check_proof", "make_proof", "parse_proof"]

_FIRST_LINE: Final = "c2sp.org/tlog-proof@v1"
_MOST_BYTES: Final = limits.NOTE_BYTES + 2 * (limits.CHAIN_HEADER_BYTES + limits.CHAIN_PAYLOAD_BYTES)


class _Extra(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    entry: bytes
    salted: bytes


class EventProof(msgspec.Struct, frozen=True):
    """A proof as parsed; nothing of it is verified.

    Attributes:
        index: number of the record.
        entry: its header part.
        salted: salt and payload; empty if it is withheld.
        hashes: of the path to the root, 32 bytes each, lowest first.
        checkpoint: the signed note.
    """

    index: int
    entry: bytes
    salted: bytes
    hashes: list[bytes]
    checkpoint: bytes

    def encode(self) -> bytes:
        """Return the file."""
        extra = base64.b64encode(msgspec.msgpack.encode(_Extra(self.entry, self.salted))).decode()
        lines = [_FIRST_LINE, f"extra {extra}", f"index {self.index}"]
        lines += [base64.b64encode(one).decode() for one in self.hashes]
        return "\n".join([*lines, "", ""]).encode() + self.checkpoint


class Prover:
    """Makes proofs against the newest checkpoint of a log, from its files.

    What proofs have in common is read and computed once, so many proofs cost less than each alone.

    Args:
        directory: of the log.
        archive: folder with archived segments, for records that were pruned.

    Attributes:
        size: records that the checkpoint covers.

    Raises:
        ChainError: there is no checkpoint, or it cannot be read.
        ChainCorrupted: it is malformed.
    """

    def __init__(self, directory: str | os.PathLike[str], archive: str = "") -> None:
        self._directory = os.path.abspath(directory)
        self._archive = archive
        try:
            with ReadFile(os.path.join(self._directory, CHECKPOINT_NAME)) as file:
                self._note = file.read(0, limits.NOTE_BYTES + 1)
        except FileNotFoundError as error:
            raise ChainError(
                f"the log in {self._directory} has no checkpoint, so there is nothing to prove against"
            ) from error
        except OSError as error:
            raise ChainError(f"the checkpoint cannot be read: {error}") from error
        self.size = parse_text(parse_note(self._note).text).size
        self._tree = TileTree(self._directory, self.size)

    def prove(self, seq: int) -> EventProof:
        """Make a proof.

        Args:
            seq: number of the record.

        Raises:
            RecordPruned: the record was pruned, and is not in the archive.
            ChainError: the checkpoint does not cover the record yet, or a file cannot be read.
            ChainCorrupted: record or tiles are damaged.
        """
        if not 0 <= seq < self.size:
            raise ChainError(
                f"the newest checkpoint covers the records 0 to {self.size - 1}, not {seq}; one is made every second "
                "while the log grows, and by `weaver chain checkpoint`"
            )
        record = self._record(seq)
        if leaf_hash(record.header_bytes) != self._tree.node(0, seq):
            raise ChainCorrupted(f"record {seq} is not the one that the tree holds; `weaver chain verify` tells more")
        hashes = inclusion_proof(seq, self.size, self._tree.node)
        return EventProof(seq, record.header_bytes, record.salted, hashes, self._note)

    def _record(self, seq: int) -> Record:
        listing = list_segments(self._directory)
        if seq < listing.first_seq and self._archive:
            return archived_record(self._directory, self._archive, seq)
        check_present(listing, seq)
        return record_at(self._directory, seq, self._tree.entry(seq), self.size)


def make_proof(directory: str | os.PathLike[str], seq: int, archive: str = "") -> EventProof:
    """Make one proof from the files of a log; arguments and errors as for ``Prover``."""
    return Prover(directory, archive).prove(seq)


def parse_proof(data: bytes) -> EventProof:
    """Read a proof.

    Raises:
        ProofInvalid: it is no proof of this form.
    """
    if len(data) > _MOST_BYTES:
        raise ProofInvalid(f"a proof of {len(data)} bytes is too large")
    head, found, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
        if not found or lines[0] != _FIRST_LINE or not lines[1].startswith("extra "):
            raise ProofInvalid(f"a proof begins with {_FIRST_LINE!r} and a line with the record")
        index = lines[2].removeprefix("index ")
        if lines[2] != f"index {index}" or not index.isdecimal() or str(int(index)) != index:
            raise ProofInvalid("the third line of a proof is the number of the record")
        hashes = [_decoded(line) for line in lines[3:]]
        extra = msgspec.msgpack.decode(_decoded(lines[1].removeprefix("extra ")), type=_Extra)
    except (UnicodeDecodeError, IndexError, binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise ProofInvalid(f"the proof is malformed: {error}") from error
    return EventProof(int(index), extra.entry, extra.salted, hashes, note)


def _decoded(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ProofInvalid("base64 in a proof has one form only")
    return data


def check_proof(proof: EventProof, keys: PublicKeys, origin: str) -> tuple[Record, Checkpoint]:
    """Verify a proof.

    Args:
        proof: as parsed.
        keys: of the log, from a place that its writer cannot change.
        origin: of the log.

    Returns:
        The record, and the checkpoint that it is proved against.

    Raises:
        ProofInvalid: the record is not shown to be in the log.
        SignatureInvalid: the checkpoint is not signed by these keys.
        ChainCorrupted: the checkpoint is malformed.
    """
    checkpoint = open_checkpoint(proof.checkpoint, keys.verifier_keys(origin), SignaturePolicy(), origin)
    try:
        header = decode_header(proof.entry)
    except msgspec.DecodeError as error:
        raise ProofInvalid(f"the record in the proof is none: {error}") from error
    if header.seq != proof.index or encode_header(header) != proof.entry:
        raise ProofInvalid(f"the record in the proof is not number {proof.index}, or not in its only form")
    if proof.salted and payload_hash(proof.salted) != header.payload_hash:
        raise ProofInvalid("the payload in the proof is not the one that was logged")
    verify_inclusion(leaf_hash(proof.entry), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return Record(header, proof.entry, proof.salted, record_hash(proof.entry)), checkpoint
