"""The message: what an agent receives, and the bytes that cross a ring.

The struct decodes straight from the wire; the fields from ``arrival`` on are stamped by the receiving side, which
overwrites whatever a sender may have put there. So the sender's identity is the ring's identity, the id is the place in
the ring, and neither can be forged nor needs to be transmitted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from weftos.errors import ProtocolError
from weftos.ids import message_id
from weftos.ipc.payloads import PayloadTag, body_from_wire, body_to_wire, payload_type
from weftos.ipc.targets import Target, target_from_wire

__all__ = [
    "PLAIN_HEAD",
    "UNENCODABLE",
    "Arrival",
    "DecodeError",
    "KernelMessage",
    "Message",
    "MessageBatch",
    "Source",
    "decode_message",
    "decode_wire",
    "encode_batch",
    "encode_message",
    "encode_message_for",
    "encode_plain",
    "encode_wire",
    "unsendable",
]


class Source:
    """Where messages of one ring come from; shared by all of them.

    Attributes:
        pid: kernel pid of the sender: the ring's one producer.
        ring_id: the ring.
        receiver: kernel pid of this process.
        suspect: position of the message that an earlier reader died on, or -1.
        attempts: how often that message has been delivered before.
    """

    __slots__ = ("attempts", "pid", "receiver", "ring_id", "suspect")

    def __init__(self, pid: int, ring_id: int, receiver: int, suspect: int = -1, attempts: int = 0) -> None:
        self.pid = pid
        self.ring_id = ring_id
        self.receiver = receiver
        self.suspect = suspect
        self.attempts = attempts


class Arrival:
    """When and through which ring some messages came; shared by all that were taken from it at once.

    Attributes:
        source: the ring.
        received_ns: wall clock of the receiver, nanoseconds since 1970 (UTC).
    """

    __slots__ = ("received_ns", "source")

    def __init__(self, source: Source, received_ns: int) -> None:
        self.source = source
        self.received_ns = received_ns


_NOWHERE = Arrival(Source(0, 0, 0), 0)


class Envelope(msgspec.Struct, array_like=True, gc=False, eq=False):
    """What a message carries beside its payload, if it carries any of it; as in ``Message``."""

    tag: int
    payload: Any = None
    correlation: int = 0
    trace_id: str | None = None
    target_wire: str | None = None
    number: int = 0
    #: Of the receiver: what a numbered message takes in its stream (size, key, bytes); overwritten by it.
    trail: Any = None


_NO_ENVELOPE = Envelope(0)


class Message(msgspec.Struct, array_like=True, gc=False, eq=False):
    """A received message.

    Few fields, because each costs every message some 30 ns: what few messages have stands in ``envelope``, and what all
    messages of a handful share in ``arrival``.

    Attributes:
        tag: kind of the payload on the wire (see ``PayloadTag``).
        payload: ``str``, ``bytes``, ``dict``, ``list``, number, ``None``, ndarray, or one of the structured kinds.
        envelope: what else was sent, or ``None`` for a plain message; use the properties below.
        arrival: the ring it came through, and when; stamped by the receiver.
        position: place in that ring; with the ring the identity of the message; stamped by the receiver.
    """

    tag: int
    payload: Any = None
    envelope: Any = None
    arrival: Any = _NOWHERE
    position: int = 0

    @property
    def correlation(self) -> int:
        """Position of the message that this one answers, in the ring that carried it, plus 1; 0 for none."""
        envelope: Envelope = self.envelope or _NO_ENVELOPE
        return envelope.correlation

    @property
    def trace_id(self) -> str | None:
        """Id that follows a chain of messages, or ``None``."""
        envelope: Envelope = self.envelope or _NO_ENVELOPE
        return envelope.trace_id

    @property
    def target_wire(self) -> str | None:
        """The target as sent; see ``target``."""
        envelope: Envelope = self.envelope or _NO_ENVELOPE
        return envelope.target_wire

    @property
    def number(self) -> int:
        """Number of the message among all that its sender published to the topic; 0 for any other message."""
        envelope: Envelope = self.envelope or _NO_ENVELOPE
        return envelope.number

    @property
    def source(self) -> Source:
        """The ring it came through."""
        arrival: Arrival = self.arrival
        return arrival.source

    @property
    def received_ns(self) -> int:
        """Wall clock of the receiver when it came, nanoseconds since 1970 (UTC)."""
        arrival: Arrival = self.arrival
        return arrival.received_ns

    @property
    def sender(self) -> int:
        """Kernel pid of the sender, known from the ring; nobody can forge it."""
        return self.source.pid

    @property
    def id(self) -> str:
        """Identity of the message within this boot; the sender derives the same."""
        return message_id(self.source.ring_id, self.position)

    @property
    def target(self) -> Target:
        """Where the sender addressed it: this process, a topic, a broadcast or a service."""
        return target_from_wire(self.target_wire, self.source.receiver)

    @property
    def redelivered(self) -> int:
        """How often an earlier reader died while it handled this message."""
        return self.source.attempts if self.position == self.source.suspect else 0

    @property
    def timestamp(self) -> dt.datetime:
        """When it was received, UTC."""
        return dt.datetime.fromtimestamp(self.received_ns / 1e9, dt.UTC)

    @property
    def type(self) -> str:
        """Name of the payload kind, for example ``text``."""
        return payload_type(self.payload)


class MessageBatch(msgspec.Struct, gc=False, eq=False, frozen=True):
    """Several messages that were sent together and are delivered together: one unit of commit and of redelivery.

    Attributes:
        payloads: one for each message, in order.
        arrival: as in ``Message``.
        position: place of the first; the others follow, one by one.
    """

    payloads: list[Any]
    arrival: Arrival
    position: int

    @property
    def sender(self) -> int:
        """Kernel pid of the sender, known from the ring."""
        return self.arrival.source.pid

    def __len__(self) -> int:
        return len(self.payloads)

    def __iter__(self) -> Iterator[Message]:
        """Yield the messages one by one, each with an identity of its own."""
        arrival = self.arrival
        for position, payload in enumerate(self.payloads, self.position):
            yield Message(0, payload, None, arrival, position)


class KernelMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message as a record: in dead letters, events and ``--json`` output. Keys follow the reference's envelope."""

    id: str
    from_: int = msgspec.field(name="from")
    target: Target
    payload_type: str
    payload: Any
    timestamp: dt.datetime
    correlation_id: str | None = None
    trace_id: str | None = None


