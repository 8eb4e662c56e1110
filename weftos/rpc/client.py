"""The client's end of the control socket: connect, ask, wait no longer than allowed.

Synchronous on purpose: ``weaver`` asks one thing at a time, and a blocking socket with a deadline starts faster than an
event loop. Every call ends within its time: a kernel that is stopped, swamped or wedged costs the caller the deadline
and never more. The server's credentials are checked before a byte is sent, because a socket in a shared directory may
belong to anyone. A client that lost its place in the stream (a deadline passed, a line was unreadable) is closed and
connects anew for the next call. Not safe for use by several threads at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import msgspec

from weftos import limits
from weftos.errors import KernelNotRunning, PeerRefused, ProtocolError, WeftTimeout
from weftos.rpc.wire import LineSplitter, decode_response, encode_request, find_method

if TYPE_CHECKING:
    from weftos.auth.tokens import Token

__all__ = ["RpcClient"]

T = TypeVar("T")

#: Errors of connect(2) that mean: nobody listens there (any more).
_NOBODY = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR, errno.ECONNRESET, errno.EPIPE})


class RpcClient:
    """One connection to one kernel, opened by the first call.

    Args:
        socket_path: path of the control socket.
        timeout: seconds for one call, connecting included.
        home: directory of the instance, for messages; by default the one above the socket's directory.
        on_call: told the method and its seconds after each exchange, also one that failed.
        token: each connection is logged in with it.
        shared: the socket is that of another user's instance: it belongs to whom its folder belongs.
    """

    def __init__(
        self,
        socket_path: str | os.PathLike[str],
        timeout: float = limits.RPC_TIMEOUT_S,
        *,
        home: str | os.PathLike[str] | None = None,
        on_call: Callable[[str, float], None] | None = None,
        token: Token | None = None,
        shared: bool = False,
    ) -> None:
        self.socket_path = os.fspath(socket_path)
        self.timeout = timeout
        self.home = os.fspath(home) if home is not None else os.path.dirname(os.path.dirname(self.socket_path))
        #: Process id of the server, known once connected.
        self.server_pid: int | None = None
        self._socket: socket.socket | None = None
        self._splitter = LineSplitter(limits.RPC_REPLY_BYTES)
        self._serial = 0
        self._on_call = on_call
        self._token = token
        self._shared = shared

    # --- calls -------------------------------------------------------------------------------

    @overload
    def call(self, method: str, params: Any = None, result: None = None, *, timeout: float | None = None) -> Any: ...
    @overload
    def call(self, method: str, params: Any, result: type[T], *, timeout: float | None = None) -> T: ...
    def call(
        self,
        method: str,
        params: msgspec.Struct | Mapping[str, Any] | None = None,
        result: Any = None,
        *,
        timeout: float | None = None,
    ) -> Any:
        """Ask one thing and wait for the answer.

        Args:
            method: a name in ``METHODS``.
            params: the method's params struct, or a mapping by name; ``None`` is the empty one.
            result: type to decode to; by default the one in the table.
            timeout: seconds for this call instead of the client's.

        Raises:
            KernelNotRunning: nobody listens, or the kernel ended before it answered.
            PeerRefused: somebody else's process listens there.
            WeftTimeout: no answer in time. Whether the request was carried out is then unknown.
            MethodNotFound: the table has no such method.
            WeftError: what the kernel answered, in its own class.
        """
        row = find_method(method)
        patience = self.timeout if timeout is None else timeout
        begun = time.monotonic()
        deadline = begun + patience
        self._serial += 1
        line = encode_request(self._serial, method, {} if params is None else params)
        try:
            answer = self._exchange(line, deadline)
        except TimeoutError as error:
            self.close()
            raise WeftTimeout(self._late(method, patience)) from error
        except (ConnectionError, EOFError) as error:
            self.close()
            raise KernelNotRunning(
                f"the kernel for {self.home} ended before it answered {method}; `weaver kernel status` shows its state"
            ) from error
        except BaseException:
            # Also an interrupt: an answer that comes later must not be taken for that of the next call.
            self.close()
            raise
        finally:
            if self._on_call is not None:
                self._on_call(method, time.monotonic() - begun)
        try:
            return decode_response(answer, self._serial, row.result if result is None else result)
        except ProtocolError:
            self.close()
            raise

    def _late(self, method: str, patience: float) -> str:
        who = f"the kernel (process {self.server_pid})" if self.server_pid else "the kernel"
        return (
            f"{who} did not answer {method} within {patience:g} s: it is stopped or overloaded; "
            "`weaver kernel stop --force` ends it"
        )

    def _exchange(self, line: bytes, deadline: float) -> bytes:
        connection = self._socket if self._socket is not None else self._connect(deadline)
        _arm(connection, deadline)
        # A server that refuses the connection says why and closes; what it said can still be read.
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(line)
        while True:
            _arm(connection, deadline)
            data = connection.recv(65536)
            if not data:
                raise EOFError
            lines = self._splitter.feed(data)
            if len(lines) > 1 or (lines and self._splitter.pending):
                raise ProtocolError("the kernel answered one request more than once")
            if lines:
                return lines[0]

    # --- connection --------------------------------------------------------------------------

    def connect(self) -> int:
        """Connect if that has not happened yet.

        Returns:
            Process id of the kernel.

        Raises:
            KernelNotRunning: nobody listens there.
            PeerRefused: somebody else's process listens there.
            WeftTimeout: the kernel's queue of connections stayed full.
        """
        if self._socket is None:
            try:
                self._connect(time.monotonic() + self.timeout)
            except TimeoutError as error:
                raise WeftTimeout(self._late("the connection", self.timeout)) from error
        assert self.server_pid is not None
        return self.server_pid

    def _connect(self, deadline: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            pause = limits.POLL_LONGEST_S
            while not self._attempt(connection, deadline):
                time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
                pause = min(pause * 2, limits.WAIT_SLICE_S)
            self.server_pid, uid = _check_peer(connection, self.socket_path, shared=self._shared)
        except BaseException:
            connection.close()
            raise
        self._socket = connection
        self._splitter = LineSplitter(limits.RPC_REPLY_BYTES)
        if self._token is not None:
            from weftos.rpc.login import log_in

            log_in(lambda *request: self._ask(deadline, *request), self._token, uid)
        return connection

    def _ask(self, deadline: float, method: str, params: Any, result: type[T]) -> T:
        """Call a method on the connection that was just made."""
        return decode_response(self._exchange(encode_request(0, method, params), deadline), 0, result)

    def _attempt(self, connection: socket.socket, deadline: float) -> bool:
        """Try to connect; ``False`` means that the queue is full, which cannot be waited for on a unix socket."""
        _arm(connection, deadline)
        try:
            connection.connect(self.socket_path)
        except BlockingIOError:
            return False
        except TimeoutError:
            raise
        except PermissionError as error:
            raise PeerRefused(f"{self.socket_path} belongs to another user: {error.strerror}") from error
        except OSError as error:
            if error.errno in _NOBODY:
                raise KernelNotRunning(
                    f"no kernel is running for {self.home}; start one with `weaver kernel start`"
                ) from error
            raise KernelNotRunning(f"{self.socket_path} cannot be connected to: {error}") from error
        return True

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _arm(connection: socket.socket, deadline: float) -> None:
    """Give the next socket call what is left of the time.

    Raises:
        TimeoutError: nothing is left.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def _check_peer(connection: socket.socket, path: str, *, shared: bool) -> tuple[int, int]:
    """Check that the server runs as this user, as root, or as the owner of a shared socket's folder.

    Returns:
        Its process and its user.

    Linux records the credentials when the server calls listen(2) (unix(7), SO_PEERCRED), so a process that inherits the
    listening socket cannot pretend to be somebody else. Where the option does not exist, the file's owner decides.

    Raises:
        PeerRefused: it runs as somebody else.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        pid, uid = 0, os.stat(path).st_uid
    else:
        pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    if uid not in (os.geteuid(), 0) and not (shared and uid == _owner(os.path.dirname(path))):
        raise PeerRefused(f"the process {pid} that listens on {path} runs as user {uid}; nothing was sent to it")
    return int(pid), int(uid)


def _owner(folder: str) -> int | None:
    """Whose folder it is; ``None`` if others could put something there."""
    try:
        status = os.stat(folder or ".")
    except OSError:
        return None
    return None if stat.S_IMODE(status.st_mode) & 0o022 else status.st_uid
