"""What every provider of embeddings is: an identity, and texts to a matrix of unit vectors.

Vectors of different identities must not be compared. Whoever stores vectors stores the identity with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from weftos.ecc.embedding.identity import EmbeddingIdentity
from weftos.errors import EmbeddingInvalid, EmbeddingRefused
from weftos.limits import EMBED_BATCH, EMBED_TEXT_CHARS

__all__ = ["EmbeddingIdentity", "EmbeddingProvider", "check_texts", "normalised"]


class EmbeddingProvider(Protocol):
    """Turns texts into vectors. A provider that cannot do so raises; none falls back to another."""

    @property
    def identity(self) -> EmbeddingIdentity:
        """Which vectors these are."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Turn texts into vectors.

        Args:
            texts: at most ``EMBED_BATCH``, each of at most ``EMBED_TEXT_CHARS`` characters.

        Returns:
            One row for each text, in their order, each of length 1.

        Raises:
            EmbeddingRefused: too many texts, a text that is too long, or one in which there is nothing to embed.
        """
        ...


def check_texts(texts: Sequence[Any]) -> None:
    """Check what is given to a provider against the limits.

    Args:
        texts: as given to ``EmbeddingProvider.embed``.

    Raises:
        EmbeddingRefused: too many, too long, no text at all or only white space.
    """
    if isinstance(texts, str):
        raise EmbeddingRefused("one text was given instead of a list of texts; put it into a list")
    if len(texts) > EMBED_BATCH:
        raise EmbeddingRefused(f"{len(texts)} texts in one call, at most {EMBED_BATCH} are taken; split the batch")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise EmbeddingRefused(f"text {number} is of type {type(text).__name__}; give a str")
        if len(text) > EMBED_TEXT_CHARS:
            raise EmbeddingRefused(
                f"text {number} has {len(text)} characters, at most {EMBED_TEXT_CHARS} are taken; cut it into passages"
            )
        if not text.strip():
            raise EmbeddingRefused(f"text {number} is empty; leave it out")


def normalised(rows: NDArray[Any], whose: str) -> NDArray[np.float32]:
    """Bring vectors that someone else made to length 1.

    Args:
        rows: one vector a row, of any length but zero.
        whose: who made them, for the error.

    Raises:
        EmbeddingInvalid: a number is not finite, or a vector has no length.
    """
    wide = rows.astype(np.float64)
    if not np.isfinite(wide).all():
        raise EmbeddingInvalid(f"{whose}: a vector holds a number that is not finite")
    # By the largest number first: the square of a very large or small one is not a finite number other than zero.
    largest = np.abs(wide).max(axis=1, keepdims=True, initial=0)
    if not largest.all():
        raise EmbeddingInvalid(f"{whose}: a vector is zero, which is like nothing")
    wide /= largest
    unit: NDArray[np.float32] = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return unit
