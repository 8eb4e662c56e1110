"""The process of one witness, from its first line to its exit code.

Why it is as it is: one thread serves few clients, one request after the other, so that there is no moment at which two
requests could both be judged by the same older state. A client that is slow, silent or hostile costs a place until its
deadline and nothing else.

Guaranteed: an answer leaves only after what it says is on the disk. Bytes of any kind from a client lead to a refusal
or to the end of its connection. SIGTERM and the parent's death end the process. Not guaranteed: that it can be asked
while strangers who may use the socket occupy all places; the socket's mode says who may.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from weftos import limits
from weftos.chain.signing.rotation import PublicKeys
from weftos.errors import ProtocolError, WeftError
from weftos.witness import isolation
from weftos.witness import protocol as p
from weftos.witness.folder import WitnessFolder
from weftos.witness.keys import open_key
from weftos.witness.outcomes import Answer, Refused
from weftos.witness.state import WitnessState

__all__ = ["WitnessBoot", "WitnessServer", "run_witness"]

log = logging.getLogger(__name__)

_RECV_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessBoot:
    """What a witness is told at its start.

    Attributes:
        name: under which it cosigns.
        folder: of its memory; made if it is missing.
        keys_folder: of its key, not the same; made if it is missing.
        socket_path: where it listens; 107 bytes at most.
        logs: public keys by origin, for logs of which it knows none yet.
        trust_on_first_use: whether other logs may bring their keys themselves.
        uid: user to become, by root only; this one if ``None``.
        gid: group to become; given if ``uid`` is.
        socket_group: whose members may connect besides the owner.
        ready_fd: gets the witness's public key and a line feed when it listens, and is closed.
        parent_os_pid: the process with which it ends; whoever makes this object.
    """

    name: str
    folder: str
    keys_folder: str
    socket_path: str
    logs: Mapping[str, PublicKeys] = field(default_factory=dict)
    trust_on_first_use: bool = True
    uid: int | None = None
    gid: int | None = None
    socket_group: int | None = None
    ready_fd: int | None = None
    parent_os_pid: int = field(default_factory=os.getpid)


def run_witness(boot: WitnessBoot) -> int:
    """Be the process of a witness. Called once, in a fresh child; takes over its signals.

    Returns:
        The exit code: 0 after SIGTERM or the parent's end; 5 if its memory is damaged; else that of what kept it from
        starting.
    """
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    stop, wake = socket.socketpair()
    stop.setblocking(False)
    wake.setblocking(False)
    # The handler does nothing: its number comes through the socket, on which the loop waits like on all others.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    try:
        server, is_told = _start(boot, stop)
    except WeftError as error:
        log.error("the witness %s cannot start: %s", boot.name, error)
        return error.exit_code
    except OSError as error:
        log.error("the witness %s cannot start: %s", boot.name, error)
        return 1
    server.run(None if is_told else boot.parent_os_pid)
    # Before the folder's lock is given up, or it could be the socket of the next witness. Without the right to remove
    # it, it stays for that one to replace.
    with suppress(OSError):
        os.unlink(boot.socket_path)
    server.close()
    return 0


def _start(boot: WitnessBoot, stop: socket.socket) -> tuple[WitnessServer, bool]:
    changes = isolation.check_user(boot.uid, boot.gid)
    if changes:
        assert boot.uid is not None
        assert boot.gid is not None
        isolation.give_folder(boot.folder, boot.uid, boot.gid)
        isolation.give_folder(boot.keys_folder, boot.uid, boot.gid)
    # The lock comes before the socket, so that a second witness of this folder cannot take that away from the first.
    folder = WitnessFolder(boot.folder, owner=boot.uid)
    listener = isolation.bind_socket(boot.socket_path, boot.uid if changes else None, boot.socket_group)
    if changes and boot.uid is not None and boot.gid is not None:
        isolation.rehearse()
        isolation.become(boot.uid, boot.gid)
    is_told = isolation.watch_parent(boot.parent_os_pid)
    signer = open_key(boot.keys_folder, boot.name)
    state = WitnessState(folder, signer, logs=boot.logs, trust_on_first_use=boot.trust_on_first_use)
    listener.listen(limits.WITNESS_BACKLOG)
    log.info("the witness %s listens on %s", boot.name, boot.socket_path)
    if boot.ready_fd is not None:
        with suppress(BrokenPipeError):  # whoever waited for it has gone; the parent's death is told another way
            os.write(boot.ready_fd, state.key().text.encode() + b"\n")
        os.close(boot.ready_fd)
    return WitnessServer(state, listener, stop, folder), is_told


class _Client:
    """A connection: first a request comes in, then its answer goes out, then perhaps another request."""

    __slots__ = ("deadline", "ends", "outgoing", "reader", "sock")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.reader = p.FrameReader(limits.WITNESS_REQUEST_BYTES)
        self.outgoing = b""
        self.deadline = deadline
        #: Whether the connection is closed when the answer has left.
        self.ends = False


class WitnessServer:
    """Answers requests until it is told to stop.

    Args:
        state: decides.
        listener: bound, listening and non-blocking.
        stop: becomes readable when it is to stop.
        folder: closed at the end.
    """

    def __init__(
        self, state: WitnessState, listener: socket.socket, stop: socket.socket, folder: WitnessFolder
    ) -> None:
        self._state = state
        self._listener = listener
        self._stop = stop
        self._folder = folder
        self._clients: dict[int, _Client] = {}
        self._poller = select.poll()
        self._poller.register(stop, select.POLLIN)
        self._listening = False
        self._listen_from = 0.0

    def run(self, parent_os_pid: int | None = None) -> None:
        """Serve.

        Args:
            parent_os_pid: end when it is not the parent any more; for systems that do not tell.
        """
        while True:
            for fd, _event in self._poller.poll(self._patience_ms(parent_os_pid is not None)):
                if fd == self._stop.fileno():
                    return
                if fd == self._listener.fileno():
                    self._accept()
                elif fd in self._clients:
                    self._serve(self._clients[fd])
            now = time.monotonic()
            for client in [one for one in self._clients.values() if one.deadline <= now]:
                self._drop(client)
            if parent_os_pid is not None and os.getppid() != parent_os_pid:
                return

    def close(self) -> None:
        """Close everything. Requests that have no answer get none."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._listener.close()
        self._folder.close()

    def _patience_ms(self, looks_for_parent: bool) -> float | None:
        """Return how long to wait at most; and listen only while there is a place."""
        now = time.monotonic()
        ends = [client.deadline for client in self._clients.values()]
        if looks_for_parent:
            ends.append(now + limits.WITNESS_PARENT_POLL_S)
        wanted = len(self._clients) < limits.WITNESS_CLIENTS and now >= self._listen_from
        if wanted and not self._listening:
            self._poller.register(self._listener, select.POLLIN)
        elif self._listening and not wanted:
            self._poller.unregister(self._listener)
        self._listening = wanted
        if now < self._listen_from:
            ends.append(self._listen_from)
        return max(0.0, min(ends) - now) * 1000 + 1 if ends else None

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # No descriptor or memory is left; the waiting client would wake this loop at once again.
            log.warning("no client can be taken for %g s: %s", limits.WITNESS_CLIENT_S, error)
            self._listen_from = time.monotonic() + limits.WITNESS_CLIENT_S
            return
        sock.setblocking(False)
        self._clients[sock.fileno()] = _Client(sock, time.monotonic() + limits.WITNESS_CLIENT_S)
        self._poller.register(sock, select.POLLIN)

    def _serve(self, client: _Client) -> None:
        try:
            if not client.outgoing:
                data = client.sock.recv(_RECV_BYTES)
                if not data:
                    self._drop(client)
                    return
                self._take(client, data)
            if client.outgoing:
                self._send(client)
        except BlockingIOError:
            if client.outgoing:
                self._poller.modify(client.sock, select.POLLOUT)
        except OSError:
            self._drop(client)

    def _take(self, client: _Client, data: bytes) -> None:
        answer: Answer
        try:
            client.reader.feed(data)
            body = client.reader.next()
            if body is None:
                return
            if not client.reader.is_empty:
                raise ProtocolError("another request came before the answer to the first")
        except ProtocolError as error:
            answer = Refused("malformed", str(error))
            client.ends = True
        else:
            answer = self._answer(body)
        client.outgoing = p.frame(p.format_answer(answer))

    def _answer(self, body: bytes) -> Answer:
        try:
            match p.parse_request(body):
                case p.AddCheckpoint(old_size, proof, note):
                    return self._state.add_checkpoint(old_size, proof, note)
                case p.ShowHead(origin):
                    return self._state.head(origin)
                case p.ShowEvidence(origin):
                    return self._state.evidence(origin)
                case p.TellKeys(origin, keys, rotations):
                    return self._state.pin(origin, keys, rotations)
                case p.ShowKey():
                    return self._state.key()
        except WeftError as error:
            return Refused("malformed", str(error))

    def _send(self, client: _Client) -> None:
        sent = client.sock.send(client.outgoing)
        client.outgoing = client.outgoing[sent:]
        if client.outgoing:
            self._poller.modify(client.sock, select.POLLOUT)
        elif client.ends:
            self._drop(client)
        else:
            self._poller.modify(client.sock, select.POLLIN)
            client.deadline = time.monotonic() + limits.WITNESS_CLIENT_S

    def _drop(self, client: _Client) -> None:
        del self._clients[client.sock.fileno()]
        self._poller.unregister(client.sock)
        client.sock.close()
