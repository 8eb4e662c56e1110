"""A proof that one message belongs to a window of a stream, as one file that verifies with the log's public keys alone.

Why it is as it is: three things must be shown, and each has a proof of its own. The message is a leaf of the window's
Merkle tree: a path. The window is on the log: a tlog-proof of its record. And who wrote the window is an end of that
stream: a tlog-proof of the kernel's ``ipc.grant``, because anybody can log a window of anything. The message itself is
not in the file but its hash, so a proof can be shown to somebody who may not read the message; who has it gives it
beside the proof.

    weftos/window-proof/v1
    leaf BASE64
    index NUMBER
    size NUMBER
    BASE64 of each hash, lowest first

    window BYTES
    the proof of the window's record
    grant BYTES
    the proof of the grant's record

The format is in ``docs/formats/windows.md``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from weftos.chain.records.canonical import decode_payload
from weftos.chain.records.record import Record
from weftos.chain.signing.checkpoint import Checkpoint
from weftos.chain.signing.rotation import PublicKeys
from weftos.chain.verification.proof_file import EventProof, check_proof, parse_proof
from weftos.errors import ProofInvalid
from weftos.merkle.frontier import leaf_hash
from weftos.merkle.proofs import verify_inclusion

__all__ = ["FIRST_LINE", "WindowMember", "WindowProof", "check_window_proof", "parse_window_proof"]

FIRST_LINE: Final = b"weftos/window-proof/v1\n"
_KINDS: Final = ("ipc.window", "ipc.topic_window")


class WindowProof(msgspec.Struct, frozen=True):
    """A proof as parsed; nothing of it is verified.

    Attributes:
        leaf: hash of the message, 32 bytes.
        index: of the leaf.
        size: leaves of the window.
        path: hashes that lead to the window's root, lowest first.
        window: proof of the window's record.
        grant: proof of the record that says who the ends of the stream are.
    """

    leaf: bytes
    index: int
    size: int
    path: list[bytes]
    window: EventProof
    grant: EventProof

    def encode(self) -> bytes:
        """Return the file."""
        lines = [f"leaf {_text(self.leaf)}", f"index {self.index}", f"size {self.size}", *map(_text, self.path), "", ""]
        window, grant = self.window.encode(), self.grant.encode()
        parts = [FIRST_LINE, "\n".join(lines).encode()]
        for name, data in (("window", window), ("grant", grant)):
            parts += [f"{name} {len(data)}\n".encode(), data]
        return b"".join(parts)


class WindowMember(msgspec.Struct, frozen=True):
    """What a proof shows.

    Attributes:
        window: the window's record.
        payload: of the window.
        grant: the record of the grant.
        checkpoint: that the window is proved against.
        has_message: the message was given, and is the one.
    """

    window: Record
    payload: dict[str, Any]
    grant: Record
    checkpoint: Checkpoint
    has_message: bool


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def parse_window_proof(data: bytes) -> WindowProof:
    """Read a proof.

    Raises:
        ProofInvalid: it is no proof of this form.
    """
    head, found, rest = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
        if not found or f"{lines[0]}\n".encode() != FIRST_LINE:
            raise ProofInvalid(f"a proof of a message begins with {FIRST_LINE.decode().strip()!r}")
        leaf = _decoded(_value(lines[1], "leaf"))
        index, size = _number(_value(lines[2], "index")), _number(_value(lines[3], "size"))
        path = [_decoded(line) for line in lines[4:]]
    except (UnicodeDecodeError, IndexError, binascii.Error, ValueError) as error:
        raise ProofInvalid(f"the proof of the message is malformed: {error}") from error
    window, rest = _part(rest, "window")
    grant, rest = _part(rest, "grant")
    if rest:
        raise ProofInvalid("the proof of the message goes on behind its end")
    return WindowProof(leaf, index, size, path, parse_proof(window), parse_proof(grant))


def _part(data: bytes, name: str) -> tuple[bytes, bytes]:
    line, found, rest = data.partition(b"\n")
    try:
        size = _number(_value(line.decode("ascii"), name))
    except (UnicodeDecodeError, ValueError) as error:
        raise ProofInvalid(f"the part {name!r} of the proof is malformed: {error}") from error
    if not found or len(rest) < size:
        raise ProofInvalid(f"the part {name!r} of the proof is cut off")
    return rest[:size], rest[size:]


def _value(line: str, name: str) -> str:
    value = line.removeprefix(f"{name} ")
    if line != f"{name} {value}" or line == value:
        raise ProofInvalid(f"{line[:40]!r} stands where {name!r} was due")
    return value


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 19 or str(int(text)) != text:
        raise ProofInvalid(f"{text[:40]!r} is no number")
    return int(text)


def _decoded(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    if _text(data) != text:
        raise ProofInvalid("base64 in a proof has one form only")
    return data


def check_window_proof(proof: WindowProof, keys: PublicKeys, origin: str, message: bytes | None = None) -> WindowMember:
    """Verify a proof.

    Args:
        proof: as parsed.
        keys: of the log, from a place that its writer cannot change.
        origin: of the log.
        message: what the leaf is the hash of, as ``weaver ipc prove --message`` writes it.

    Raises:
        ProofInvalid: the message is not shown to be in the window, the window not to be on the log, or who wrote it not
            to be an end of the stream.
        SignatureInvalid: a checkpoint is not signed by these keys.
        ChainCorrupted: a checkpoint is malformed.
    """
    window, checkpoint = check_proof(proof.window, keys, origin)
    grant, _ = check_proof(proof.grant, keys, origin)
    payload, granted = _payload(window, "window"), _payload(grant, "grant")
    if window.kind not in _KINDS:
        raise ProofInvalid(f"record {window.seq} is no window of a stream but {window.kind}")
    root, leaves = payload.get("root"), payload.get("leaves")
    if not isinstance(root, bytes) or leaves != proof.size:
        raise ProofInvalid(f"the window in record {window.seq} has no Merkle root over {proof.size} messages")
    verify_inclusion(proof.leaf, proof.index, proof.size, proof.path, root)
    _check_end(window, payload, grant, granted)
    if message is not None and leaf_hash(message) != proof.leaf:
        raise ProofInvalid("the message that was given is not the one that the proof is about")
    return WindowMember(window, payload, grant, checkpoint, message is not None)


def _payload(record: Record, what: str) -> dict[str, Any]:
    if record.withheld:
        raise ProofInvalid(f"the payload of the {what}, record {record.seq}, was taken away: nothing is shown by it")
    try:
        return decode_payload(record.payload_bytes)
    except msgspec.DecodeError as error:
        raise ProofInvalid(f"the payload of the {what}, record {record.seq}, is no map: {error}") from error


def _check_end(window: Record, payload: Mapping[str, Any], grant: Record, granted: Mapping[str, Any]) -> None:
    """The grant must name who wrote the window as an end of the stream."""
    if grant.kind != "ipc.grant" or grant.source != "kernel" or grant.header.boot_id != window.header.boot_id:
        raise ProofInvalid(f"record {grant.seq} is not the kernel's grant of a ring in the boot of the window")
    end = {"producer": "from", "consumer": "to"}.get(str(payload.get("side")), "")
    if window.kind == "ipc.window":
        same = payload.get("ring") == granted.get("ring")
    else:
        topics = granted.get("topics")
        same = payload.get("publisher") == granted.get("from") and isinstance(topics, list)
        same = same and payload.get("topic") in topics  # type: ignore[operator]  # a list, as was just seen
    if not same or window.source != f"agent:{granted.get(end)}":
        raise ProofInvalid(f"{window.source} wrote the window in record {window.seq}, but is no end of that stream")
