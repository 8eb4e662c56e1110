"""A record: what is hashed, in which bytes, and how it looks to a reader.

Why it is as it is: the header part holds everything that must stay for ever, and of the payload only the hash; so a
payload can be withheld later while the chain of hashes still holds. The payload's hash covers 16 random bytes in front
of it, so that a withheld payload of few possible contents cannot be found out by trying them. Each header carries the
hash of the one before it: one changed bit changes every hash that follows.

Guaranteed: equal fields give equal bytes; a record's hash covers every field of it. Not guaranteed here: any order or
authenticity; the files and the signed head add those. Byte for byte: docs/formats/chain.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from blake3 import blake3

from weftos import limits
from weftos.chain.records.canonical import decode_payload

__all__ = [
    "KEY_PREFIX",
    "SALT_BYTES",
    "ZERO_HASH",
    "Ack",
    "Head",
    "Header",
    "NewEvent",
    "Record",
    "payload_hash",
    "record_hash",
]

#: Version of the header part.
RECORD_VERSION: Final = 1
#: Random bytes in front of each payload.
SALT_BYTES: Final = 16
#: What the producer of a record begins with that was appended under a key; the key follows.
KEY_PREFIX: Final = "key:"
#: ``prev_hash`` of the first record.
ZERO_HASH: Final = bytes(32)
#: Separates a record's hash from all other uses of BLAKE3 here.
LEAF_TAG: Final = b"exo/leaf/v1"

_Bin16: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Bin32: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class NewEvent(msgspec.Struct, frozen=True):
    """An event to be appended.

    Attributes:
        source: who says it, stamped by whoever knows, such as ``kernel`` or ``agent:7``.
        kind: what happened; see ``kinds``.
        payload: details; see ``canonical`` for what it may hold.
        subject: whom or what it is about, or ``None``.
        cause: sequence number of the event that led to it, or ``None``.
        producer: names the stream it came from within this boot, or ``None`` if it cannot be submitted twice.
        position: place in that stream, 64 bit unsigned; with ``producer`` the idempotency pair.
        permit: id of the permit it was done under, or ``None``.
        key: stands in the record in place of a producer, with ``KEY_PREFIX`` in front; then ``position`` only informs.
            The writer does not compare keys, see ``log_index``.
    """

    source: str
    kind: str
    payload: dict[str, Any] = {}
    subject: str | None = None
    cause: int | None = None
    producer: str | int | None = None
    position: int | None = None
    permit: str | None = None
    key: str | None = None


class Ack(msgspec.Struct, frozen=True, gc=False):
    """What an append is answered with.

    Attributes:
        seq: sequence number, from 0.
        hash: the record's hash, 32 bytes.
        t_ns: its wall-clock time, nanoseconds since 1970 UTC.
    """

    seq: int
    hash: bytes
    t_ns: int


class Head(msgspec.Struct, frozen=True):
    """The state of a log.

    Attributes:
        seq: number of the newest record.
        hash: its hash, 32 bytes.
        t_ns: its time, nanoseconds since 1970 UTC.
    """

    seq: int
    hash: bytes
    t_ns: int


class Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The header part as it is encoded: a msgpack array of these fields in this order.

    Attributes:
        v: version of the format, 1.
        log_id: 16 random bytes that name the log.
        seq: sequence number; the first record has 0.
        t_ns: wall clock, nanoseconds since 1970 UTC; never less than that of the record before.
        t_mono_ns: monotonic clock of the machine, nanoseconds; comparable within one boot only.
        boot_id: 16 bytes that name the boot of the kernel.
        source: see ``NewEvent``; likewise ``kind``, ``subject``, ``producer``, ``position``, ``cause``, ``permit``.
        payload_hash: BLAKE3 over salt and payload, 32 bytes.
        payload_len: bytes of the payload without the salt.
        prev_hash: hash of the record before; zeros in the first.
    """

    v: int
    log_id: _Bin16
    seq: _Natural
    t_ns: _Natural
    t_mono_ns: _Natural
    boot_id: _Bin16
    source: str
    kind: str
    subject: str | None
    producer: str | int | None
    position: _Natural | None
    cause: _Natural | None
    permit: str | None
    payload_hash: _Bin32
    payload_len: Annotated[int, msgspec.Meta(ge=0, le=limits.CHAIN_PAYLOAD_BYTES)]
    prev_hash: _Bin32


