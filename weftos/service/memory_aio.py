"""Memory for agents that are coroutines: as ``memory``, awaitable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from numpy.typing import NDArray

from weftos.ecc.embedding.registry import EmbeddingSettings
from weftos.ecc.vectors.filters import Value
from weftos.errors import WeftError
from weftos.service.causal_steps import CausalSteps, GraphContent
from weftos.service.ecc_protocol import EccRequest, Match
from weftos.service.memory_steps import MemorySteps, Named, Recalled, Steps, Where
from weftos.service.protocol import Reply

__all__ = ["AsyncCausal", "AsyncMemory"]

R = TypeVar("R")
#: Sends a request to the service and awaits its answer.
Ask = Callable[[EccRequest], Awaitable[Reply]]


async def _run(ask: Ask, steps: Steps[R]) -> R:
    try:
        requests = next(steps)
        while True:
            requests = steps.send([await _outcome(ask, request) for request in requests])
    except StopIteration as end:
        result: R = end.value
        return result


async def _outcome(ask: Ask, request: EccRequest) -> Any:
    try:
        return await ask(request)
    except WeftError as error:
        return error


class AsyncMemory:
    """As ``Memory``; arguments and errors as there.

    Args:
        ask: sends a request to the service and awaits its answer.
        largest: bytes of an encoded request at most.
        largest_reply: bytes of an encoded answer at most.
        embedding: what makes vectors of texts; by default the provider without a model.
    """

    def __init__(self, ask: Ask, largest: int, largest_reply: int, embedding: EmbeddingSettings | None = None) -> None:
        self._ask = ask
        self._steps = MemorySteps(largest, largest_reply, embedding)

    async def remember(
        self,
        texts: str | Sequence[str],
        *,
        ids: str | Sequence[str] | None = None,
        metadata: Mapping[str, Value] | Sequence[Mapping[str, Value]] | None = None,
        space: str = "",
    ) -> list[str]:
        """As ``Memory.remember``."""
        return await _run(self._ask, self._steps.remember(texts, ids, metadata, space))

    async def recall(self, question: str, k: int = 5, *, space: str = "", where: Where = None) -> list[Recalled]:
        """As ``Memory.recall``."""
        return await _run(self._ask, self._steps.recall(question, k, space, where))

    async def forget(self, ids: str | Sequence[str], *, space: str = "") -> int:
        """As ``Memory.forget``."""
        return await _run(self._ask, self._steps.forget(ids, space))

    async def create(self, space: str, dimension: int, metric: str = "cosine", *, texts: bool = False) -> None:
        """As ``Memory.create``."""
        await _run(self._ask, self._steps.create(space, dimension, metric, texts=texts))

    async def drop(self, space: str = "") -> int:
        """As ``Memory.drop``."""
        return await _run(self._ask, self._steps.drop(space))

    async def put(
        self,
        ids: Sequence[str],
        vectors: NDArray[Any],
        metadata: Sequence[Mapping[str, Value]] | None = None,
        documents: Sequence[bytes] | None = None,
        *,
        space: str = "",
        texts: bool = False,
    ) -> int:
        """As ``Memory.put``."""
        return await _run(self._ask, self._steps.put(ids, vectors, metadata, documents, space, texts=texts))

    async def search(
        self,
        vectors: NDArray[Any],
        k: int = 10,
        *,
        space: str = "",
        where: Where = None,
        documents: bool = False,
        metadata: bool = True,
        ef: int | None = None,
    ) -> list[list[Match]]:
        """As ``Memory.search``."""
        steps = self._steps.search(vectors, k, space, where, documents=documents, metadata=metadata, ef=ef)
        return await _run(self._ask, steps)

    async def get(self, ids: Sequence[str], *, space: str = "") -> list[dict[str, Any] | None]:
        """As ``Memory.get``."""
        return await _run(self._ask, self._steps.get(ids, space))

    async def ids(self, where: Where = None, *, space: str = "") -> list[str]:
        """As ``Memory.ids``."""
        return await _run(self._ask, self._steps.ids(where, space))

    async def fields(
        self, names: Sequence[str], where: Where = None, *, space: str = ""
    ) -> list[tuple[tuple[Value | None, ...], int]]:
        """As ``Memory.fields``."""
        return await _run(self._ask, self._steps.fields(names, where, space))


class AsyncCausal:
    """As ``Causal``; arguments and errors as there.

    Args:
        ask: sends a request to the service and awaits its answer.
        largest: bytes of an encoded request at most.
    """

    def __init__(self, ask: Ask, largest: int) -> None:
        self._ask = ask
        self._steps = CausalSteps(largest)

    async def link(
        self, source: Named, target: Named, kind: str = "Causes", weight: float = 1.0, *, space: str = ""
    ) -> bool:
        """As ``Causal.link``."""
        return await self.link_many([(source, target, kind, weight)], space=space) == 1

    async def link_many(self, edges: Iterable[tuple[Named, Named, str, float]], *, space: str = "") -> int:
        """As ``Causal.link_many``."""
        return await _run(self._ask, self._steps.link_many(edges, space))

    async def unlink(
        self, source: Named, target: Named | None = None, kind: str | None = None, *, space: str = ""
    ) -> int:
        """As ``Causal.unlink``."""
        return await _run(self._ask, self._steps.unlink(source, target, kind, space))

    async def unlink_many(self, ends: Iterable[tuple[bytes, bytes | None, str | None]], *, space: str = "") -> int:
        """As ``Causal.unlink_many``."""
        return await _run(self._ask, self._steps.unlink_many(ends, space))

    async def content(self, prefix: str, *, types: Sequence[str] = (), space: str = "") -> GraphContent:
        """As ``Causal.content``."""
        return await _run(self._ask, self._steps.content(prefix, types, space))

    async def edges(self, prefix: str, *, types: Sequence[str] = (), space: str = "") -> set[tuple[bytes, bytes, str]]:
        """As ``Causal.edges``."""
        return await _run(self._ask, self._steps.edges(prefix, types, space))

    async def why(
        self, node: Named, depth: int = 3, *, types: Sequence[str] = (), limit: int = 100, space: str = ""
    ) -> list[dict[str, Any]]:
        """As ``Causal.why``."""
        steps = self._steps.reached(node, depth, "causes", types=types, limit=limit, space=space)
        return await _run(self._ask, steps)

    async def effects(
        self, node: Named, depth: int = 3, *, types: Sequence[str] = (), limit: int = 100, space: str = ""
    ) -> list[dict[str, Any]]:
        """As ``Causal.effects``."""
        steps = self._steps.reached(node, depth, "effects", types=types, limit=limit, space=space)
        return await _run(self._ask, steps)

    async def path(self, source: Named, target: Named, *, strongest: bool = False, space: str = "") -> dict[str, Any]:
        """As ``Causal.path``."""
        return await _run(self._ask, self._steps.path(source, target, strongest, space))
