"""The control socket's methods about memory: passed on to the service, which keeps it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from weftos.errors import InvalidRequest
from weftos.kernel.service_host import ServiceHost
from weftos.rpc import ecc_types as e
from weftos.rpc import types as t
from weftos.service import ecc_protocol as p

__all__ = ["EccHandlers"]


class EccHandlers:
    """All methods below ``ecc.``.

    Args:
        service: which keeps memory.
    """

    def __init__(self, service: ServiceHost) -> None:
        self._service = service

    def table(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        """Every method by name."""
        return {
            "ecc.status": self.status,
            "ecc.collections": self.collections,
            "ecc.search": self.search,
            "ecc.entries": self.entries,
            "ecc.put": self.put,
            "ecc.drop": self.drop,
            "ecc.causal": self.causal,
            "ecc.crossrefs": self.crossrefs,
            "ecc.coherence": self.coherence,
            "ecc.calibrate": self.calibrate,
            "ecc.tick": self.tick,
            "ecc.compact": self.compact,
        }

    async def status(self, _params: t.NoParams) -> e.EccStatus:
        return msgspec.convert(await self._service.done(p.AskMemory("status")), e.EccStatus)

    async def collections(self, _params: t.NoParams) -> list[e.SpaceView]:
        found = await self._service.done(p.AskMemory("spaces"))
        return msgspec.convert(found["spaces"], list[e.SpaceView])

    async def search(self, params: e.EccSearchParams) -> e.EccSearchResult:
        request = p.SearchMemory(
            params.space, params.vector, 1, params.k, params.condition, params.identity, documents=True, ef=params.ef
        )
        found = await self._service.ask(request)
        assert isinstance(found, p.Found)
        matches = [
            e.EccEntry(
                id=one.id,
                score=one.score,
                chain_seq=one.chain_seq,
                metadata=one.metadata,
                text=one.document.decode("utf-8", "replace"),
            )
            for one in found.rows()[0]
        ]
        return e.EccSearchResult(matches=matches, cut=found.cut)

    async def entries(self, params: e.EccEntriesParams) -> e.EccPage:
        asked = {"after": params.after, "limit": params.limit, "vectors": params.vectors}
        found = await self._service.done(p.AskMemory("entries", params.space, asked))
        rows = [
            e.EccEntry(
                id=row["id"],
                chain_seq=row["chain_seq"],
                metadata=row["metadata"],
                text=row["document"].decode("utf-8", "replace"),
                vector=row.get("vector", b""),
            )
            for row in found["entries"]
        ]
        after = found["entries"][-1]["op"] if rows else params.after
        return e.EccPage(entries=rows, after=after, more=found["more"])

    async def put(self, params: e.EccPutParams) -> e.EccPutResult:
        width = params.dimension * 4
        wrong = next((one.id for one in params.entries if len(one.vector) != width), None)
        if wrong is not None:
            raise InvalidRequest(f"the vector of {wrong!r} has not {width} bytes, 4 for each dimension")
        await self._service.ask(p.MakeCollection(params.space, params.dimension, params.metric, params.identity))
        written = await self._service.ask(
            p.EmbedMemory(
                params.space,
                [one.id for one in params.entries],
                b"".join(one.vector for one in params.entries),
                [one.metadata for one in params.entries],
                [one.text.encode("utf-8", "surrogatepass") for one in params.entries],
                params.identity,
            )
        )
        assert isinstance(written, p.Remembered)
        return e.EccPutResult(count=written.count, op=written.op)

    async def drop(self, params: e.EccSpaceParams) -> e.EccPutResult:
        gone = await self._service.ask(p.DropCollection(params.space))
        assert isinstance(gone, p.Remembered)
        return e.EccPutResult(count=gone.count, op=gone.op)

    async def causal(self, params: e.EccCausalParams) -> e.CausalView:
        asked = msgspec.structs.asdict(params)
        found = await self._service.done(p.AskMemory(asked.pop("question"), asked.pop("space"), asked))
        return msgspec.convert(found, e.CausalView)

    async def crossrefs(self, params: e.EccCrossRefsParams) -> e.CrossRefsView:
        asked = {"node": params.node, "limit": params.limit}
        return msgspec.convert(await self._service.done(p.AskMemory("crossrefs", params.space, asked)), e.CrossRefsView)

    async def coherence(self, params: e.EccSpaceParams) -> e.CoherenceView:
        return msgspec.convert(await self._service.done(p.AskMemory("coherence", params.space)), e.CoherenceView)

    async def calibrate(self, params: e.EccCalibrateParams) -> e.CalibrationView:
        request = p.RunMemory("calibrate") if params.begin else p.AskMemory("calibration")
        return msgspec.convert(await self._service.done(request), e.CalibrationView)

    async def tick(self, _params: t.NoParams) -> e.EccTickResult:
        return msgspec.convert(await self._service.done(p.RunMemory("tick")), e.EccTickResult)

    async def compact(self, params: e.EccCompactParams) -> e.EccCompactResult:
        asked = {"space": params.space} if params.space else {}
        return msgspec.convert(await self._service.done(p.RunMemory("compact", asked)), e.EccCompactResult)
