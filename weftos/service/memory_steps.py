"""What ``ctx.memory`` and ``ctx.causal`` do, step by step, without waiting: generators that yield requests.

Why it is as it is: agents come blocking and as coroutines, and both must do the same. A generator yields the requests
that may be under way together, and gets their answers back, each an answer or the error that it was refused with.
``memory`` and ``memory_aio`` send and wait.

Guaranteed: what is yielded together may be carried out in any order. Pure: no ring, no clock.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.ecc.embedding.provider import EmbeddingProvider
from weftos.ecc.embedding.registry import EmbeddingSettings, make_provider
from weftos.ecc.passages.model import universal_id
from weftos.ecc.vectors.filters import And, Eq, Filter, Value
from weftos.errors import (
    CollectionNotFound,
    InvalidRequest,
    MessageTooLarge,
    ServiceUnavailable,
    WeftError,
)
from weftos.service.ecc_protocol import (
    AskMemory,
    DropCollection,
    EccRequest,
    EmbedMemory,
    ForgetMemory,
    Found,
    GetMemory,
    MakeCollection,
    Match,
    Remembered,
    SearchMemory,
)
from weftos.service.protocol import Done

__all__ = ["MemorySteps", "Named", "Recalled", "Steps", "Where", "ask_all", "ask_one", "node_id"]

R = TypeVar("R")
#: A node is named by its label, or by its universal id and label.
Named: TypeAlias = "str | tuple[bytes, str]"
#: A filter, or fields that must have these values.
Where: TypeAlias = "Filter | Mapping[str, Value] | None"
#: Yields requests that may be under way together, and is sent their outcomes.
Steps: TypeAlias = Generator[list[EccRequest], list[Any], R]
#: Bytes of an entry in a request around its texts and its vector.
_ENTRY_BYTES: Final = 64
#: Of one match in an answer, if its name is short and it has few fields; where it is more, fewer are asked for at once.
_MATCH_BYTES: Final = 96
#: Requests under way at once: the service carries out one batch while the next is embedded. The reply ring has room for
#: this many of the largest answers.
_UNDER_WAY: Final = 3
#: Numbers of a vector, as they travel.
_FLOATS: Final = np.dtype("<f4")
_encode = msgspec.msgpack.Encoder().encode


def node_id(label: str) -> bytes:
    """Return the universal id of a node that is known by its label alone, 32 bytes."""
    return universal_id("node", label)


class Recalled(msgspec.Struct, frozen=True):
    """Something that was remembered.

    Attributes:
        id: its name.
        score: how near it is to what was asked; cosine similarity, 1 is the same direction.
        text: what was remembered.
        metadata: its fields.
        record: number of the record of the log that vouches for it; 0 if there is none yet.
    """

    id: str
    score: float
    text: str
    metadata: dict[str, Value]
    record: int


def condition_of(where: Where) -> Filter | None:
    """Return a filter from fields that must have these values, or the filter that is given."""
    if where is None or not isinstance(where, Mapping):
        return where
    parts = tuple(Eq(field, value) for field, value in where.items())
    return parts[0] if len(parts) == 1 else And(parts)


def ask_one(request: EccRequest, kind: type[R]) -> Steps[R]:
    """Ask one thing, whose answer must be of a kind."""
    (outcome,) = yield [request]
    return _checked(request, outcome, kind)


def _checked(request: EccRequest, outcome: Any, kind: type[R]) -> R:
    if isinstance(outcome, WeftError):
        raise outcome
    if not isinstance(outcome, kind):
        raise ServiceUnavailable(f"the service answered a {type(request).__name__} with {type(outcome).__name__}")
    return outcome


class MemorySteps:
    """The steps of ``Memory``; arguments and errors as there.

    Args:
        largest: bytes of an encoded request at most.
        largest_reply: bytes of an encoded answer at most.
        embedding: what makes vectors of texts; by default the provider without a model.
    """

    def __init__(self, largest: int, largest_reply: int, embedding: EmbeddingSettings | None = None) -> None:
        self._room = largest - limits.SERVICE_ANSWER_HEAD_BYTES
        self._answer_room = largest_reply - limits.SERVICE_ANSWER_HEAD_BYTES
        self._embedding = embedding or EmbeddingSettings()
        self._provider: EmbeddingProvider | None = None

    @property
    def provider(self) -> EmbeddingProvider:
        """What makes vectors of texts.

        Raises:
            EccError: it cannot be had, and why.
        """
        if self._provider is None:
            self._provider = make_provider(self._embedding)
        return self._provider

    def remember(
        self,
        texts: str | Sequence[str],
        ids: str | Sequence[str] | None,
        metadata: Mapping[str, Value] | Sequence[Mapping[str, Value]] | None,
        space: str,
    ) -> Steps[list[str]]:
        """Embed texts and write them."""
        rows = [texts] if isinstance(texts, str) else list(texts)
        names = [ids] if isinstance(ids, str) else list(ids) if ids is not None else [_name(text) for text in rows]
        if metadata is None or isinstance(metadata, Mapping):
            fields = [dict(metadata or {})] * len(rows)
        else:
            fields = [dict(one) for one in metadata]
        if not len(rows) == len(names) == len(fields):
            raise InvalidRequest(f"{len(rows)} texts come with {len(names)} ids and {len(fields)} maps of metadata")
        for begin in range(0, len(rows), limits.EMBED_BATCH):
            part = slice(begin, begin + limits.EMBED_BATCH)
            vectors = self.provider.embed(rows[part])
            documents = [text.encode("utf-8", "surrogatepass") for text in rows[part]]
            yield from self.put(names[part], vectors, fields[part], documents, space, texts=True)
        return names

    def recall(self, question: str, k: int, space: str, where: Where) -> Steps[list[Recalled]]:
        """Embed a question and search."""
        vectors = self.provider.embed([question])
        identity = self.provider.identity
        request = SearchMemory(space, _bytes(vectors), 1, k, condition_of(where), identity, documents=True)
        try:
            found = yield from ask_one(request, Found)
        except CollectionNotFound:
            return []
        row = found.rows()[0]
        if found.cut:
            row = yield from _completed(row, space)
        return [
            Recalled(one.id, one.score, one.document.decode("utf-8", "replace"), one.metadata, one.chain_seq)
            for one in row
        ]

    def forget(self, ids: str | Sequence[str], space: str) -> Steps[int]:
        """Take entries out, as many in a request as fit."""
        names = [ids] if isinstance(ids, str) else list(ids)
        requests: list[ForgetMemory] = []
        size = self._room
        for name in names:
            own = _ENTRY_BYTES + 4 * len(name)
            if size + own > self._room:
                requests.append(ForgetMemory(space, []))
                size = 0
            requests[-1].ids.append(name)
            size += own
        return sum([one.count for one in (yield from ask_all(requests, Remembered))])

    def create(self, space: str, dimension: int, metric: Any, *, texts: bool) -> Steps[Remembered]:
        """Make a collection."""
        identity = self.provider.identity if texts else None
        return ask_one(MakeCollection(space, dimension, metric, identity), Remembered)

    def drop(self, space: str) -> Steps[int]:
        """Remove a collection."""
        return (yield from ask_one(DropCollection(space), Remembered)).count

    def put(
        self,
        ids: Sequence[str],
        vectors: NDArray[Any],
        metadata: Sequence[Mapping[str, Value]] | None,
        documents: Sequence[bytes] | None,
        space: str,
        *,
        texts: bool,
    ) -> Steps[int]:
        """Write entries in batches; a collection of texts is made if it is not there."""
        matrix = np.ascontiguousarray(vectors, "<f4")
        if matrix.ndim != 2 or len(matrix) != len(ids):
            raise InvalidRequest(f"{len(ids)} ids come with vectors of shape {np.shape(vectors)}")
        fields = [dict(one) for one in metadata] if metadata is not None else [{}] * len(ids)
        contents = list(documents) if documents is not None else [b""] * len(ids)
        if not len(ids) == len(fields) == len(contents):
            raise InvalidRequest(f"{len(ids)} ids come with {len(fields)} maps and {len(contents)} documents")
        identity = self.provider.identity if texts else None
        requests: list[EccRequest] = [
            EmbedMemory(space, list(ids[part]), matrix[part].tobytes(), fields[part], contents[part], identity)
            for part in self._parts(ids, matrix, fields, contents)
        ]
        op = 0
        for begin in range(0, len(requests), _UNDER_WAY):
            group = requests[begin : begin + _UNDER_WAY]
            outcomes = yield group
            missing = [
                request
                for request, outcome in zip(group, outcomes, strict=True)
                if isinstance(outcome, CollectionNotFound)
            ]
            if missing and texts:
                yield from self.create(space, matrix.shape[1], "cosine", texts=True)
                again = yield missing
                outcomes = [one for one in outcomes if not isinstance(one, CollectionNotFound)] + again
            ops = [_checked(group[0], one, Remembered).op for one in outcomes]
            op = max(op, *ops)
        return op

    def search(
        self,
        vectors: NDArray[Any],
        k: int,
        space: str,
        where: Where,
        *,
        documents: bool,
        metadata: bool,
        ef: int | None,
    ) -> Steps[list[list[Match]]]:
        """Search by vectors of one's own, in as many requests as they take."""
        matrix = np.atleast_2d(np.asarray(vectors, _FLOATS))
        condition = condition_of(where)
        asks, answers = self._room // max(matrix[:1].nbytes, 1), self._answer_room // max(k * _MATCH_BYTES, 1)
        fit = max(min(asks, answers, limits.ECC_SEARCH_VECTORS), 1)
        # No vector at all is the service's to refuse, so that makes one request too.
        parts = [matrix[begin : begin + fit] for begin in range(0, max(len(matrix), 1), fit)]
        rows: list[list[Match]] = []
        while parts:
            group, parts = parts[:_UNDER_WAY], parts[_UNDER_WAY:]
            requests: list[EccRequest] = [
                SearchMemory(space, _bytes(part), len(part), k, condition, None, documents, ef, metadata)
                for part in group
            ]
            outcomes = yield requests
            for place, (request, outcome) in enumerate(zip(requests, outcomes, strict=True)):
                if isinstance(outcome, MessageTooLarge) and len(group[place]) > 1:
                    # How long fields are shows only here. What comes behind is asked for again, with the halves.
                    parts = _resplit(group[place:] + parts, (len(group[place]) + 1) // 2)
                    break
                found = _checked(request, outcome, Found)
                answered = found.rows()
                if not found.cut:
                    rows += answered
                    continue
                # Nor how long documents are. Those of the first queries came along, or else the first is completed.
                step = _whole(answered)
                rows += answered[:step] or [(yield from _completed(answered[0], space))]
                step = max(step, 1)
                parts = _resplit([group[place][step:], *group[place + 1 :], *parts], step)
                break
        return rows

    def get(self, ids: Sequence[str], space: str) -> Steps[list[dict[str, Any] | None]]:
        """Ask for entries by their ids."""
        rows: list[dict[str, Any] | None] = (yield from ask_one(GetMemory(space, list(ids)), Done)).values["entries"]
        return rows

    def ids(self, where: Where, space: str) -> Steps[list[str]]:
        """Ask for ids, page by page."""
        found: list[str] = []
        after, more = 0, True
        while more:
            values = yield from _page("ids", space, where, {"after": after})
            found += values.get("ids", [])
            after, more = values.get("after", 0), values.get("more", False)
        return found

    def fields(
        self, names: Sequence[str], where: Where, space: str
    ) -> Steps[list[tuple[tuple[Value | None, ...], int]]]:
        """Ask for the values of fields, page by page."""
        found: list[tuple[tuple[Value | None, ...], int]] = []
        total = 1
        while len(found) < total:
            values = yield from _page("fields", space, where, {"names": list(names), "skip": len(found)})
            rows = values.get("rows", [])
            found += [(tuple(row), count) for row, count in rows]
            total = values.get("total", 0) if rows else 0
        return found

    def _parts(
        self, ids: Sequence[str], matrix: NDArray[Any], fields: list[dict[str, Value]], contents: list[bytes]
    ) -> Iterator[slice]:
        """Cut entries into batches that fit a request each."""
        row = matrix.shape[1] * 4 + _ENTRY_BYTES
        begin = size = 0
        for place, (name, field, content) in enumerate(zip(ids, fields, contents, strict=True)):
            own = row + 4 * len(name) + len(content) + len(_encode(field))
            if own > self._room:
                raise MessageTooLarge(
                    f"the entry {name[:60]!r} takes {own} bytes and {self._room} fit a request; cut it into passages",
                    size=own,
                    limit=self._room,
                )
            if size + own > self._room:
                yield slice(begin, place)
                begin, size = place, 0
            size += own
        if begin < len(ids):
            yield slice(begin, len(ids))


def _resplit(parts: Sequence[NDArray[Any]], step: int) -> list[NDArray[Any]]:
    return [part[at : at + step] for part in parts for at in range(0, len(part), step)]


def _come(row: Sequence[Match]) -> int:
    """How many matches have their documents; those at the end that are empty may have none."""
    return next((place for place in range(len(row), 0, -1) if row[place - 1].document), 0)


def _whole(rows: Sequence[Sequence[Match]]) -> int:
    """How many rows are whole in an answer from which documents were left out at the end."""
    last = next((number for number in range(len(rows), 0, -1) if _come(rows[number - 1])), 0)
    return last - 1 if last and _come(rows[last - 1]) < len(rows[last - 1]) else last


def _completed(row: list[Match], space: str) -> Steps[list[Match]]:
    """Ask for the documents that found no room, each on its own. What was changed meanwhile is left out."""
    come = _come(row)
    missing = row[come:]
    outcomes = yield from ask_all([GetMemory(space, [one.id]) for one in missing], Done)
    entries = [outcome.values["entries"][0] for outcome in outcomes]
    return row[:come] + [
        msgspec.structs.replace(one, document=entry["document"])
        for one, entry in zip(missing, entries, strict=True)
        if entry is not None and entry["op"] == one.op
    ]


def ask_all(requests: Sequence[EccRequest], kind: type[R], together: int = _UNDER_WAY) -> Steps[list[R]]:
    """Ask several things, a few at a time."""
    done: list[R] = []
    for begin in range(0, len(requests), together):
        group = list(requests[begin : begin + together])
        outcomes = yield group
        done += [_checked(request, outcome, kind) for request, outcome in zip(group, outcomes, strict=True)]
    return done


def _page(question: str, space: str, where: Where, params: dict[str, Any]) -> Steps[dict[str, Any]]:
    condition = condition_of(where)
    params |= {"condition": msgspec.to_builtins(condition)} if condition is not None else {}
    try:
        return (yield from ask_one(AskMemory(question, space, params), Done)).values
    except CollectionNotFound:
        return {}


def _name(text: str) -> str:
    return universal_id("text", text).hex()[:32]


def _bytes(matrix: NDArray[Any]) -> bytes:
    return matrix.astype(_FLOATS, copy=False).tobytes()
