"""Searches of one round, answered together: one call of the index for all that ask the same way in the same space.

Why it is as it is: a call of the index has a price of its own, and a batch of vectors shares it. Agents that each wait
for one answer make a batch together.

Guaranteed: every search is answered, in the order given. Documents that do not fit an answer are left out, from the
first of them on, and the answer says so.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.ecc.vectors.model import Content
from weftos.errors import MessageTooLarge, WeftError
from weftos.service import protocol as p
from weftos.service.cognition import Cognition
from weftos.service.ecc_protocol import Found, SearchMemory

__all__ = ["Search", "answer_searches"]

#: Bytes of a match around its texts: three numbers, three lengths, and a map without fields.
_MATCH_BYTES: Final = 4 + 8 + 8 + 3 * 5 + 1
#: Of scores, numbers of changes and numbers of records, as they travel.
_FORMS: Final[tuple[np.dtype[Any], ...]] = np.dtype("<f4"), np.dtype("<u8"), np.dtype("<u8")
_NO_FIELDS: Final = msgspec.msgpack.encode({})
_encode = msgspec.msgpack.Encoder().encode


class Search(NamedTuple):
    """A search that may be made.

    Attributes:
        request: as it was asked.
        vectors: its vectors, one a row.
        reply_bytes: longest answer.
    """

    request: SearchMemory
    vectors: NDArray[np.float32]
    reply_bytes: int


def answer_searches(cognition: Cognition, searches: list[Search]) -> list[p.Reply]:
    """Make searches and return their answers, in order."""
    if len(searches) == 1:
        return _together(cognition, searches)
    groups: dict[object, list[int]] = {}
    for place, one in enumerate(searches):
        r = one.request
        condition = _encode(r.condition) if r.condition is not None else b""
        groups.setdefault((r.space, r.k, r.ef, r.documents, r.metadata, condition), []).append(place)
    replies: dict[int, p.Reply] = {}
    for places in groups.values():
        replies |= zip(places, _together(cognition, [searches[place] for place in places]), strict=True)
    return [replies[place] for place in range(len(searches))]


def _together(cognition: Cognition, searches: list[Search]) -> list[p.Reply]:
    r = searches[0].request
    vectors = searches[0].vectors if len(searches) == 1 else np.vstack([one.vectors for one in searches])
    content: Content = "all" if r.documents else "metadata" if r.metadata else "none"
    try:
        with cognition.guarded:
            hits = cognition.vectors.search_columns(
                r.space, vectors, r.k, condition=r.condition, ef=r.ef, content=content
            )
    except WeftError as error:
        if len(searches) > 1:
            # One of them is at fault; each gets its own answer.
            return [_together(cognition, [one])[0] for one in searches]
        return [p.Failed(error.code, str(error)[: limits.SERVICE_REFUSAL_CHARS])]
    entries = hits.entries
    columns: tuple[NDArray[Any], ...] = hits.scores.ravel(), entries.ops, hits.chain_seqs
    numbers: list[NDArray[Any]] = [one.astype(form, copy=False) for one, form in zip(columns, _FORMS, strict=True)]
    answers: list[p.Reply] = []
    begin, width = 0, hits.scores.shape[1]
    for one in searches:
        end = begin + one.request.count * width
        part = slice(begin, end)
        texts = entries.ids[part], entries.raw[part], entries.documents[part]
        answers.append(_fitting(*texts, [column[part] for column in numbers], one))
        begin = end
    return answers


def _fitting(
    ids: list[str], raw: list[bytes], documents: list[bytes], numbers: list[NDArray[Any]], search: Search
) -> p.Reply:
    room = search.reply_bytes - limits.SERVICE_ANSWER_HEAD_BYTES
    room -= len(ids) * _MATCH_BYTES + len("".join(ids).encode()) + sum(map(len, raw))
    if room < 0:
        return p.Failed(
            MessageTooLarge.code, "the matches do not fit one answer; ask for a smaller k, or fewer vectors"
        )
    cut = False
    if documents:
        fit = bisect_right(list(accumulate(map(len, documents))), room)
        cut = any(documents[fit:])
        documents = documents[:fit] + [b""] * (len(documents) - fit)
    scores, ops, chain_seqs = numbers
    return Found(
        search.request.count,
        ids,
        scores.tobytes(),
        ops.tobytes(),
        chain_seqs.tobytes(),
        # As they are on disk, which is as they travel.
        [msgspec.Raw(one or _NO_FIELDS) for one in raw],  # type: ignore[misc]
        documents,
        cut,
    )
