"""Ids that name a node of any structure: what a cross-reference points from and to.

Two ways to make one. ``v1`` is the one to use: BLAKE3 in its key-derivation mode, so that no other use of BLAKE3 gives
the same value, over fields that each follow their length. ``v0`` is BLAKE3 over the plain concatenation, as older
systems have it. **v0 collides**: its fields have no bounds, so bytes may move from the end of one field to the start
of the next without changing the id (the context ``b"ab"`` before a content ``b"c"`` and ``b"a"`` before ``b"bc"``,
around an hlc that is made to fit). It is here to recognise ids made elsewhere, not to make new ones.

An id says nothing about whether its node is there.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

from blake3 import blake3

from weftos.ecc.codes import Code
from weftos.errors import UniversalIdInvalid

__all__ = ["ID_BYTES", "StructureTag", "UniversalNodeId", "decode_hook", "encode_hook"]

ID_BYTES: Final = 32
_CONTEXT: Final = "weftos.ecc.universal node id v1"


class StructureTag(Code):
    """The structure that a node belongs to: one of four, or a custom one from 0x10 to 0xFF."""

    names: ClassVar = {1: "ExoChain", 2: "ResourceTree", 3: "CausalGraph", 4: "HnswIndex"}
    customs: ClassVar = range(0x10, 0x100)
    refusal: ClassVar = UniversalIdInvalid
    EXO_CHAIN: ClassVar[StructureTag]
    RESOURCE_TREE: ClassVar[StructureTag]
    CAUSAL_GRAPH: ClassVar[StructureTag]
    HNSW_INDEX: ClassVar[StructureTag]

    __slots__ = ()


class UniversalNodeId(bytes):
    """32 bytes that name a node. ``str`` gives 64 hexadecimal digits.

    Args:
        raw: the bytes.

    Raises:
        UniversalIdInvalid: there are not 32.
    """

    ZERO: ClassVar[UniversalNodeId]

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Take the bytes of an id."""
        if len(raw) != ID_BYTES:
            raise UniversalIdInvalid(f"a universal id has {ID_BYTES} bytes, not {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def v1(cls, tag: StructureTag, context: bytes, hlc: int, content: bytes, parent: bytes) -> Self:
        """Make the id of a node.

        Args:
            tag: the structure that it is in.
            context: what it is called there.
            hlc: when it was made (:mod:`weftos.ecc.hlc`).
            content: what it holds, or a digest of that.
            parent: the id of the node that it belongs to; ``ZERO`` for none.

        Raises:
            UniversalIdInvalid: the time is no number of 64 bits.
        """
        hasher = blake3(derive_key_context=_CONTEXT)
        for field in (bytes([tag]), context, _u64(hlc), content, parent):
            hasher.update(len(field).to_bytes(8, "little"))
            hasher.update(field)
        return cls(hasher.digest())

    @classmethod
    def v0(cls, tag: StructureTag, context: bytes, hlc: int, content: bytes, parent: bytes) -> Self:
        """Make an id as older systems do, to compare with theirs. It collides, see above; for new ids there is ``v1``.

        Raises:
            UniversalIdInvalid: the time is no number of 64 bits.
        """
        return cls(blake3(bytes([tag]) + context + _u64(hlc) + content + parent).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id from its 64 hexadecimal digits, of either case.

        Raises:
            UniversalIdInvalid: it is anything else.
        """
        if len(text) != 2 * ID_BYTES or not all(digit in "0123456789abcdefABCDEF" for digit in text):
            raise UniversalIdInvalid(f"{text[:80]!r} is no universal id; one has {2 * ID_BYTES} hexadecimal digits")
        return cls(bytes.fromhex(text))

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"UniversalNodeId({self.hex()})"


UniversalNodeId.ZERO = UniversalNodeId(bytes(ID_BYTES))


def encode_hook(value: Any) -> Any:
    """Give msgspec (``enc_hook``) what it can write for an id or a number with a name: bytes, a whole number.

    Raises:
        NotImplementedError: it is neither.
    """
    if isinstance(value, UniversalNodeId):
        return bytes(value)
    if isinstance(value, Code):
        return int(value)
    raise NotImplementedError(f"no form for {type(value).__name__}")


def decode_hook(kind: type, value: Any) -> Any:
    """Make an id or a number with a name of what msgspec read (``dec_hook``).

    Raises:
        EccError: bytes or a number that are none of that kind.
        TypeError: neither bytes nor a number; msgspec makes a ``ValidationError`` of it that says where it stands.
        NotImplementedError: the kind is neither.
    """
    if issubclass(kind, UniversalNodeId):
        if isinstance(value, bytes):
            return kind(value)
    elif issubclass(kind, Code):
        if type(value) is int:  # a boolean is no number here
            return kind(value)
    else:
        raise NotImplementedError(f"no form for {kind.__name__}")
    raise TypeError(f"{type(value).__name__} makes no {kind.__name__}")


def _u64(number: int) -> bytes:
    if not 0 <= number < 1 << 64:
        raise UniversalIdInvalid(f"{number} is no time; one is a whole number from 0 to 2^64 - 1")
    return number.to_bytes(8, "little")
