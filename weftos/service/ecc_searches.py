"""Searches of one round, answered together: one call of the index for all that ask the same way in the same space.

Why it is as it is: a call of the index has a price of its own, and a batch of vectors shares it. Agents that each wait
for one answer make a batch together.

Guaranteed: every search is answered, in the order given. Documents that do not fit an answer are left out, from the
first of them on, and the answer says so.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.ecc.vectors.model import Content, Hits
from weftos.errors import MessageTooLarge, WeftError
from weftos.service import protocol as p
from weftos.service.cognition import Cognition
from weftos.service.ecc_protocol import Found, SearchMemory

__all__ = ["Search", "answer_searches"]

#: Bytes of a match around its texts: three numbers, three lengths, and a map without fields.
_MATCH_BYTES: Final = 4 + 8 + 8 + 3 * 5 + 1
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
    answers: list[p.Reply] = []
    begin, width = 0, hits.scores.shape[1]
    for one in searches:
        end = begin + one.request.count * width
        answers.append(_fitting(hits, slice(begin, end), one))
        begin = end
    return answers


def _fitting(hits: Hits, part: slice, search: Search) -> p.Reply:
    entries = hits.entries
    ids, raw, documents = entries.ids[part], entries.raw[part], entries.documents[part]
    room = search.reply_bytes - limits.SERVICE_ANSWER_HEAD_BYTES
    room -= len(ids) * _MATCH_BYTES + len("".join(ids).encode()) + sum(map(len, raw))
    if room < 0:
        return p.Failed(
            MessageTooLarge.code, "the matches do not fit one answer; ask for a smaller k, or fewer vectors"
        )
    ends = list(accumulate(map(len, documents)))
    fit = bisect_right(ends, room)
    cut = any(documents[fit:])
    return Found(
        search.request.count,
        ids,
        hits.scores.ravel()[part].astype("<f4", copy=False).tobytes(),
        entries.ops[part].astype("<u8", copy=False).tobytes(),
        hits.chain_seqs[part].astype("<u8", copy=False).tobytes(),
        # As they are on disk, which is as they travel.
        [msgspec.Raw(one or _NO_FIELDS) for one in raw],  # type: ignore[misc]
        documents[:fit] + [b""] * (len(documents) - fit),
        cut,
    )