#: The bare encoder, for a hot path; raises ``UNENCODABLE``.
encode_wire: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
#: First byte of a message that is nothing but tag and payload: the head of an array of two.
PLAIN_HEAD: Final = 0x92
#: The bare decoder for what begins with ``PLAIN_HEAD``, for a hot path that checks head and tag itself; raises
#: ``DecodeError``.
decode_wire: Callable[[bytes], Message] = msgspec.msgpack.Decoder(Message).decode
_decode_envelope: Callable[[bytes], Envelope] = msgspec.msgpack.Decoder(Envelope).decode
#: What ``encode_wire`` raises on what MessagePack cannot hold.
UNENCODABLE: Final = (TypeError, OverflowError, RecursionError, UnicodeEncodeError)
#: What ``decode_wire`` raises on bytes that are no message.
DecodeError: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def encode_plain(payload: Any) -> bytes:
    """Encode a message with nothing but a plain payload: the fast way of ``encode_message``.

    Raises:
        ProtocolError: the payload holds something that MessagePack cannot.
    """
    try:
        return encode_wire((0, payload))
    except UNENCODABLE as error:
        raise unsendable(payload, error) from error


def encode_batch(payloads: Sequence[Any]) -> bytes:
    """Encode plain payloads as one unit.

    Raises:
        ProtocolError: a payload holds something that MessagePack cannot.
    """
    try:
        return encode_wire((int(PayloadTag.BATCH), payloads))
    except UNENCODABLE as error:
        raise unsendable(payloads, error) from error


def unsendable(payload: Any, error: Exception) -> ProtocolError:
    """The error for a payload that cannot travel."""
    return ProtocolError(f"payload of type {type(payload).__name__} cannot be sent: {error}")


def encode_message(
    payload: Any, correlation: int = 0, trace_id: str | None = None, target_wire: str | None = None, number: int = 0
) -> bytes:
    """Encode a message without array data; ``number`` counts the messages to a topic.

    Raises:
        ProtocolError: the payload holds something that MessagePack cannot.
    """
    tag, body = body_to_wire(payload)
    try:
        if number:
            return encode_wire((tag, body, correlation, trace_id, target_wire, number))
        if correlation or trace_id is not None or target_wire is not None:
            return encode_wire((tag, body, correlation, trace_id, target_wire))
        return encode_wire((tag, body))
    except UNENCODABLE as error:
        raise unsendable(payload, error) from error


def encode_message_for(
    array: np.ndarray[Any, Any],
    correlation: int = 0,
    trace_id: str | None = None,
    target_wire: str | None = None,
    number: int = 0,
) -> bytes:
    """Encode the envelope that travels beside an array; the data itself is the ring's business."""
    assert isinstance(array, np.ndarray)
    if number:
        return encode_wire((int(PayloadTag.ARRAY), None, correlation, trace_id, target_wire, number))
    return encode_wire((int(PayloadTag.ARRAY), None, correlation, trace_id, target_wire))


def decode_message(data: bytes, array: np.ndarray[Any, Any] | None = None) -> Message:
    """Decode one message; the caller stamps the receiver's fields.

    Args:
        data: the envelope, already copied out of shared memory.
        array: data that travelled beside it, if the record was an array record.

    Raises:
        ProtocolError: the bytes are not a message of this vocabulary.
    """
    try:
        if data[:1] == b"\x92":
            message = decode_wire(data)
        else:
            envelope = _decode_envelope(data)
            message = Message(envelope.tag, envelope.payload, envelope)
            envelope.payload = envelope.trail = None
            if not 0 <= envelope.number < 1 << 63:
                raise ProtocolError(f"{envelope.number} is no number of a message")
    except DecodeError as error:
        raise ProtocolError(f"not a message: {error}") from error
    tag = message.tag
    if tag == 0 and array is None:
        return message
    if tag == PayloadTag.BATCH:
        if type(message.payload) is not list or not message.payload or array is not None:
            raise ProtocolError("a batch holds at least one message")
        return message
    if (tag == PayloadTag.ARRAY) != (array is not None):
        raise ProtocolError("array data and envelope disagree")
    message.payload = array if array is not None else body_from_wire(tag, message.payload)
    return message
