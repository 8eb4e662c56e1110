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

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from numpy.typing import NDArray

from weftos import limits
from weftos.ecc.embedding.provider import EmbeddingProvider
from weftos.ecc.embedding.registry import EmbeddingSettings
from weftos.ecc.vectors.filters import Value
from weftos.errors import WeftError
from weftos.service.causal_steps import CausalSteps, GraphContent
from weftos.service.client import Pending, ServiceClient
from weftos.service.ecc_protocol import Match
from weftos.service.memory_permits import shown
from weftos.service.memory_steps import MemorySteps, Named, Recalled, Steps, Where, node_id

__all__ = ["Causal", "GraphContent", "Memory", "Recalled", "node_id"]

R = TypeVar("R")
_Texts: TypeAlias = str | Sequence[str]
_S = limits.SERVICE_TIMEOUT_S


def _run(client: ServiceClient, steps: Steps[R], timeout_s: float) -> R:
    """Carry steps out, each request with its own time."""
    try:
        requests = next(steps)
        while True:
            pending = [client.submit(shown(request, client.held), timeout_s) for request in requests]
            client.look_for(pending[0], requests[0])
            requests = steps.send([_outcome(one, timeout_s) for one in pending])
    except StopIteration as end:
        result: R = end.value
        return result


def _outcome(pending: Pending, timeout_s: float) -> Any:
    try:
        return pending.result(timeout_s)
    except WeftError as error:
        return error


