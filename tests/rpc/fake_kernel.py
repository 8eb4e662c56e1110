"""A kernel that is only a socket: answers real requests on a real unix socket with what a test put in.

It is deaf or rude where a test asks for that, so that the client's promises (deadlines, refusals) are tested against a
peer that does not keep its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from weftos.errors import WeftError
from weftos.rpc import wire

Answer = Any


class FakeKernel:
    """Serves ``answers`` (method to value, error or function of the params) until it is left.

    Attributes:
        asked: (method, params) in order.
    """

    def __init__(
        self, path: Path | str, answers: dict[str, Answer] | None = None, *, raw: Callable[[bytes], bytes] | None = None
    ):
        self.path = str(path)
        self.answers = dict(answers or {})
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._raw = raw
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        # As the kernel does: a socket file that is here is a leftover.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._listener.bind(self.path)
        self._listener.listen(8)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End as a process would: everything closes at once, the socket file stays."""
        self._closing = True
        # shutdown, not close: that is what wakes a thread in accept or recv.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(5)
                assert not thread.is_alive()
        self._listener.close()

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        splitter = wire.LineSplitter()
        try:
            while data := connection.recv(65536):
                for line in splitter.feed(data):
                    answer = self._raw(line) if self._raw else self._answer(line)
                    if answer is None:
                        return
                    connection.sendall(answer)
        except OSError:
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def _answer(self, line: bytes) -> bytes | None:
        request = wire.parse_request(line)
        if isinstance(request, wire.Refusal):
            return request.encode()
        try:
            params = wire.decode_params(wire.find_method(request.method), request.params)
            self.asked.append((request.method, request.params))
            value = self.answers[request.method]
            if callable(value):
                value = value(params)
            if isinstance(value, WeftError):
                raise value
            return None if value is HANG_UP else wire.encode_result(request.id, value)
        except WeftError as error:
            return wire.encode_error(request.id, error)


#: As an answer: close the connection instead.
HANG_UP = object()
