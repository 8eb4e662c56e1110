"""The artifact store as an agent sees it: ``ctx.artifacts``.

    ref = ctx.artifacts.put(open("result.bin", "rb"), "application/octet-stream")
    ctx.service.append("app.result", {"run": 7}, artifact=ref)
    data = ctx.artifacts.get(ref)

Content goes to the kernel as sealed memory and comes back as an open file, both as descriptors: no ring carries it.
What is read is hashed here once more, so an agent believes nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeAlias

from weftos import limits
from weftos.agent import frames as f
from weftos.artifacts import ArtifactRef, ArtifactStream, Source
from weftos.artifacts.form import check_content_type, check_hash
from weftos.artifacts.reading import ArtifactFile
from weftos.artifacts.sealed import make_sealed
from weftos.artifacts.sources import blocks_of, bytes_of
from weftos.errors import ArtifactCorrupted, ArtifactStorageFailed, ProtocolError
from weftos.ipc.frames import close_all

__all__ = ["Artifacts", "AsyncArtifacts"]

_BINARY: Final = "application/octet-stream"
Content: TypeAlias = bytes | bytearray | memoryview | Source
Answered: TypeAlias = tuple[f.Answer, list[int]]


class _Asks(Protocol):
    def request(self, body: f.AgentRequestBody, timeout_s: float, fds: Sequence[int] = (), /) -> Answered:
        """Ask the kernel and wait."""


class _AsksLater(Protocol):
    def __call__(self, body: f.AgentRequestBody, timeout: float, fds: Sequence[int] = (), /) -> Awaitable[Answered]:
        """Ask the kernel."""


class Artifacts:
    """Puts and gets artifacts, blocking.

    Args:
        runtime: asks the kernel.
    """

    def __init__(self, runtime: _Asks) -> None:
        self._runtime = runtime

    def put(
        self,
        content: Content,
        content_type: str = "application/octet-stream",
        timeout: float = limits.ARTIFACT_TIMEOUT_S,
    ) -> ArtifactRef:
        """Store content. When this returns, it is on the disk and the log says who put it.

        Args:
            content: bytes, or a file opened for reading bytes, read from where it stands to its end.
            content_type: such as ``text/plain``.
            timeout: in seconds.

        Returns:
            The reference: for messages, and for ``ctx.service.append(…, artifact=…)``.

        Raises:
            ArtifactQuotaReached: this agent's limit ``artifact_bytes``, or the store, has no room.
            ArtifactStorageFailed: the disk is full or failed, the content cannot be read, or there is no memory for it.
            MessageTooLarge: it has more than ``limits.ARTIFACT_PUT_BYTES``.
            InvalidRequest: the content type is malformed, or the content is something else than bytes.
            WeftError: the gate refused, or the service is down.
        """
        with _sealed(content, content_type) as fd:
            return _reference(self._runtime.request(f.PutArtifact(content_type), timeout, (fd,)))

    def get(self, artifact: ArtifactRef | str, timeout: float = limits.ARTIFACT_TIMEOUT_S) -> bytes:
        """Return the content of an artifact, all of it in memory.

        Args:
            artifact: a reference or a hash.
            timeout: in seconds.

        Raises:
            ArtifactNotFound: there is no such artifact.
            ArtifactCorrupted: its file has other content; it was set aside, and the log says so.
            InvalidRequest: this is no hash.
            WeftError: the gate refused, or the service is down.
        """
        with self.open(artifact, timeout) as stream:
            return stream.read()

    def open(self, artifact: ArtifactRef | str, timeout: float = limits.ARTIFACT_TIMEOUT_S) -> ArtifactStream:
        """Open an artifact to read it bit by bit; a context manager, and an iterator over blocks. Errors as ``get``."""
        digest = _hash(artifact)
        return _stream(self._runtime.request(f.GetArtifact(digest), timeout), digest)

    def release(self, artifact: ArtifactRef | str, timeout: float = limits.ARTIFACT_TIMEOUT_S) -> None:
        """Say that this agent needs an artifact no more, so that it counts no more. Records that name it keep it.

        Raises:
            ArtifactNotFound: there is no such artifact.
            WeftError: the gate refused, or the service is down.
        """
        close_all(self._runtime.request(f.ReleaseArtifact(_hash(artifact)), timeout)[1])


class AsyncArtifacts:
    """As ``Artifacts``, awaitable. Content is copied and hashed in the caller's thread.

    Args:
        ask: asks the kernel.
    """

    def __init__(self, ask: _AsksLater) -> None:
        self._ask = ask

    async def put(
        self,
        content: Content,
        content_type: str = "application/octet-stream",
        timeout: float = limits.ARTIFACT_TIMEOUT_S,
    ) -> ArtifactRef:
        """As ``Artifacts.put``."""
        with _sealed(content, content_type) as fd:
            return _reference(await self._ask(f.PutArtifact(content_type), timeout, (fd,)))

    async def get(self, artifact: ArtifactRef | str, timeout: float = limits.ARTIFACT_TIMEOUT_S) -> bytes:
        """As ``Artifacts.get``."""
        with await self.open(artifact, timeout) as stream:
            return stream.read()

    async def open(self, artifact: ArtifactRef | str, timeout: float = limits.ARTIFACT_TIMEOUT_S) -> ArtifactStream:
        """As ``Artifacts.open``; reading from what it returns blocks."""
        digest = _hash(artifact)
        return _stream(await self._ask(f.GetArtifact(digest), timeout), digest)

    async def release(self, artifact: ArtifactRef | str, timeout: float = limits.ARTIFACT_TIMEOUT_S) -> None:
        """As ``Artifacts.release``."""
        close_all((await self._ask(f.ReleaseArtifact(_hash(artifact)), timeout))[1])


def _hash(artifact: ArtifactRef | str) -> str:
    return check_hash(artifact.hash if isinstance(artifact, ArtifactRef) else artifact)


@contextmanager
def _sealed(content: Content, content_type: str) -> Iterator[int]:
    check_content_type(content_type)
    fd = make_sealed(_blocks(content))
    try:
        yield fd
    finally:
        close_all((fd,))


def _blocks(content: Content) -> Iterable[bytes | memoryview]:
    if isinstance(content, bytes | bytearray | memoryview):
        return (bytes_of(memoryview(content)),)
    return blocks_of(content)


def _reference(answered: Answered) -> ArtifactRef:
    answer, fds = answered
    close_all(fds)
    values: dict[str, Any] = answer.values
    return ArtifactRef(values["hash"], values["size"], values["content_type"])


def _stream(answered: Answered, digest: str) -> ArtifactStream:
    answer, fds = answered
    if len(fds) != 1:
        close_all(fds)
        raise ProtocolError(f"an artifact comes with one descriptor, not {len(fds)}")
    try:
        return ArtifactStream(ArtifactFile.of_descriptor(fds[0], digest), answer.values["content_type"], _tell(digest))
    except OSError as error:
        raise ArtifactStorageFailed(f"the artifact {digest} cannot be read: {error}") from error


def _tell(digest: str) -> Any:
    def changed(damage: ArtifactCorrupted) -> ArtifactCorrupted:
        text = f"the artifact {digest} was changed while it was read: {damage}; ask for it again to have that examined"
        return ArtifactCorrupted(text, path=damage.path, identity=damage.identity)

    return changed