class Memory:
    """Texts and vectors, by what they are near to.

    Args:
        client: of the service.
        embedding: what makes vectors of texts; by default the provider without a model.
    """

    def __init__(self, client: ServiceClient, embedding: EmbeddingSettings | None = None) -> None:
        self._client = client
        self._steps = MemorySteps(client.largest, client.largest_reply, embedding)

    @property
    def provider(self) -> EmbeddingProvider:
        """What makes vectors of texts."""
        return self._steps.provider

    # --- texts --------------------------------------------------------------------------------------------------------

    def remember(
        self,
        texts: _Texts,
        *,
        ids: _Texts | None = None,
        metadata: Mapping[str, Value] | Sequence[Mapping[str, Value]] | None = None,
        space: str = "",
        timeout_s: float = _S,
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
        return _run(self._client, self._steps.remember(texts, ids, metadata, space), timeout_s)

    def recall(
        self, question: str, k: int = 5, *, space: str = "", where: Where = None, timeout_s: float = _S
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
        return _run(self._client, self._steps.recall(question, k, space, where), timeout_s)

    def forget(self, ids: _Texts, *, space: str = "", timeout_s: float = _S) -> int:
        """Take entries out; returns how many there were."""
        return _run(self._client, self._steps.forget(ids, space), timeout_s)

    # --- vectors ------------------------------------------------------------------------------------------------------

    def create(
        self, space: str, dimension: int, metric: str = "cosine", *, texts: bool = False, timeout_s: float = _S
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
        _run(self._client, self._steps.create(space, dimension, metric, texts=texts), timeout_s)

    def drop(self, space: str = "", *, timeout_s: float = _S) -> int:
        """Remove the collection of a space with all its entries; returns how many there were."""
        return _run(self._client, self._steps.drop(space), timeout_s)

    def put(
        self,
        ids: Sequence[str],
        vectors: NDArray[Any],
        metadata: Sequence[Mapping[str, Value]] | None = None,
        documents: Sequence[bytes] | None = None,
        *,
        space: str = "",
        texts: bool = False,
        timeout_s: float = _S,
    ) -> int:
        """Write vectors of one's own, in batches that each are written whole or not at all.

        Args:
            ids: their names.
            vectors: shape (n, dimension).
            metadata: a map for each.
            documents: content for each.
            space: where.
            texts: whether they are of this agent's provider of embeddings; then the collection is made if it is not
                there.
            timeout_s: in seconds, for each batch.

        Returns:
            Number of the last change.
        """
        steps = self._steps.put(ids, vectors, metadata, documents, space, texts=texts)
        return _run(self._client, steps, timeout_s)

    def search(
        self,
        vectors: NDArray[Any],
        k: int = 10,
        *,
        space: str = "",
        where: Where = None,
        documents: bool = False,
        metadata: bool = True,
        ef: int | None = None,
        timeout_s: float = _S,
    ) -> list[list[Match]]:
        """Return the nearest entries to each of several vectors, shape (n, dimension), of a space without provider.

        Many vectors are asked for in as many requests as they take, and in more where fields are long.

        Args:
            vectors: what is searched for.
            k: how many for each.
            space: where; by default in the agent's own space.
            where: only what has these fields, or meets this filter.
            documents: whether the documents come along. Long ones are asked for one by one; of what is changed in
                between none comes back.
            metadata: whether the fields come along; without both nothing is read from the disk.
            ef: candidates that a graph is searched for; the service's choice if it is ``None``.
            timeout_s: in seconds.
        """
        steps = self._steps.search(vectors, k, space, where, documents=documents, metadata=metadata, ef=ef)
        return _run(self._client, steps, timeout_s)

    def get(self, ids: Sequence[str], *, space: str = "", timeout_s: float = _S) -> list[dict[str, Any] | None]:
        """Return entries by their ids, ``None`` where there is none."""
        return _run(self._client, self._steps.get(ids, space), timeout_s)

    def ids(self, where: Where = None, *, space: str = "", timeout_s: float = _S) -> list[str]:
        """Return the ids of all entries that have these fields, or meet this filter, in the order of
        writing; none if there is no such space.
        """
        return _run(self._client, self._steps.ids(where, space), timeout_s)

    def fields(
        self, names: Sequence[str], where: Where = None, *, space: str = "", timeout_s: float = _S
    ) -> list[tuple[tuple[Value | None, ...], int]]:
        """Return which values some fields have together, and in how many entries each; none if there is no such space.

        Args:
            names: of the fields, 8 at most.
            where: only entries that have these fields, or meet this filter.
            space: where; by default in the agent's own space.
            timeout_s: in seconds, for each page.
        """
        return _run(self._client, self._steps.fields(names, where, space), timeout_s)


class Causal:
    """What follows from what.

    Args:
        client: of the service.
    """

    def __init__(self, client: ServiceClient) -> None:
        self._client = client
        self._steps = CausalSteps(client.largest)

    def link(
        self,
        source: Named,
        target: Named,
        kind: str = "Causes",
        weight: float = 1.0,
        *,
        space: str = "",
        timeout_s: float = _S,
    ) -> bool:
        """Say that one thing leads to another; both become nodes if they are none yet.

        Args:
            source: what leads, by its label.
            target: to what.
            kind: a type of ``EdgeType``, such as Causes, Enables, Follows, EvidenceFor.
            weight: from 0 to 1.
            space: where; by default in the agent's own space.
            timeout_s: in seconds.

        Returns:
            Whether the edge is new; one that is there gets the weight.
        """
        return self.link_many([(source, target, kind, weight)], space=space, timeout_s=timeout_s) == 1

    def link_many(
        self, edges: Iterable[tuple[Named, Named, str, float]], *, space: str = "", timeout_s: float = _S
    ) -> int:
        """Add edges, in batches; returns how many are new.

        Raises:
            GraphRefused: a type, a weight or a label is none.
            GovernanceDenied, GateDeferred, ServiceUnavailable: as for ``Memory.remember``.
        """
        return _run(self._client, self._steps.link_many(edges, space), timeout_s)

    def unlink(
        self,
        source: Named,
        target: Named | None = None,
        kind: str | None = None,
        *,
        space: str = "",
        timeout_s: float = _S,
    ) -> int:
        """Remove the edges between two nodes, of one type or all; without a target the node itself. Returns how many
        edges went.
        """
        return _run(self._client, self._steps.unlink(source, target, kind, space), timeout_s)

    def unlink_many(
        self, ends: Iterable[tuple[bytes, bytes | None, str | None]], *, space: str = "", timeout_s: float = _S
    ) -> int:
        """As ``unlink``, for many: source, target or ``None``, type or ``None``; nodes by their universal ids."""
        return _run(self._client, self._steps.unlink_many(ends, space), timeout_s)

    def content(
        self, prefix: str, *, types: Sequence[str] = (), space: str = "", timeout_s: float = _S
    ) -> GraphContent:
        """Return all nodes whose label begins with a text and the edges that leave them; none if there is no graph.

        Args:
            prefix: how the labels begin; empty for the whole graph.
            types: only edges of these types.
            space: where; by default in the agent's own space.
            timeout_s: in seconds, for each page.
        """
        return _run(self._client, self._steps.content(prefix, types, space), timeout_s)

    def edges(
        self, prefix: str, *, types: Sequence[str] = (), space: str = "", timeout_s: float = _S
    ) -> set[tuple[bytes, bytes, str]]:
        """As ``content``, the edges alone: universal ids of source and target, and type."""
        return _run(self._client, self._steps.edges(prefix, types, space), timeout_s)

    def why(
        self, node: Named, depth: int = 3, *, types: Sequence[str] = (), limit: int = 100, space: str = ""
    ) -> list[dict[str, Any]]:
        """Return what leads to a node, the nearest first; arguments and errors as for ``around``."""
        steps = self._steps.reached(node, depth, "causes", types=types, limit=limit, space=space)
        return _run(self._client, steps, _S)

    def effects(
        self, node: Named, depth: int = 3, *, types: Sequence[str] = (), limit: int = 100, space: str = ""
    ) -> list[dict[str, Any]]:
        """Return what a node leads to, the nearest first; arguments and errors as for ``around``."""
        steps = self._steps.reached(node, depth, "effects", types=types, limit=limit, space=space)
        return _run(self._client, steps, _S)

    def around(
        self,
        node: Named,
        depth: int = 3,
        *,
        direction: str = "both",
        types: Sequence[str] = (),
        limit: int = 100,
        space: str = "",
        timeout_s: float = _S,
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
            GraphNotFound: the space has no graph.
        """
        return _run(self._client, self._steps.around(node, depth, direction, types, limit, space), timeout_s)

    def path(
        self, source: Named, target: Named, *, strongest: bool = False, space: str = "", timeout_s: float = _S
    ) -> dict[str, Any]:
        """Return a shortest path between two nodes, or the one whose weights have the largest product."""
        return _run(self._client, self._steps.path(source, target, strongest, space), timeout_s)
