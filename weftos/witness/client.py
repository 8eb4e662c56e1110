"""Asking a witness: with patience, or from a loop that must not wait.

Why it is as it is: the service process writes the log, and a witness that hangs must never stop it. So a request can be
an object with a descriptor that a loop waits on among its others. Each request has a connection of its own: then a late
answer cannot be taken for that of the next request.

Guaranteed: ``start_request`` and ``on_ready`` never wait. An answer is in the strict form or is none. Not guaranteed:
that an answer is true; signatures in it are verified by ``added_to`` and ``weftos.witness.quorum``. A request without
an answer may have been carried out; ask again: the witness says by a conflict how far it has come.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from typing import Final

from weftos import limits
from weftos.chain.signing.rotation import PublicKeys, Rotation
from weftos.errors import ProtocolError, WitnessUnavailable
from weftos.witness import protocol as p
from weftos.witness.outcomes import Answer, Conflict, Cosigned, Evidence, Head, Key, Pinned, Refused

__all__ = ["PendingRequest", "WitnessClient"]

_RECV_BYTES: Final = 64 * 1024


class PendingRequest:
    """One request on its way. Made by ``WitnessClient.start_request``.

    Wait for ``events`` on ``fileno()`` until ``deadline``, call ``on_ready`` for each, until ``result`` is there.

    Args:
        socket_path: of the witness.
        request: what is asked.
        timeout_s: for the whole of it, in seconds.

    Attributes:
        deadline: in seconds of ``time.monotonic``.
        result: ``None`` while it is on its way; then the answer, or why there is none. It may be there at once.
        is_full: whether the witness's listening queue was full; only then is trying again at once of use.

    Raises:
        ProtocolError: the request is larger than a witness takes.
    """

    def __init__(self, socket_path: str, request: p.Request, timeout_s: float) -> None:
        self._path = socket_path
        self._request = request
        self._timeout_s = timeout_s
        self._outgoing = p.frame(p.format_request(request))
        self._reader = p.FrameReader(limits.WITNESS_ANSWER_BYTES)
        self.deadline = time.monotonic() + timeout_s
        self.result: Answer | WitnessUnavailable | None = None
        self.is_full = False
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._sock.connect(socket_path)
        except BlockingIOError:
            self.is_full = True
            self._give_up("its listening queue is full")
        except OSError as error:
            self._give_up(str(error))

    def fileno(self) -> int:
        """Return the descriptor to wait on; -1 when the result is there."""
        return self._sock.fileno()

    @property
    def events(self) -> int:
        """What to wait for, as for ``select.poll``."""
        return select.POLLOUT if self._outgoing else select.POLLIN

    def on_ready(self) -> None:
        """Go on as far as possible without waiting. Call it also when the deadline has passed."""
        if self.result is None:
            self._advance()
        if self.result is None and time.monotonic() >= self.deadline:
            self._give_up(f"no answer within {self._timeout_s:g} s")

    def close(self) -> None:
        """Give up; the witness may carry the request out all the same. Idempotent."""
        if self.result is None:
            self._give_up("the request was withdrawn")

    def _advance(self) -> None:
        try:
            self._go_on()
        except BlockingIOError:
            return  # no more for now
        except ProtocolError as error:
            self._give_up(str(error))
        except OSError as error:
            self._give_up(f"the connection broke: {error}")

    def _go_on(self) -> None:
        if self._outgoing:
            sent = self._sock.send(self._outgoing)
            self._outgoing = self._outgoing[sent:]
            if self._outgoing:
                return
        while self.result is None:
            data = self._sock.recv(_RECV_BYTES)
            if not data:
                self._give_up("it closed the connection without an answer")
                return
            self._reader.feed(data)
            if (body := self._reader.next()) is not None:
                self._finish(p.parse_answer(body, self._request))

    def _give_up(self, reason: str) -> None:
        self._finish(WitnessUnavailable(f"the witness at {self._path} cannot be asked: {reason}"))

    def _finish(self, result: Answer | WitnessUnavailable) -> None:
        self.result = result
        self._sock.close()


class WitnessClient:
    """Asks one witness.

    Args:
        socket_path: where it listens.
        timeout_s: default patience with each request, in seconds.
    """

    def __init__(self, socket_path: str, *, timeout_s: float = limits.WITNESS_TIMEOUT_S) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s

    def start_request(self, request: p.Request, *, timeout_s: float | None = None) -> PendingRequest:
        """Begin a request and return at once.

        Raises:
            ProtocolError: the request is larger than a witness takes.
        """
        return PendingRequest(self._path, request, self._timeout_s if timeout_s is None else timeout_s)

    def ask(self, request: p.Request, *, timeout_s: float | None = None) -> Answer:
        """Ask and wait for the answer.

        Raises:
            WitnessUnavailable: there is none within the time allowed, or one that makes no sense.
            ProtocolError: the request is larger than a witness takes.
        """
        patience = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + patience
        pending = self.start_request(request, timeout_s=patience)
        while pending.is_full and time.monotonic() < deadline:
            time.sleep(limits.WITNESS_RETRY_S)
            pending = self.start_request(request, timeout_s=max(0.0, deadline - time.monotonic()))
        try:
            while pending.result is None:
                poller = select.poll()
                poller.register(pending.fileno(), pending.events)
                poller.poll(max(0.0, pending.deadline - time.monotonic()) * 1000)
                pending.on_ready()
        finally:
            pending.close()
        if isinstance(pending.result, WitnessUnavailable):
            raise pending.result
        return pending.result

    def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes, *, timeout_s: float | None = None
    ) -> Cosigned | Conflict | Refused:
        """Ask for a cosignature; see ``WitnessState.add_checkpoint``.

        Raises:
            WitnessUnavailable, ProtocolError: as for ``ask``.
        """
        answer = self.ask(p.AddCheckpoint(old_size, tuple(proof), note), timeout_s=timeout_s)
        assert isinstance(answer, Cosigned | Conflict | Refused)
        return answer

    def head(self, origin: str, *, timeout_s: float | None = None) -> Head | Refused:
        """Ask for the newest checkpoint of a log that the witness cosigned.

        Raises:
            WitnessUnavailable, ProtocolError: as for ``ask``.
        """
        answer = self.ask(p.ShowHead(origin), timeout_s=timeout_s)
        assert isinstance(answer, Head | Refused)
        return answer

    def tell_keys(
        self, origin: str, keys: PublicKeys, rotations: Sequence[Rotation] = (), *, timeout_s: float | None = None
    ) -> Pinned | Refused:
        """Tell the witness the keys of a log, with up to ``limits.WITNESS_ROTATIONS`` changes that lead to them.

        Raises:
            WitnessUnavailable, ProtocolError: as for ``ask``.
        """
        answer = self.ask(p.TellKeys(origin, keys, tuple(rotations)), timeout_s=timeout_s)
        assert isinstance(answer, Pinned | Refused)
        return answer

    def evidence(self, origin: str, *, timeout_s: float | None = None) -> Evidence | Refused:
        """Ask what the witness holds against a log.

        Raises:
            WitnessUnavailable, ProtocolError: as for ``ask``.
        """
        answer = self.ask(p.ShowEvidence(origin), timeout_s=timeout_s)
        assert isinstance(answer, Evidence | Refused)
        return answer

    def key(self, *, timeout_s: float | None = None) -> Key | Refused:
        """Ask for the witness's public key. It is only as true as the way to the socket; pin it.

        Raises:
            WitnessUnavailable, ProtocolError: as for ``ask``.
        """
        answer = self.ask(p.ShowKey(), timeout_s=timeout_s)
        assert isinstance(answer, Key | Refused)
        return answer
