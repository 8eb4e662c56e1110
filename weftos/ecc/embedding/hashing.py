"""The provider that needs no model: signed hashing of words, their stems and their character n-grams.

A word adds to a vector: itself, its stem, and the n-grams of ``<word>``, each at a place and with a sign that
BLAKE3 of the feature gives. A word that occurs t times counts 1 + ln t times. Names in code count whole and by their
parts (``read_file``, ``readFile``: read, file). Common English words count little. There is no state besides these
rules, so the same text gives the same vector everywhere and at any time.

Guaranteed: all sums are of integers, and the one root and the division are rounded as IEEE 754 says; so vectors are
equal bit for bit on every machine whose Python has the same tables of Unicode, in every batch and order. Not
guaranteed: likeness of meaning without likeness of words; that takes a trained model.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import blake3
import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from weftos.ecc.embedding.provider import EmbeddingIdentity, check_texts
from weftos.errors import EmbeddingRefused
from weftos.limits import (
    EMBED_DIMENSION,
    EMBED_DIMENSION_MAX,
    EMBED_DIMENSION_MIN,
    EMBED_WORD_CHARS,
    EMBED_WORDS_REMEMBERED,
)

__all__ = ["HashingParameters", "HashingProvider", "stems_of", "words_of"]

_VERSION: Final = 1
_TOKEN: Final = re.compile(r"\w+")
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+|\d+")
#: One, in the integers that are added: fine enough that a rounded weight is within a hundredth.
_UNIT: Final = 64
_STOP: Final = frozenset(
    """
    a about all also an and any are as at be been but by can do does each for from had has have how if in into is
    it its may more most no not of on one only or other our same should so such than that the their them then
    there these they this to was we were what when where which who why will with without would you your
    """.split()  # noqa: SIM905
)
_ENDINGS: Final = ("ations", "ation", "ings", "ing", "edly", "ies", "ed", "es", "ly", "s", "e")
#: What remains of a word without its ending must still say something.
_STEM_CHARS: Final = 3


class HashingParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the vectors depend on; part of the identity.

    Attributes:
        dimension: numbers in a vector.
        shortest: characters of the shortest n-gram.
        longest: characters of the longest n-gram.
        word: weight of a whole word, in percent.
        stem: weight of its stem, in percent.
        grams: length of all its n-grams together, in percent.
        common: weight of a common English word, in percent of any other.
    """

    dimension: int = EMBED_DIMENSION
    shortest: int = 3
    longest: int = 5
    word: int = 100
    stem: int = 100
    grams: int = 70
    common: int = 10


