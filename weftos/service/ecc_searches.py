"""Searches of one round, answered together: one call of the index for all that ask the same way in the same space.

Why it is as it is: a call of the index has a price of its own, and a batch of vectors shares it. Agents that each wait
for one answer make a batch together.

Guaranteed: every search is answered, in the order given. Documents that do not fit an answer are left out, from the
last match on, and the answer says so.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.ecc.vectors.model import Hit
from weftos.errors import MessageTooLarge, WeftError
from weftos.service import protocol as p
from weftos.service.cognition import Cognition
from weftos.service.ecc_protocol import Found, Match, SearchMemory

__all__ = ["Search", "answer_searches"]

#: Bytes of a match around its texts: numbers, lengths, names of fields.
_MATCH_BYTES: Final = 64
_FIELD_BYTES: Final = 24
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
    try:
        with cognition.guarded():
            rows = cognition.vectors.search(
                r.space,
                vectors,
                r.k,
                condition=r.condition,
                ef=r.ef,
                documents=r.documents,
                metadata=r.metadata,
            )
    except WeftError as error:
        if len(searches) > 1:
            # One of them is at fault; each gets its own answer.
            return [_together(cognition, [one])[0] for one in searches]
        return [p.Failed(error.code, str(error)[: limits.SERVICE_REFUSAL_CHARS])]
    answers: list[p.Reply] = []
    begin = 0
    for one in searches:
        answers.append(_fitting(rows[begin : begin + one.request.count], one.reply_bytes))
        begin += one.request.count
    return answers


def _fitting(rows: list[list[Hit]], reply_bytes: int) -> p.Reply:
    room = reply_bytes - limits.SERVICE_ANSWER_HEAD_BYTES
    cut = False
    matches: list[list[Match]] = []
    for row in rows:
        found: list[Match] = []
        for hit in row:
            document = hit.document
            size = _MATCH_BYTES + 4 * len(hit.id) + _size(hit)
            if size + len(document) > room:
                document, cut = b"", True
            room -= size + len(document)
            found.append(Match(hit.id, hit.score, hit.op, hit.chain_seq, hit.metadata, document))
        matches.append(found)
    if room < 0:
        return p.Failed(
            MessageTooLarge.code, "the matches do not fit one answer; ask for a smaller k, or fewer vectors"
        )
    return Found(matches, cut)


def _size(hit: Hit) -> int:
    size = 0
    for name, value in hit.metadata.items():
        size += _FIELD_BYTES + 4 * len(name) + (4 * len(value) if isinstance(value, str) else 0)
    return size
