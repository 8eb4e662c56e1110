"""The control socket: JSON-RPC 2.0, one line per message, one table of methods, default deny.

A connection may carry many requests, served in order. Whoever connects must run as the kernel's user (or root): the
kernel asks the system who it is. Anything malformed is answered with an error and costs nothing but itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from weftos import limits
from weftos.errors import ConfigError, MethodNotFound, PeerRefused, WeftError
from weftos.kernel.peer import remember_peer
from weftos.kernel.state import LogLevel
from weftos.rpc import wire
from weftos.rpc.methods import METHODS

__all__ = ["RpcServer"]

log = logging.getLogger(__name__)

Handler = Callable[[Any], Awaitable[Any]]
Emit = Callable[[logging.Logger, LogLevel, str], None]

_PEER: Final = struct.Struct("3i")
_CHUNK: Final = 64 * 1024


class RpcServer:
    """Serves the control socket.

    Args:
        path: of the socket; made with mode 0600 in a folder of mode 0700.
        handlers: one coroutine function for each row of the table; none missing, none extra.
        emit: writes to the kernel's log.
    """

    def __init__(self, path: Path, handlers: dict[str, Handler], emit: Emit) -> None:
        missing, extra = METHODS.keys() - handlers.keys(), handlers.keys() - METHODS.keys()
        assert not missing, f"methods without a handler: {sorted(missing)}"
        assert not extra, f"handlers of no method: {sorted(extra)}"
        self._path = path
        self._handlers = handlers
        self._emit = emit
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.refused = 0

    async def start(self) -> None:
        """Bind and listen. The instance lock is held, so a socket file that is here is a leftover.

        Raises:
            ConfigError: the socket cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
        except OSError as error:
            listener.close()
            raise ConfigError(f"the control socket {self._path} cannot be made: {error.strerror or error}") from error
        finally:
            os.umask(mask)
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=_CHUNK)

    async def stop(self) -> None:
        """Stop listening, give answers under way a moment, close."""
        if self._server is not None:
            self._server.close()
        current = asyncio.current_task()
        waiting = [task for task in self._connections if task is not current]
        if waiting:
            await asyncio.wait(waiting, timeout=0.2)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            refusal = self._refusal(writer)
            if refusal is not None:
                self.refused += 1
                self._emit(log, LogLevel.WARN, f"control socket: {refusal}")
                writer.write(wire.encode_error(None, refusal))
                await writer.drain()
                return
            remember_peer(writer.get_extra_info("socket"))
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            self._connections.discard(task)
            writer.close()

    def _refusal(self, writer: asyncio.StreamWriter) -> WeftError | None:
        if len(self._connections) > limits.RPC_MAX_CONNECTIONS:
            return PeerRefused(f"{limits.RPC_MAX_CONNECTIONS} connections are open; close one and try again")
        uid = peer_uid(writer.get_extra_info("socket"))
        if uid not in (None, 0, os.geteuid()):
            return PeerRefused(f"user {uid} may not control this kernel, which runs as user {os.geteuid()}")
        return None

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter = wire.LineSplitter()
        while data := await reader.read(_CHUNK):
            try:
                lines = splitter.feed(data)
            except WeftError as error:
                writer.write(wire.encode_error(None, error))
                await writer.drain()
                return
            for line in lines:
                answer = await self._serve(line)
                if answer is not None:
                    writer.write(answer)
                    await writer.drain()

    async def _serve(self, line: bytes) -> bytes | None:
        request = wire.parse_request(line)
        if isinstance(request, wire.Refusal):
            return request.encode()
        try:
            handler = self._handlers.get(request.method)
            if handler is None:
                raise MethodNotFound(f"there is no method {request.method!r}; `weaver --help` lists the commands")
            params = wire.decode_params(METHODS[request.method], request.params)
            return wire.encode_result(request.id, await handler(params))
        except WeftError as error:
            return wire.encode_error(request.id, error)
        except Exception as error:  # a defect of ours is logged and answered; it must not take the kernel down
            self._emit(
                log, LogLevel.ERROR, f"{request.method} failed inside the kernel: {type(error).__name__}: {error}"
            )
            return wire.encode_error(request.id, WeftError(f"{request.method} failed inside the kernel: {error}"))


def peer_uid(connection: Any) -> int | None:
    """User id of the process at the other end (SO_PEERCRED), ``None`` where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    raw = connection.getsockopt(socket.SOL_SOCKET, option, _PEER.size)
    return int(_PEER.unpack(raw)[1])
