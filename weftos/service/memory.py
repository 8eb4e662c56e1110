"""Memory as an agent sees it: ``ctx.memory`` and ``ctx.causal``.

    ctx.memory.remember("The pump failed at noon", metadata={"source": "log"})
    for found in ctx.memory.recall("when did the pump fail?"):
        print(found.score, found.text, found.record)
    ctx.causal.link("pump failed", "line 3 stopped", "Causes", 0.9)
    ctx.causal.why("line 3 stopped")

Why it is as it is: texts become vectors here, in the agent's process, so that the service only keeps and compares
vectors. Without a space an agent uses the one of its own, which no other agent may look into.

Guaranteed: what ``remember``, ``forget`` and ``link`` returned for survives any crash. Texts of one provider are only
compared with texts of the same. Not guaranteed: that a record of the log vouches for it already (``record`` is 0 until
then, for a quarter of a second or so).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.ecc.embedding.provider import EmbeddingProvider
from weftos.ecc.passages.model import universal_id
from weftos.ecc.vectors.filters import And, Eq, Filter, Value
from weftos.errors import CollectionNotFound, InvalidRequest, MessageTooLarge
from weftos.service.client import Pending, ServiceClient
from weftos.service.ecc_protocol import (
    AskMemory,
    DropCollection,
    EmbedMemory,
    ForgetMemory,
    Found,
    GetMemory,
    LinkCauses,
    MakeCollection,
    Match,
    Remembered,
    SearchMemory,
    UnlinkCauses,
)
from weftos.service.protocol import Done

__all__ = ["Causal", "Memory", "Recalled", "node_id"]

#: A node is named by its label, or by its universal id and label.
Named: TypeAlias = "str | tuple[bytes, str]"
#: Bytes of an entry in a request around its texts and its vector.
_ENTRY_BYTES: Final = 64
#: Requests under way at once: the service carries out one batch while the next is embedded.
_UNDER_WAY: Final = 4
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


def condition_of(where: Filter | Mapping[str, Value] | None) -> Filter | None:
    """Return a filter from fields that must have these values, or the filter that is given."""
    if where is None or not isinstance(where, Mapping):
        return where
    parts = tuple(Eq(field, value) for field, value in where.items())
    return parts[0] if len(parts) == 1 else And(parts)


class Memory:
    """Texts and vectors, by what they are near to.

    Args:
        client: of the service.
        provider: makes vectors of texts; by default the one without a model.
    """

    def __init__(self, client: ServiceClient, provider: EmbeddingProvider | None = None) -> None:
        self._client = client
        self._provider = provider

    @property
    def provider(self) -> EmbeddingProvider:
        """What makes vectors of texts."""
        if self._provider is None:
            from weftos.ecc.embedding.hashing import HashingProvider

            self._provider = HashingProvider()
        return self._provider

    # --- texts --------------------------------------------------------------------------------------------------------

    def remember(
        self,
        texts: str | Sequence[str],
        *,
        ids: str | Sequence[str] | None = None,
        metadata: Mapping[str, Value] | Sequence[Mapping[str, Value]] | None = None,
        space: str = "",
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> list[str]:
        """Remember texts; one of an id that is there takes its place.

        Args:
            texts: one, or several.
            ids: names for them; by default a hash of the text, so that equal texts are remembered once.
            metadata: fields to filter by, for all or one map for each.
            space: where; by default in the agent's own space. Made if it is not there.
            timeout_s: in seconds, for each batch.

        Returns:
            The ids.

        Raises:
            EmbeddingRefused: a text is empty or too long.
            IdentityMismatch: the space holds vectors of another provider.
            GovernanceDenied, GateDeferred: the gate does not permit it.
            MessageTooLarge: a text does not fit a request; cut it into passages.
            ServiceUnavailable: no answer in time.
        """
        rows = [texts] if isinstance(texts, str) else list(texts)
        names = [ids] if isinstance(ids, str) else list(ids) if ids is not None else [_name(text) for text in rows]
        fields = [dict(metadata or {})] * len(rows) if metadata is None or isinstance(metadata, Mapping) else [
            dict(one) for one in metadata
        ]  # fmt: skip
        if not len(rows) == len(names) == len(fields):
            raise InvalidRequest(f"{len(rows)} texts come with {len(names)} ids and {len(fields)} maps of metadata")
        for begin in range(0, len(rows), limits.EMBED_BATCH):
            part = slice(begin, begin + limits.EMBED_BATCH)
            vectors = self.provider.embed(rows[part])
            documents = [text.encode("utf-8", "surrogatepass") for text in rows[part]]
            self.put(names[part], vectors, fields[part], documents, space=space, texts=True, timeout_s=timeout_s)
        return names

    def recall(
        self,
        question: str,
        k: int = 5,
        *,
        space: str = "",
        where: Filter | Mapping[str, Value] | None = None,
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> list[Recalled]:
        """Return what is nearest to a question, the nearest first; nothing if nothing was remembered there.

        Args:
            question: a text.
            k: how many at most.
            space: where to look; by default in the agent's own space.
            where: only what has these fields, or meets this filter.
            timeout_s: in seconds.

        Raises:
            EmbeddingRefused, IdentityMismatch, FilterInvalid, GovernanceDenied, ServiceUnavailable: as for
                ``remember``.
        """
        vectors = self.provider.embed([question])
        request = SearchMemory(
            space, _bytes(vectors), 1, k, condition_of(where), self.provider.identity, documents=True
        )
        try:
            found = self._client.ask(request, Found, timeout_s)
        except CollectionNotFound:
            return []
        return [
            Recalled(one.id, one.score, one.document.decode("utf-8", "replace"), one.metadata, one.chain_seq)
            for one in found.matches[0]
        ]

    def forget(self, ids: str | Sequence[str], *, space: str = "", timeout_s: float = limits.SERVICE_TIMEOUT_S) -> int:
        """Take entries out; returns how many there were."""
        names = [ids] if isinstance(ids, str) else list(ids)
        return self._client.ask(ForgetMemory(space, names), Remembered, timeout_s).count

    # --- vectors ------------------------------------------------------------------------------------------------------

    def create(
        self,
        space: str,
        dimension: int,
        metric: Any = "cosine",
        *,
        texts: bool = False,
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> None:
        """Make a collection of vectors; the same again changes nothing.

        Args:
            space: its name.
            dimension: numbers in a vector.
            metric: ``cosine``, ``l2`` or ``inner``.
            texts: whether the vectors are those of this agent's provider of embeddings.
            timeout_s: in seconds.

        Raises:
            CollectionExists: there is one with another dimension, metric or provider.
        """
        identity = self.provider.identity if texts else None
        self._client.ask(MakeCollection(space, dimension, metric, identity), Remembered, timeout_s)

    def drop(self, space: str = "", *, timeout_s: float = limits.SERVICE_TIMEOUT_S) -> int:
        """Remove the collection of a space with all its entries; returns how many there were."""
        return self._client.ask(DropCollection(space), Remembered, timeout_s).count

    def put(
        self,
        ids: Sequence[str],
        vectors: NDArray[Any],
        metadata: Sequence[Mapping[str, Value]] | None = None,
        documents: Sequence[bytes] | None = None,
        *,
        space: str = "",
        texts: bool = False,
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> int:
        """Write vectors of one's own, in batches that each are written whole or not at all.

        Args:
            ids: their names.
            vectors: shape (n, dimension).
            metadata: a map for each.
            documents: content for each.
            space: where.
            texts: whether they are of this agent's provider of embeddings.
            timeout_s: in seconds, for each batch.

        Returns:
            Number of the last change.
        """
        matrix = np.ascontiguousarray(vectors, "<f4")
        if matrix.ndim != 2 or len(matrix) != len(ids):
            raise InvalidRequest(f"{len(ids)} ids come with vectors of shape {np.shape(vectors)}")
        fields = [dict(one) for one in metadata] if metadata is not None else [{}] * len(ids)
        contents = list(documents) if documents is not None else [b""] * len(ids)
        if not len(ids) == len(fields) == len(contents):
            raise InvalidRequest(f"{len(ids)} ids come with {len(fields)} maps and {len(contents)} documents")
        identity = self.provider.identity if texts else None
        requests = [
            EmbedMemory(space, list(ids[part]), matrix[part].tobytes(), fields[part], contents[part], identity)
            for part in self._parts(ids, matrix, fields, contents)
        ]
        made = False
        op, under_way = 0, list[tuple[EmbedMemory, Pending]]()
        for request in _then_none(requests):
            if request is not None:
                under_way.append((request, self._client.submit(request, timeout_s)))
            while under_way and (request is None or len(under_way) >= _UNDER_WAY):
                first, pending = under_way.pop(0)
                try:
                    reply = pending.result(timeout_s)
                except CollectionNotFound:
                    if not texts:
                        raise
                    if not made:
                        self.create(space, matrix.shape[1], texts=True, timeout_s=timeout_s)
                        made = True
                    reply = self._client.ask(first, Remembered, timeout_s)
                assert isinstance(reply, Remembered)
                op = max(op, reply.op)
        return op

    def search(
        self,
        vectors: NDArray[Any],
        k: int = 10,
        *,
        space: str = "",
        where: Filter | Mapping[str, Value] | None = None,
        documents: bool = False,
        ef: int | None = None,
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> list[list[Match]]:
        """Return the nearest entries to each of several vectors, shape (n, dimension), of a space without provider."""
        matrix = np.atleast_2d(np.asarray(vectors, "<f4"))
        request = SearchMemory(space, _bytes(matrix), len(matrix), k, condition_of(where), None, documents, ef)
        return self._client.ask(request, Found, timeout_s).matches

    def get(
        self, ids: Sequence[str], *, space: str = "", timeout_s: float = limits.SERVICE_TIMEOUT_S
    ) -> list[dict[str, Any] | None]:
        """Return entries by their ids, ``None`` where there is none."""
        rows: list[dict[str, Any] | None] = self._client.ask(GetMemory(space, list(ids)), Done, timeout_s).values[
            "entries"
        ]
        return rows

    def ids(
        self,
        where: Filter | Mapping[str, Value] | None = None,
        *,
        space: str = "",
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> list[str]:
        """Return the ids of all entries that have these fields, or meet this filter, in order; none if there is no
        such space.
        """
        found: list[str] = []
        more = True
        while more:
            values = self._page("ids", space, where, {"after": found[-1] if found else ""}, timeout_s)
            found += values.get("ids", [])
            more = values.get("more", False)
        return found

    def fields(
        self,
        names: Sequence[str],
        where: Filter | Mapping[str, Value] | None = None,
        *,
        space: str = "",
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> list[tuple[tuple[Value | None, ...], int]]:
        """Return which values some fields have together, and in how many entries each; none if there is no such space.

        Args:
            names: of the fields, 8 at most.
            where: only entries that have these fields, or meet this filter.
            space: where; by default in the agent's own space.
            timeout_s: in seconds, for each page.
        """
        found: list[tuple[tuple[Value | None, ...], int]] = []
        total = 1
        while len(found) < total:
            values = self._page("fields", space, where, {"names": list(names), "skip": len(found)}, timeout_s)
            rows = values.get("rows", [])
            found += [(tuple(row), count) for row, count in rows]
            total = values.get("total", 0) if rows else 0
        return found

    def _page(
        self,
        question: str,
        space: str,
        where: Filter | Mapping[str, Value] | None,
        params: dict[str, Any],
        timeout_s: float,
    ) -> dict[str, Any]:
        condition = condition_of(where)
        params |= {"condition": msgspec.to_builtins(condition)} if condition is not None else {}
        try:
            return self._client.ask(AskMemory(question, space, params), Done, timeout_s).values
        except CollectionNotFound:
            return {}

    def _parts(
        self, ids: Sequence[str], matrix: NDArray[Any], fields: list[dict[str, Value]], contents: list[bytes]
    ) -> Iterator[slice]:
        """Cut entries into batches that fit a request each."""
        room = self._client.largest - limits.SERVICE_ANSWER_HEAD_BYTES
        row = matrix.shape[1] * 4 + _ENTRY_BYTES
        begin = size = 0
        for place, (name, field, content) in enumerate(zip(ids, fields, contents, strict=True)):
            own = row + 4 * len(name) + len(content) + len(_encode(field))
            if own > room:
                raise MessageTooLarge(
                    f"the entry {name[:60]!r} takes {own} bytes and {room} fit a request; cut it into passages",
                    size=own,
                    limit=room,
                )
            if size + own > room:
                yield slice(begin, place)
                begin, size = place, 0
            size += own
        if begin < len(ids):
            yield slice(begin, len(ids))


class Causal:
    """What follows from what.

    Args:
        client: of the service.
    """

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def link(
        self,
        source: Named,
        target: Named,
        kind: str = "Causes",
        weight: float = 1.0,
        *,
        space: str = "",
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> bool:
        """Say that one thing leads to another; both become nodes if they are none yet.

        Args:
            source: what leads, by its label.
            target: to what.
            kind: Causes, Inhibits, Correlates, Enables, Follows, Contradicts, TriggeredBy or EvidenceFor.
            weight: from 0 to 1.
            space: where; by default in the agent's own space.
            timeout_s: in seconds.

        Returns:
            Whether the edge is new; one that is there gets the weight.
        """
        return self.link_many([(source, target, kind, weight)], space=space, timeout_s=timeout_s) == 1

    def link_many(
        self,
        edges: Iterable[tuple[Named, Named, str, float]],
        *,
        space: str = "",
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> int:
        """Add edges, in batches; returns how many are new.

        Raises:
            GraphRefused: a type, a weight or a label is none.
            GovernanceDenied, GateDeferred, ServiceUnavailable: as for ``Memory.remember``.
        """
        fresh = 0
        under_way: list[Pending] = []
        for request in _then_none(list(self._batches(edges, space))):
            if request is not None:
                under_way.append(self._client.submit(request, timeout_s))
            while under_way and (request is None or len(under_way) >= _UNDER_WAY):
                reply = under_way.pop(0).result(timeout_s)
                assert isinstance(reply, Remembered)
                fresh += reply.values["new_edges"]
        return fresh

    def unlink(
        self,
        source: Named,
        target: Named | None = None,
        kind: str | None = None,
        *,
        space: str = "",
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> int:
        """Remove the edges between two nodes, of one type or all; without a target the node itself. Returns how many
        edges went.
        """
        end = _named(target)[0] if target is not None else None
        return self._client.ask(UnlinkCauses(space, _named(source)[0], end, kind), Remembered, timeout_s).count

    def why(self, node: Named, depth: int = 3, **options: Any) -> list[dict[str, Any]]:
        """Return what leads to a node, the nearest first; options as for ``around``."""
        return self._reached(node, "causes", depth, options)

    def effects(self, node: Named, depth: int = 3, **options: Any) -> list[dict[str, Any]]:
        """Return what a node leads to, the nearest first; options as for ``around``."""
        return self._reached(node, "effects", depth, options)

    def around(
        self,
        node: Named,
        depth: int = 3,
        *,
        direction: str = "both",
        types: Sequence[str] = (),
        limit: int = 100,
        space: str = "",
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Return the nodes around one and the edges between them.

        Args:
            node: by its label.
            depth: how many edges away at most.
            direction: ``causes``, ``effects`` or ``both``.
            types: only along edges of these types.
            limit: how many nodes at most.
            space: where; by default in the agent's own space.
            timeout_s: in seconds.

        Raises:
            GraphRefused: there is no such node.
            CollectionNotFound: the space has no graph.
        """
        params = {
            "node": _named(node)[0], "depth": depth, "direction": direction, "types": list(types), "limit": limit,
        }  # fmt: skip
        return self._client.ask(AskMemory("walk", space, params), Done, timeout_s).values

    def path(
        self,
        source: Named,
        target: Named,
        *,
        strongest: bool = False,
        space: str = "",
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Return a shortest path between two nodes, or the one whose weights have the largest product."""
        params = {"node": _named(source)[0], "goal": _named(target)[0], "strongest": strongest}
        return self._client.ask(AskMemory("path", space, params), Done, timeout_s).values

    def _reached(self, node: Named, direction: str, depth: int, options: dict[str, Any]) -> list[dict[str, Any]]:
        found = self.around(node, depth, direction=direction, **options)
        others = [one for one in found["nodes"] if one["id"] != found["start"]]
        return sorted(others, key=lambda one: abs(one["depth"]))

    def _batches(self, edges: Iterable[tuple[Named, Named, str, float]], space: str) -> Iterator[LinkCauses]:
        room = self._client.largest - limits.SERVICE_ANSWER_HEAD_BYTES
        nodes: dict[bytes, tuple[int, str]] = {}
        rows: list[tuple[int, int, str, float]] = []
        size = 0

        def batch() -> LinkCauses:
            return LinkCauses(space, [(name, label) for name, (_, label) in nodes.items()], rows)

        for source, target, kind, weight in edges:
            ends = _named(source), _named(target)
            own = _ENTRY_BYTES + sum(_ENTRY_BYTES + 4 * len(label) for _, label in ends)
            if rows and size + own > room:
                yield batch()
                nodes, rows, size = {}, [], 0
            places = [nodes.setdefault(name, (len(nodes), label))[0] for name, label in ends]
            rows.append((places[0], places[1], kind, float(weight)))
            size += own
        if rows:
            yield batch()


def _named(node: Named) -> tuple[bytes, str]:
    return (node_id(node), node) if isinstance(node, str) else node


def _name(text: str) -> str:
    return universal_id("text", text).hex()[:32]


def _bytes(matrix: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(matrix, "<f4").tobytes()


def _then_none(items: list[Any]) -> Iterator[Any]:
    """Yield each item, and ``None`` at the end."""
    yield from items
    yield None
