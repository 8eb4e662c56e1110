"""The control socket: JSON-RPC 2.0, one line per message, one table of methods, default deny.

A connection may carry many requests, served in order. Who connects, and what he may ask, is decided by
``socket_access``. Anything malformed is answered with an error and costs nothing but itself.

Other users cannot reach the socket in the instance's folder, which is closed to them. For those that the operator lets
in there is a second one, in a folder of his own choice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from weftos import limits
from weftos.errors import ConfigError, MethodNotFound, PeerRefused, WeftError
from weftos.kernel.acting import Acting
from weftos.kernel.peers import Peer
from weftos.kernel.socket_access import Door
from weftos.kernel.state import LogLevel
from weftos.rpc import wire
from weftos.rpc.methods import METHODS

__all__ = ["RpcServer"]

log = logging.getLogger(__name__)

Handler = Callable[[Any], Awaitable[Any]]
Emit = Callable[[logging.Logger, LogLevel, str], None]

_CHUNK: Final = 64 * 1024


class RpcServer:
    """Serves the control socket.

    Args:
        path: of the socket; made with mode 0600 in a folder of mode 0700.
        handlers: one coroutine function for each row of the table; none missing, none extra.
        emit: writes to the kernel's log.
        door: lets peers and requests in.
        acting: is told for whom a handler works.
        shared: path of the socket for other users, if there is one.
    """

    def __init__(
        self,
        path: Path,
        handlers: dict[str, Handler],
        emit: Emit,
        door: Door,
        acting: Acting,
        shared: Path | None = None,
    ) -> None:
        missing, extra = METHODS.keys() - handlers.keys(), handlers.keys() - METHODS.keys()
        assert not missing, f"methods without a handler: {sorted(missing)}"
        assert not extra, f"handlers of no method: {sorted(extra)}"
        self._path = path
        self._handlers = handlers
        self._emit = emit
        self._door = door
        self._acting = acting
        self._shared = shared
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind and listen. The instance lock is held, so a socket file that is here is a leftover.

        Raises:
            ConfigError: a socket cannot be made, or others could put theirs in the place of the shared one.
        """
        await self._listen(_bound(self._path, 0o177))
        if self._shared is not None:
            _check_shared(self._shared)
            # Everybody may connect who comes near; whom we talk to is decided by who he is.
            await self._listen(_bound(self._shared, 0o111))

    async def _listen(self, listener: socket.socket) -> None:
        self._servers.append(await asyncio.start_unix_server(self._connected, sock=listener, limit=_CHUNK))

    async def stop(self) -> None:
        """Stop listening, give answers under way a moment, close."""
        for server in self._servers:
            server.close()
        current = asyncio.current_task()
        waiting = [task for task in self._connections if task is not current]
        if waiting:
            await asyncio.wait(waiting, timeout=0.2)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        self._door.close()
        self._path.unlink(missing_ok=True)
        if self._shared is not None:
            self._shared.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            try:
                peer = self._admitted(writer)
            except PeerRefused as refusal:
                self._emit(log, LogLevel.WARN, f"control socket: {refusal}")
                writer.write(wire.encode_error(None, refusal))
                await writer.drain()
                return
            await self._converse(peer, reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            self._connections.discard(task)
            writer.close()

    def _admitted(self, writer: asyncio.StreamWriter) -> Peer:
        if len(self._connections) > limits.RPC_MAX_CONNECTIONS:
            raise PeerRefused(f"{limits.RPC_MAX_CONNECTIONS} connections are open; close one and try again")
        return self._door.admit(writer.get_extra_info("socket"))

    async def _converse(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter = wire.LineSplitter()
        while data := await reader.read(_CHUNK):
            try:
                lines = splitter.feed(data)
            except WeftError as error:
                writer.write(wire.encode_error(None, error))
                await writer.drain()
                return
            for line in lines:
                answer = await self._serve(peer, line)
                if answer is not None:
                    writer.write(answer)
                    await writer.drain()
                if peer.failures > limits.AUTH_LOGIN_FAILURES:
                    return

    async def _serve(self, peer: Peer, line: bytes) -> bytes | None:
        request = wire.parse_request(line)
        if isinstance(request, wire.Refusal):
            return request.encode()
        try:
            handler = self._handlers.get(request.method)
            if handler is None:
                raise MethodNotFound(f"there is no method {request.method!r}; `weaver --help` lists the commands")
            self._door.check(peer, request.method, request.params)
            params = wire.decode_params(METHODS[request.method], request.params)
            with self._acting.on_behalf(peer):
                result = await handler(params)
            return wire.encode_result(request.id, result)
        except WeftError as error:
            return wire.encode_error(request.id, error)
        except Exception as error:  # a defect of ours is logged and answered; it must not take the kernel down
            self._emit(
                log, LogLevel.ERROR, f"{request.method} failed inside the kernel: {type(error).__name__}: {error}"
            )
            return wire.encode_error(request.id, WeftError(f"{request.method} failed inside the kernel: {error}"))


def _bound(path: Path, mask: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(mask)
    try:
        if path.is_socket():
            path.unlink()
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise ConfigError(f"the control socket {path} cannot be made: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return listener


def _check_shared(path: Path) -> None:
    """Refuse a place where another user could remove our socket and put his there.

    Raises:
        ConfigError: saying what is wrong with the folder.
    """
    folder = path.parent
    try:
        status = folder.stat()
    except OSError as error:
        raise ConfigError(
            f"access.socket: the folder {folder} cannot be used: {error.strerror}; make it first"
        ) from error
    if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o022:
        raise ConfigError(
            f"access.socket: the folder {folder} must belong to the kernel's user or root, and nobody else may write "
            f"there: chmod go-w {folder}"
        )
