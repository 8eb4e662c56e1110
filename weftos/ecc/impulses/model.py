"""What an impulse is, what a queue of them is set to, and what it tells about itself."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from weftos import limits
from weftos.ecc.codes import Code
from weftos.ecc.universal import StructureTag, UniversalNodeId
from weftos.errors import ImpulseRefused

__all__ = [
    "Cursor",
    "Delivery",
    "Impulse",
    "ImpulseSettings",
    "ImpulseStatistics",
    "ImpulseType",
    "Overflow",
    "encode_payload",
]


class ImpulseType(Code):
    """What an impulse says. Custom ones are numbered 0 to 255, apart from the named."""

    names: ClassVar = {
        1: "BeliefUpdate",
        2: "CoherenceAlert",
        3: "NoveltyDetected",
        4: "EdgeConfirmed",
        5: "EmbeddingRefined",
    }
    custom_base: ClassVar = 0x100
    custom_form: ClassVar = "Custom({})"
    refusal: ClassVar = ImpulseRefused
    BELIEF_UPDATE: ClassVar[ImpulseType]
    COHERENCE_ALERT: ClassVar[ImpulseType]
    NOVELTY_DETECTED: ClassVar[ImpulseType]
    EDGE_CONFIRMED: ClassVar[ImpulseType]
    EMBEDDING_REFINED: ClassVar[ImpulseType]

    __slots__ = ()


class Impulse(msgspec.Struct, frozen=True):
    """An impulse.

    Attributes:
        id: number in its queue, from 1, never used again.
        type: what it says.
        source_structure: where it comes from.
        source_node: the node there that it is about.
        target_structure: whom it is for.
        hlc: when it was emitted (:mod:`weftos.ecc.hlc`).
        strength: what it had when it was emitted, above 0 to 1; it halves with the half-life of the queue.
        payload: JSON in UTF-8, an object with its keys sorted.
    """

    id: int
    type: ImpulseType
    source_structure: StructureTag
    source_node: UniversalNodeId
    target_structure: StructureTag
    hlc: int
    strength: float
    payload: bytes

    @property
    def content(self) -> dict[str, Any]:
        """The payload, decoded."""
        found: dict[str, Any] = msgspec.json.decode(self.payload)
        return found


class Delivery(msgspec.Struct, frozen=True):
    """An impulse that was handed out.

    Attributes:
        impulse: the impulse.
        attempt: how often it was handed out, from 1; above 1 it may have been worked on before.
        strength: what is left of its strength.
    """

    impulse: Impulse
    attempt: int
    strength: float


class Overflow(enum.Enum):
    """What a full queue does with a new impulse."""

    REFUSE = "refuse"
    DROP_WEAKEST = "drop-weakest"


class ImpulseSettings(msgspec.Struct, frozen=True):
    """What a queue is set to.

    Attributes:
        max_count: impulses that wait or are handed out.
        max_bytes: bytes that they have, each with ``IMPULSE_OVERHEAD_BYTES`` for what is around its payload.
        overflow: what happens beyond that.
        lease_ms: milliseconds until one that was handed out and not done is handed out again.
        max_attempts: how often one is handed out before it is dead.
        max_dead: dead ones that are kept; of more, the oldest goes.
        half_life_ms: milliseconds in which strength halves; None: it stays.
        floor: strength below which one expires.
    """

    max_count: int = limits.IMPULSES
    max_bytes: int = limits.IMPULSES_BYTES
    overflow: Overflow = Overflow.REFUSE
    lease_ms: int = limits.IMPULSE_LEASE_MS
    max_attempts: int = limits.IMPULSE_ATTEMPTS
    max_dead: int = limits.IMPULSES_DEAD
    half_life_ms: int | None = limits.IMPULSE_HALF_LIFE_MS
    floor: float = limits.IMPULSE_FLOOR

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ImpulseRefused: a setting is out of its range.
        """
        least = {"max_count": 1, "max_bytes": 1, "lease_ms": 1, "max_attempts": 1, "max_dead": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ImpulseRefused(f"{name} is {getattr(self, name)}; set it to {bound} or more")
        if self.half_life_ms is not None and self.half_life_ms < 1:
            raise ImpulseRefused(f"half_life_ms is {self.half_life_ms}; set it to 1 or more, or to none")
        if not 0 <= self.floor < 1:
            raise ImpulseRefused(f"floor is {self.floor}; set it to 0 or more, below 1")


class Cursor(msgspec.Struct, frozen=True):
    """How far the impulses for one structure were worked off.

    Attributes:
        hlc: time of the latest that is done, in the order (hlc, id); 0 if none.
        id: its number.
        ready: how many wait.
        leased: how many are handed out.
        done: how many were done.
    """

    hlc: int
    id: int
    ready: int
    leased: int
    done: int


class ImpulseStatistics(msgspec.Struct, frozen=True):
    """What a queue tells about itself.

    Counted since the queue was made: ``emitted = ready + leased + done + dead + sum of dropped``.

    Attributes:
        ready: impulses that wait.
        leased: impulses that are handed out.
        dead: impulses that are kept as dead.
        size: bytes of the ready and the leased.
        emitted: impulses that were queued.
        delivered: how often one was handed out.
        redelivered: those of them that were no first attempt.
        done: impulses that were done.
        dropped: impulses that went without being done, by reason: ``weakest`` (the queue was full), ``expired`` (below
            the floor), ``dead`` (too many dead ones), ``purged`` (taken out of the dead on request).
        refused: impulses that were not queued because the queue was full; since it was opened.
        cursors: by structure, in order.
    """

    ready: int
    leased: int
    dead: int
    size: int
    emitted: int
    delivered: int
    redelivered: int
    done: int
    dropped: dict[str, int]
    refused: int
    cursors: dict[str, Cursor]


_LARGEST: Final = (1 << 64) - 1


def encode_payload(payload: Mapping[str, Any]) -> bytes:
    """Encode a payload as JSON with its keys sorted, so that equal payloads have equal bytes.

    Raises:
        ImpulseRefused: it is no JSON object, or larger or deeper than the limits.
    """
    _check_json(payload, limits.IMPULSE_PAYLOAD_DEPTH)
    if not isinstance(payload, Mapping):
        raise ImpulseRefused(f"a payload is an object, not of type {type(payload).__name__}; give a dict")
    try:
        encoded = msgspec.json.encode(dict(payload), order="sorted")
    except (UnicodeEncodeError, TypeError) as error:
        raise ImpulseRefused(f"the payload cannot be written as JSON: {error}") from error
    if len(encoded) > limits.IMPULSE_PAYLOAD_BYTES:
        raise ImpulseRefused(
            f"a payload of {len(encoded)} bytes is too large, at most {limits.IMPULSE_PAYLOAD_BYTES} are taken; keep "
            "the content as an artifact and name it in the payload"
        )
    return encoded


def _check_json(value: Any, depth: int) -> None:
    """Refuse what JSON does not have, or would be read back as something else."""
    if depth < 0:
        raise ImpulseRefused(f"a payload nests at most {limits.IMPULSE_PAYLOAD_DEPTH} deep; make it flatter")
    match value:
        case None | bool() | str():
            return
        case int():
            if not -(1 << 63) <= value <= _LARGEST:
                raise ImpulseRefused(f"{value} does not fit 64 bits; write it as text")
        case float():
            if not math.isfinite(value):
                raise ImpulseRefused(f"JSON has no {value}; leave it out, or write it as text")
        case list() | tuple():
            for item in value:
                _check_json(item, depth - 1)
        case Mapping():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise ImpulseRefused(f"the key {key!r} is no text; JSON has no other keys")
                _check_json(item, depth - 1)
        case _:
            raise ImpulseRefused(f"JSON has no {type(value).__name__}; convert it first")
