"""Requests to a witness and its answers, as bytes: text of C2SP's tlog-witness in frames with a length in front.

Why it is as it is: the request to cosign is the one that other witnesses take too, so that one of them could stand in.
There it is the body of an HTTP request; here a length of four bytes does what HTTP would. Four further requests have
the same style. Everything comes from another process and is read in one strict form; what has another form is refused
with a reason and never guessed at.

Guaranteed: parsing takes time and memory in proportion to a frame's bytes, which are limited before they are read, and
raises ``ProtocolError`` and nothing else. Not guaranteed: that what was parsed is true.

The forms are in docs/formats/witness.md. Source: c2sp.org/tlog-witness.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Sequence
from typing import Final, TypeAlias, get_args

import msgspec

from weftos import limits
from weftos.chain.signing.note import Note, VerifierKey, format_note, parse_note
from weftos.chain.signing.note_keys import CONTROL, ED25519, ML_DSA_65, decode_base64
from weftos.chain.signing.rotation import PublicKeys, Rotation
from weftos.errors import ChainError, ConfigError, ProtocolError
from weftos.witness.outcomes import (
    STATUS,
    Answer,
    Code,
    Conflict,
    Cosigned,
    Evidence,
    Head,
    Key,
    Pinned,
    Refused,
    SplitView,
)

__all__ = [
    "AddCheckpoint",
    "FrameReader",
    "Request",
    "ShowEvidence",
    "ShowHead",
    "ShowKey",
    "TellKeys",
    "format_answer",
    "format_request",
    "frame",
    "parse_answer",
    "parse_request",
]

_LENGTH: Final = struct.Struct("<I")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_CODE_BY_NAME: Final = frozenset(get_args(Code))
_REASON_LETTERS: Final = 2000
_SOME_TEXT: Final = "x\n"


class AddCheckpoint(msgspec.Struct, frozen=True, tag=True):
    """Cosign this.

    Attributes:
        old_size: of the checkpoint that was cosigned last, as far as the sender knows.
        proof: from that size to the one of the checkpoint; hashes of 32 bytes.
        note: the checkpoint with the log's signatures.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes


class ShowHead(msgspec.Struct, frozen=True, tag=True):
    """Show the newest checkpoint of the log with this origin."""

    origin: str


class ShowEvidence(msgspec.Struct, frozen=True, tag=True):
    """Show what is held against the log with this origin."""

    origin: str


class ShowKey(msgspec.Struct, frozen=True, tag=True):
    """Show the public key of the witness."""


class TellKeys(msgspec.Struct, frozen=True, tag=True):
    """Know a log by these keys.

    Attributes:
        origin: of the log.
        keys: both.
        rotations: the changes of keys that lead from those that are pinned to these, oldest first.
    """

    origin: str
    keys: PublicKeys
    rotations: tuple[Rotation, ...] = ()


Request: TypeAlias = AddCheckpoint | ShowHead | ShowEvidence | ShowKey | TellKeys


def frame(body: bytes) -> bytes:
    """Return a body with its length in front: four bytes, little-endian."""
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Puts frames together from whatever pieces they come in.

    Args:
        most: largest body that is taken, in bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._data = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether no part of a frame waits for its rest."""
        return not self._data

    def feed(self, data: bytes) -> None:
        """Take a piece.

        Raises:
            ProtocolError: a frame is announced that is empty or too long. Nothing after it can be read.
        """
        self._data += data
        self._length()

    def next(self) -> bytes | None:
        """Return the next whole body, or ``None`` until more has come.

        Raises:
            ProtocolError: as for ``feed``.
        """
        length = self._length()
        if length is None or len(self._data) < _LENGTH.size + length:
            return None
        body = bytes(self._data[_LENGTH.size : _LENGTH.size + length])
        del self._data[: _LENGTH.size + length]
        return body

    def _length(self) -> int | None:
        if len(self._data) < _LENGTH.size:
            return None
        length: int = _LENGTH.unpack_from(self._data)[0]
        if not 0 < length <= self._most:
            raise ProtocolError(f"a frame of {length} bytes; it has 1 to {self._most}")
        return length


def format_request(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        ProtocolError: it is larger than a witness takes.
    """
    match request:
        case AddCheckpoint(old_size, proof, note):
            if len(proof) > limits.WITNESS_PROOF_HASHES or len(note) > limits.WITNESS_NOTE_BYTES:
                raise ProtocolError(f"a proof of {len(proof)} hashes or a note of {len(note)} bytes is too long")
            body = _lines(f"old {old_size}", *(_b64(one) for one in proof)) + b"\n" + note
        case ShowHead(origin):
            body = _lines(f"head {origin}")
        case ShowEvidence(origin):
            body = _lines(f"evidence {origin}")
        case ShowKey():
            body = _lines("key")
        case TellKeys(origin, keys, rotations):
            if len(rotations) > limits.WITNESS_ROTATIONS:
                raise ProtocolError(f"{len(rotations)} changes of keys at once; tell {limits.WITNESS_ROTATIONS} first")
            body = _lines(
                f"keys {origin}",
                *(key.format() for key in keys.verifier_keys(origin)),
                *(_b64(msgspec.msgpack.encode(one)) for one in rotations),
            )
    if len(body) > limits.WITNESS_REQUEST_BYTES:
        raise ProtocolError(f"a request of {len(body)} bytes; a witness takes {limits.WITNESS_REQUEST_BYTES}")
    return body