class HashingProvider:
    """Signed hashing of words and n-grams (see the module).

    Args:
        parameters: what the vectors depend on.

    Raises:
        EmbeddingRefused: a parameter is out of its range.
    """

    def __init__(self, parameters: HashingParameters | None = None) -> None:
        chosen = parameters or HashingParameters()
        if not EMBED_DIMENSION_MIN <= chosen.dimension <= EMBED_DIMENSION_MAX:
            raise EmbeddingRefused(
                f"dimension {chosen.dimension} is not in {EMBED_DIMENSION_MIN} to {EMBED_DIMENSION_MAX}"
            )
        if not 1 <= chosen.shortest <= chosen.longest <= EMBED_WORD_CHARS:
            raise EmbeddingRefused(f"n-grams of {chosen.shortest} to {chosen.longest} characters; 3 to 5 are usual")
        weights = (chosen.word, chosen.stem, chosen.grams, chosen.common)
        if not all(0 <= weight <= 1000 for weight in weights) or not (chosen.word and chosen.common):
            raise EmbeddingRefused(f"weights {weights} percent; each is 0 to 1000, that of words and common at least 1")
        self._parameters = chosen
        rules = [chosen, _UNIT, sorted(_STOP), _ENDINGS, _STEM_CHARS, EMBED_WORD_CHARS, _TOKEN.pattern, _PART.pattern]
        digest = blake3.blake3(msgspec.msgpack.encode(rules)).hexdigest()
        self._identity = EmbeddingIdentity("weftos-hashing", _VERSION, chosen.dimension, digest)
        self._known: dict[str, tuple[list[int], list[int]]] = {}

    @property
    def identity(self) -> EmbeddingIdentity:
        """Which vectors these are."""
        return self._identity

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Turn texts into vectors; see ``EmbeddingProvider.embed``."""
        check_texts(texts)
        if len(self._known) > EMBED_WORDS_REMEMBERED:
            self._known.clear()
        places: dict[str, int] = {}
        starts, columns, counts = [0], [], []
        for text in texts:
            # Signs alone, as in a line of code or a rule of dashes, are taken as one word.
            for word, times in Counter(words_of(text) or [text.strip()[:EMBED_WORD_CHARS]]).items():
                columns.append(places.setdefault(word, len(places)))
                counts.append(_times(times))
            starts.append(len(columns))
        dimension = self._parameters.dimension
        shape = len(texts), len(places)
        of_texts = sparse.csr_matrix((np.array(counts, np.int64), columns, starts), shape=shape)
        sums: NDArray[Any] = (of_texts @ self._features(list(places))).toarray()
        lengths = np.sqrt((sums * sums).sum(axis=1).astype(np.float64)).reshape(-1, 1)
        if not lengths.all():
            number = int(np.argmin(lengths))
            raise EmbeddingRefused(f"the features of text {number} cancel out; embed it with more text around it")
        vectors: NDArray[np.float32] = (sums.reshape(len(texts), dimension) / lengths).astype(np.float32)
        return vectors

    def _features(self, words: list[str]) -> Any:
        starts, columns, values = [0], [], []
        for word in words:
            found = self._known.get(word)
            if found is None:
                found = self._known[word] = self._of_word(word)
            columns += found[0]
            values += found[1]
            starts.append(len(columns))
        shape = len(words), self._parameters.dimension
        return sparse.csr_matrix((np.array(values, np.int64), columns, starts), shape=shape)

    def _of_word(self, word: str) -> tuple[list[int], list[int]]:
        """Places and weights of all features of one word."""
        chosen = self._parameters
        share = chosen.common if word in _STOP else 100
        features: list[tuple[bytes, float]] = [(b"w" + _bytes(word), chosen.word)]
        if chosen.stem:
            features.append((b"s" + _bytes(_stem(word)), chosen.stem))
        edged = f"<{word}>"
        grams = [
            edged[first : first + size]
            for size in range(chosen.shortest, chosen.longest + 1)
            for first in range(len(edged) - size + 1)
        ]
        if chosen.grams and grams:
            # A long word has many n-grams; together they count the same as those of a short one.
            features += [(b"g" + _bytes(gram), chosen.grams / math.sqrt(len(grams))) for gram in grams]
        sums: Counter[int] = Counter()
        for feature, weight in features:
            place, sign = _place(feature, chosen.dimension)
            sums[place] += sign * max(1, round(_UNIT * weight * share / 10_000)) if weight else 0
        return list(sums), list(sums.values())


def words_of(text: str) -> list[str]:
    """The words of a text in their order, in lower case; names in code whole and by their parts.

    Args:
        text: any text.

    Returns:
        Words, each of at most ``EMBED_WORD_CHARS`` characters.
    """
    found = []
    for token in _TOKEN.findall(unicodedata.normalize("NFKC", text)):
        whole = token.strip("_")
        if not whole:
            continue
        found.append(whole.casefold()[:EMBED_WORD_CHARS])
        if not (whole.islower() and whole.isalpha()):
            parts = _PART.findall(whole)
            if len(parts) > 1:
                found += [part.casefold()[:EMBED_WORD_CHARS] for part in parts]
    return found


def stems_of(text: str) -> list[str]:
    """The words of a text as a ranking by words takes them: in lower case, names split, stems, no common words.

    Args:
        text: any text.
    """
    return [_stem(word) for word in words_of(text) if word not in _STOP]


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_CHARS:
            return word[: -len(ending)]
    return word


def _times(times: int) -> int:
    return round(16 * (1 + math.log(times)))


def _bytes(text: str) -> bytes:
    # A lone surrogate comes from names of files that are not UTF-8; it is a feature like any other.
    return text.encode("utf-8", "surrogatepass")


def _place(feature: bytes, dimension: int) -> tuple[int, int]:
    number = int.from_bytes(blake3.blake3(feature).digest(length=8), "little")
    return (number >> 1) % dimension, 1 if number & 1 else -1