#: Encodes a header given as ``Header`` or as a tuple of its fields, which is faster to make.
encode_header = msgspec.msgpack.Encoder().encode
#: Decodes a header part; lets ``UnicodeDecodeError`` through, which ``decode_header`` does not.
HEADER_DECODER: Final = msgspec.msgpack.Decoder(Header)
_decode_header = HEADER_DECODER.decode


def decode_header(data: bytes) -> Header:
    """Decode a header part.

    Raises:
        msgspec.DecodeError: it is none.
    """
    try:
        return _decode_header(data)
    except UnicodeDecodeError as error:  # msgspec lets it through
        raise msgspec.DecodeError(f"a text is not UTF-8: {error}") from error


def record_hash(header: bytes) -> bytes:
    """Return the hash of a record, 32 bytes, from its encoded header part."""
    return blake3(LEAF_TAG + header).digest()


def payload_hash(salted: bytes) -> bytes:
    """Return the hash of a payload, 32 bytes, from its salt followed by its bytes."""
    return blake3(salted).digest()


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as read from a file.

    Attributes:
        header: its decoded header part.
        header_bytes: the same as stored.
        salted: salt and payload as stored.
        hash: the record's hash, 32 bytes.
    """

    header: Header
    header_bytes: bytes
    salted: bytes
    hash: bytes

    @property
    def seq(self) -> int:
        """Sequence number."""
        return self.header.seq

    @property
    def t_ns(self) -> int:
        """Wall-clock time, nanoseconds since 1970 UTC."""
        return self.header.t_ns

    @property
    def source(self) -> str:
        """Who said it."""
        return self.header.source

    @property
    def kind(self) -> str:
        """What happened."""
        return self.header.kind

    @property
    def subject(self) -> str | None:
        """Whom or what it is about."""
        return self.header.subject

    @property
    def withheld(self) -> bool:
        """Whether the payload was taken away; its hash is still in the header."""
        return not self.salted

    @property
    def payload_bytes(self) -> bytes:
        """The payload as stored, without its salt."""
        return self.salted[SALT_BYTES:]

    @property
    def payload(self) -> dict[str, Any]:
        """The decoded payload; empty if it is withheld.

        Raises:
            msgspec.DecodeError: it is no msgpack map with text keys.
        """
        return decode_payload(self.payload_bytes) if self.salted else {}

    def view(self) -> dict[str, Any]:
        """Return the record as plain values that JSON can hold; bytes become hex digits.

        A payload that cannot be decoded, because somebody forged it, is shown as ``unreadable`` with the reason and
        its bytes: whoever looks at the log wants to see such a record, not to fail at it.
        """
        h = self.header
        shown: dict[str, Any] = {
            "seq": h.seq,
            "t_ns": h.t_ns,
            "t_mono_ns": h.t_mono_ns,
            "boot_id": h.boot_id.hex(),
            "source": h.source,
            "kind": h.kind,
            "subject": h.subject,
            "producer": h.producer,
            "position": h.position,
            "cause": h.cause,
            "permit": h.permit,
            "payload": self._shown_payload(),
            "withheld": self.withheld,
            "payload_hash": h.payload_hash.hex(),
            "prev_hash": h.prev_hash.hex(),
            "hash": self.hash.hex(),
        }
        return shown

    def _shown_payload(self) -> Any:
        if self.withheld:
            return None
        try:
            return plain(self.payload)
        except msgspec.DecodeError as error:
            return {"unreadable": str(error), "bytes": self.payload_bytes.hex()}


def plain(value: Any) -> Any:
    """Return a payload's value with all bytes as hex digits, so that JSON can hold it."""
    kind = type(value)
    if kind is bytes:
        return value.hex()
    if kind is dict:
        return {key: plain(item) for key, item in value.items()}
    if kind is list:
        return [plain(item) for item in value]
    return value
