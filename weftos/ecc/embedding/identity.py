"""Which vectors may be compared. Without NumPy, so that whoever only passes it on starts fast."""

from __future__ import annotations

import msgspec

__all__ = ["EmbeddingIdentity"]


class EmbeddingIdentity(msgspec.Struct, frozen=True):
    """Which vectors may be compared: those whose identities are equal.

    Attributes:
        name: of the provider or model.
        version: of the way from text to vector.
        dimension: numbers in a vector.
        parameters: BLAKE3 of everything else that the vectors depend on, hexadecimal.
    """

    name: str
    version: int
    dimension: int
    parameters: str
