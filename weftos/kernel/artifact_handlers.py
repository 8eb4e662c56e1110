"""The control socket's methods about artifacts. The kernel passes descriptors; content it holds only if it is small."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.artifacts.form import check_content_type
from weftos.artifacts.holding import OPERATOR
from weftos.artifacts.reading import ArtifactFile
from weftos.artifacts.sealed import make_sealed
from weftos.errors import ArtifactStorageFailed, InvalidRequest, MessageTooLarge
from weftos.ipc.frames import close_all
from weftos.kernel.core import Core
from weftos.rpc import artifact_types as t
from weftos.service import artifact_protocol as p

__all__ = ["ArtifactHandlers"]

#: Reading an artifact takes as long as it is large, and those that weaver put have no limit.
_PATIENCE_S: Final = limits.ARTIFACT_COLLECT_TIMEOUT_S


class ArtifactHandlers:
    """All methods about artifacts, for the operator.

    Args:
        core: shared state.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def table(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        """Every method by name."""
        return {
            "artifact.put": self.put,
            "artifact.get": self.get,
            "artifact.list": self.rows,
            "artifact.stat": self.stat,
            "artifact.release": self.release,
            "artifact.gc": self.gc,
        }

    async def put(self, params: t.ArtifactPutParams) -> t.ArtifactPutResult:
        """Store what came with the request, or take note of what lies in the folder."""
        if (params.data is None) == (params.hash is None):
            raise InvalidRequest("artifact.put takes either data or hash")
        check_content_type(params.content_type)
        fds = [] if params.data is None else [make_sealed((params.data,))]
        try:
            values, _ = await self._ask(p.StoreArtifact(params.content_type, params.hash or ""), fds)
        finally:
            close_all(fds)
        return msgspec.convert(values, t.ArtifactPutResult)

    async def get(self, params: t.ArtifactHashParams) -> t.ArtifactContent:
        """Return a small artifact."""
        values, fds = await self._ask(p.OpenArtifact(params.hash))
        if len(fds) != 1 or values["size"] > limits.ARTIFACT_INLINE_BYTES:
            close_all(fds)
            raise MessageTooLarge(
                f"the artifact has {values['size']} bytes; {limits.ARTIFACT_INLINE_BYTES} go into an answer. "
                f"`weaver artifact get {params.hash} -o FILE` writes it to a file",
                size=values["size"],
                limit=limits.ARTIFACT_INLINE_BYTES,
            )
        # The service has read it a moment ago, so it comes from memory.
        try:
            with ArtifactFile.of_descriptor(fds[0], params.hash) as file:
                data = file.read_content()
        except OSError as error:
            raise ArtifactStorageFailed(f"the artifact {params.hash} cannot be read: {error}") from error
        return t.ArtifactContent(**values, data=data)

    async def rows(self, params: t.ArtifactListParams) -> t.ArtifactList:
        """Return a part of the list."""
        values, _ = await self._ask(p.ListArtifacts(params.after, params.limit))
        return msgspec.convert(values, t.ArtifactList)

    async def stat(self, params: t.ArtifactStatParams) -> t.ArtifactStat:
        """Return what is known of an artifact."""
        values, _ = await self._ask(p.StatArtifact(params.hash, params.check))
        return t.ArtifactStat(**values)

    async def release(self, params: t.ArtifactHashParams) -> t.ArtifactReleased:
        """Take note that nobody who put an artifact needs it any more."""
        values, _ = await self._ask(p.ReleaseArtifact(params.hash))
        return t.ArtifactReleased(hash=values["hash"], record=values["record"])

    async def gc(self, params: t.ArtifactGcParams) -> t.ArtifactGcResult:
        """Remove what nothing holds."""
        configured = self._core.config.artifacts.grace_secs
        age = configured if params.older_than_secs is None else params.older_than_secs
        values, _ = await self._ask(p.CollectArtifacts(age, params.dry_run))
        return t.ArtifactGcResult(**values)

    async def _ask(self, request: p.ArtifactRequest, fds: list[int] | None = None) -> tuple[dict[str, Any], list[int]]:
        return await self._core.service.hand(OPERATOR, request, fds or (), _PATIENCE_S)