def parse_request(body: bytes) -> Request:
    """Read the body of a request.

    Raises:
        ProtocolError: it has no form of a request.
    """
    if body.startswith(b"old "):
        return _parse_add(body)
    lines = _split(body)
    verb, _, argument = lines[0].partition(" ")
    match verb, len(lines):
        case "head", 1:
            return ShowHead(argument)
        case "evidence", 1:
            return ShowEvidence(argument)
        case "key", 1 if not argument and lines[0] == "key":
            return ShowKey()
        case "keys", _:
            return _parse_keys(argument, lines[1:])
    raise ProtocolError(f"{lines[0][:80]!r} begins no request")


def format_answer(answer: Answer) -> bytes:
    """Return the body of an answer."""
    match answer:
        case Cosigned(signatures):
            return b"200\n" + format_note(Note(_SOME_TEXT, signatures))[len(_SOME_TEXT) + 1 :]
        case Conflict(size):
            return _lines("409", str(size))
        case Refused(code, reason):
            return _lines(str(STATUS[code]), code, _one_line(reason))
        case Head(note):
            return b"200\n" + note
        case Key(text):
            return _lines("200", text)
        case Pinned(pair_id):
            return _lines("200", pair_id)
        case Evidence(oldest, count):
            notes = (oldest.first, oldest.second) if oldest else ()
            return _lines("200", str(count), *(_b64(one) for one in notes))


def parse_answer(body: bytes, request: Request) -> Answer:
    """Read the body of an answer to a request of the given kind.

    Raises:
        ProtocolError: it has no form of an answer to it.
    """
    status, _, rest = body.partition(b"\n")
    try:
        if status == b"200":
            return _parse_good(rest, request)
        lines = _split(rest)
        if status == b"409" and len(lines) == 1 and isinstance(request, AddCheckpoint):
            return Conflict(_size(lines[0]))
        if len(lines) == 2 and lines[0] in _CODE_BY_NAME and status == str(STATUS[lines[0]]).encode():
            return Refused(msgspec.convert(lines[0], Code), lines[1])
    except ChainError as error:
        raise ProtocolError(f"the witness's answer is malformed: {error}") from error
    raise ProtocolError(f"{body[:80]!r} begins no answer of a witness to such a request")


def _parse_good(rest: bytes, request: Request) -> Answer:
    if isinstance(request, AddCheckpoint):
        return Cosigned(parse_note(_SOME_TEXT.encode() + b"\n" + rest).signatures)
    if isinstance(request, ShowHead):
        parse_note(rest)
        return Head(rest)
    lines = _split(rest)
    if isinstance(request, ShowEvidence):
        notes = [_bytes(line) for line in lines[1:]]
        count = _size(lines[0])
        if len(notes) != (2 if count else 0):
            raise ProtocolError(f"{len(notes)} notes are no split view")
        return Evidence(SplitView(notes[0], notes[1]) if notes else None, count)
    if len(lines) != 1:
        raise ProtocolError("the witness's answer has more than one line")
    if isinstance(request, TellKeys):
        return Pinned(lines[0])
    try:
        return Key(VerifierKey.parse(lines[0]).format())
    except ConfigError as error:
        raise ProtocolError(f"the witness's key is malformed: {error}") from error


def _parse_add(body: bytes) -> AddCheckpoint:
    head, gap, note = body.partition(b"\n\n")
    lines = _split(head + b"\n") if gap else [""]
    if not gap or not note or len(lines) > 1 + limits.WITNESS_PROOF_HASHES:
        raise ProtocolError(
            f"a checkpoint comes behind a line with the old size, up to {limits.WITNESS_PROOF_HASHES} hashes and an "
            "empty line"
        )
    proof = tuple(_bytes(line) for line in lines[1:])
    if any(len(one) != 32 for one in proof):
        raise ProtocolError("a hash of the proof has 32 bytes")
    return AddCheckpoint(_size(lines[0].removeprefix("old ")), proof, note)


def _parse_keys(origin: str, lines: Sequence[str]) -> TellKeys:
    if not 2 <= len(lines) <= 2 + limits.WITNESS_ROTATIONS:
        raise ProtocolError(f"keys are two lines, and up to {limits.WITNESS_ROTATIONS} changes of keys")
    try:
        classic, lattice = (VerifierKey.parse(line) for line in lines[:2])
        if (classic.name, classic.algorithm, lattice.name, lattice.algorithm) != (origin, ED25519, origin, ML_DSA_65):
            raise ProtocolError("keys are an Ed25519 and then an ML-DSA-65 key with the log's origin as their name")
        rotations = [msgspec.msgpack.decode(_bytes(line), type=Rotation) for line in lines[2:]]
        for one in rotations:
            _ = one.old, one.new
        return TellKeys(origin, PublicKeys(classic.public_key, lattice.public_key), tuple(rotations))
    except (ConfigError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"the keys are malformed: {error}") from error


def _lines(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _split(data: bytes) -> list[str]:
    """Return the lines, of which there is at least one; none is empty."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"no UTF-8: {error}") from error
    lines = text.split("\n")
    if lines.pop() or not lines or not all(lines) or CONTROL.search(text):
        raise ProtocolError("not made of lines, each with text and a line feed at its end")
    return lines


def _size(text: str) -> int:
    if not _SIZE.fullmatch(text) or int(text) >= 2**63:
        raise ProtocolError(f"{text[:40]!r} is no size: a decimal number below 2^63 without leading zeros")
    return int(text)


def _bytes(text: str) -> bytes:
    if (data := decode_base64(text)) is None:
        raise ProtocolError(f"{text[:80]!r} is no base64")
    return data


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _one_line(text: str) -> str:
    """Return text that a line can have; a reason may quote what the request contained."""
    clean = CONTROL.sub(" ", text.replace("\n", " ")).encode("utf-8", "replace").decode()
    return clean[:_REASON_LETTERS] or "no reason given"
