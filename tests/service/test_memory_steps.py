"""The steps of ``ctx.memory`` against a service whose answers have little room: nothing asked for is missing."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import example, given

from weftos.errors import MessageTooLarge
from weftos.service.ecc_protocol import Found, GetMemory, SearchMemory
from weftos.service.memory_steps import MemorySteps
from weftos.service.protocol import Done

_ROOM = 1000


class Shelf:
    """Entries, and answers as the service gives them: documents that find no room are left out, to the end.

    Args:
        documents: of the entries, which are named by their places.
        changing: places of entries that are written anew after each search, -1 for none.
    """

    def __init__(self, documents: list[bytes], changing: int = -1) -> None:
        self.documents = documents
        self.ops = list(range(1, len(documents) + 1))
        self.changing = changing

    def answer(self, request: Any) -> Any:
        if isinstance(request, GetMemory):
            (place,) = map(int, request.ids)
            return Done({"entries": [{"id": str(place), "document": self.documents[place], "op": self.ops[place]}]})
        assert isinstance(request, SearchMemory)
        width = min(request.k, len(self.documents))
        places = [place for _ in range(request.count) for place in range(width)]
        room = _ROOM - 10 * len(places)
        if room < 0:
            return MessageTooLarge("too many")
        texts = [self.documents[place] for place in places]
        fit = sum(end <= room for end in accumulate(map(len, texts)))
        found = Found(
            request.count,
            [str(place) for place in places],
            np.zeros(len(places), "<f4").tobytes(),
            np.array([self.ops[place] for place in places], "<u8").tobytes(),
            np.zeros(len(places), "<u8").tobytes(),
            documents=texts[:fit] + [b""] * (len(texts) - fit),
            cut=any(texts[fit:]),
        )
        if self.changing in places:
            self.ops[self.changing] += len(self.documents)
        return found

    def run(self, steps: Any) -> Any:
        try:
            requests = next(steps)
            while True:
                assert len(requests) <= 3, "more would not fit the reply ring"
                requests = steps.send([self.answer(one) for one in requests])
        except StopIteration as end:
            return end.value


@given(
    sizes=st.lists(st.integers(0, _ROOM) | st.sampled_from([0, 1, 300]), min_size=1, max_size=8),
    queries=st.integers(1, 30),
    k=st.integers(1, 8),
)
@example(sizes=[_ROOM] * 5, queries=7, k=5)
@example(sizes=[300, 0, 0], queries=9, k=3)
def test_all_documents_come_along(sizes: list[int], queries: int, k: int) -> None:
    documents = [bytes([65 + place]) * size for place, size in enumerate(sizes)]
    asked = MemorySteps(100_000, 100_000).search(
        np.ones((queries, 4)), k, "space", None, documents=True, metadata=False, ef=None
    )
    rows = Shelf(documents).run(asked)
    assert len(rows) == queries
    for row in rows:
        assert [one.document for one in row] == documents[:k]


def test_what_was_changed_before_its_document_was_asked_for_is_left_out() -> None:
    asked = MemorySteps(100_000, 100_000).search(
        np.ones((1, 4)), 3, "space", None, documents=True, metadata=False, ef=None
    )
    (row,) = Shelf([b"a" * 900, b"b" * 900, b"c" * 900], changing=1).run(asked)
    assert [one.document[:1] for one in row] == [b"a", b"c"]
