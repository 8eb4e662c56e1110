"""The agent's end of its two rings to the service: append to the log, ask the gate, with many requests under way.

    agent                                          service process
    ─────                                          ───────────────
    submit ──▶ request ring ══════════════════════▶ take a share, carry out, write, sync
    on_ready ◀══════════════════════ reply ring ◀── put the answers, then commit the requests

Why it is as it is: the rings belong to the kernel and outlive the service process. A request that was put is carried
out by this or the next incarnation of the service, once, because the log knows requests by their position in the ring.
So nothing is ever sent again from here, and ``result`` only waits. The agent's runtime owns the mailbox; it calls
``on_ready`` when the reply ring's byte is set, and lends ``pump``, which waits and serves everything else, so that a
waiting agent still sees its orders.

Guaranteed: an answer belongs to its request. ``require`` returns only on a permit; silence, lateness and a broken
service raise ``GateUnavailable``. Not guaranteed: that a request whose answer did not come in time had no effect; it
may still be carried out, and the chain tells. Single-threaded: the thread of the runtime.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

import msgspec

from weftos import limits
from weftos.artifacts import ArtifactRef
from weftos.artifacts.holding import REFERENCE
from weftos.errors import (
    MessageTooLarge,
    ProtocolError,
    RingFull,
    ServiceUnavailable,
    error_for_code,
)
from weftos.governance.permits import HeldPermit
from weftos.service import protocol as p
from weftos.service.ecc_protocol import AskMemory, SearchMemory
from weftos.service.gate_calls import GateCalls
from weftos.service.log_calls import LogCalls
from weftos.shm import RingConsumer, RingProducer
from weftos.shm.spin import Patience

__all__ = ["ClientStatistics", "Pending", "Pump", "ServiceClient", "with_artifact"]

R = TypeVar("R")

#: The answer to a request whose answer was dropped.
_LOST: Final = p.Failed(
    ServiceUnavailable.code, "the answer found no room in the reply ring; what was asked may have been done"
)


class Pump(Protocol):
    """Waits at most ``timeout_s`` seconds until something may have arrived, and serves it, replies included."""

    def __call__(self, timeout_s: float, /) -> object:
        """Wait and serve."""
        ...


class ClientStatistics(msgspec.Struct, frozen=True):
    """Counts of one client since it was made.

    Attributes:
        requests: put into the request ring.
        replies: matched to their request.
        strays: replies to no request of this incarnation, or to one given up.
        broken: replies that did not decode.
        lost: requests whose reply the service dropped, because the reply ring was full.
        in_flight: requests without an answer.
    """

    requests: int
    replies: int
    strays: int
    broken: int
    lost: int
    in_flight: int


class Pending:
    """A request under way.

    Attributes:
        position: its position in the request ring.
        reply: the answer as it came, ``None`` until then.
    """

    __slots__ = ("_callback", "_client", "position", "reply")

    def __init__(self, client: ServiceClient, position: int) -> None:
        self._client = client
        self._callback: Callable[[Pending], None] | None = None
        self.position = position
        self.reply: p.Reply | None = None

    @property
    def done(self) -> bool:
        """Whether the answer is here."""
        return self.reply is not None

    def on_done(self, callback: Callable[[Pending], None]) -> None:
        """Have ``callback`` called with this object when the answer is here, at once if it is; for event loops."""
        if self.reply is not None:
            callback(self)
        else:
            self._callback = callback

    def result(self, timeout_s: float = limits.SERVICE_TIMEOUT_S) -> p.Reply:
        """Wait for the answer, serving the agent's other business meanwhile.

        A restart of the service shows only as a longer wait.

        Returns:
            The answer, never ``Failed``.

        Raises:
            ServiceUnavailable: no answer in time. The request may still be carried out.
            WeftError: of the class that the service named, if it refused.
        """
        deadline = time.monotonic() + timeout_s
        client = self._client
        while self.reply is None:
            client.on_ready()
            if self.reply is not None:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                client.give_up(self)
                raise ServiceUnavailable(
                    f"the service did not answer within {timeout_s:g} s; it may still do what was asked"
                )
            client.pump(left)
        if isinstance(self.reply, p.Failed):
            raise error_for_code(self.reply.code, self.reply.message)
        return self.reply

    def settle(self, reply: p.Reply) -> None:
        """Take the answer; called by the client once."""
        self.reply = reply
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(self)


#: What is answered without waiting for the disk, as a rule, and how long it pays to look for the answer, in seconds.
_QUICK: Final[dict[Any, float]] = dict.fromkeys(
    (p.GateCheck, p.Ping, p.ChainHead, p.BudgetReserve, p.BudgetSettle, p.BudgetShow), limits.SERVICE_SPIN_S
) | dict.fromkeys((SearchMemory, AskMemory), limits.SERVICE_SEARCH_SPIN_S)
_SPINS: Final = {*_QUICK.values(), limits.SERVICE_BATCH_SPIN_S}
#: Answers that are taken from the ring at once.
_TAKE: Final = 256
#: Made once, before the first agent is forked.
_decode_reply: Final = msgspec.msgpack.Decoder(p.ReplyFrame).decode


def with_artifact(payload: dict[str, Any], artifact: ArtifactRef | None) -> dict[str, Any]:
    """Return a payload with a reference to an artifact in it, if one is given; it replaces one that is there."""
    return payload if artifact is None else payload | {REFERENCE: msgspec.to_builtins(artifact)}


class ServiceClient(LogCalls, GateCalls):
    """What an agent uses as ``ctx.service``.

    Args:
        request: writing end of the request ring; its ``wake`` is the ready byte in the service's mailbox.
        reply: reading end of the reply ring, not autocommitting.
        pump: see ``Pump``.
        in_flight: requests without an answer that are allowed at once.
        durable: whether appends that do not say it are answered only when they are on disk.

    Attributes:
        largest: bytes of an encoded request at most.
        largest_reply: bytes of an encoded answer at most.
        held: a permit to be shown with what it is for; see ``Context.under``.
    """

    def __init__(
        self,
        request: RingProducer,
        reply: RingConsumer,
        pump: Pump,
        *,
        in_flight: int = limits.SERVICE_IN_FLIGHT,
        durable: bool = True,
    ) -> None:
        self.pump = pump
        self.durable = durable
        self._request = request
        self._reply = reply
        self._in_flight = in_flight
        self.largest = min(request.geometry.max_payload, limits.SERVICE_REQUEST_BYTES)
        self.largest_reply = reply.geometry.max_payload
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = _decode_reply
        self._pending: dict[int, Pending] = {}
        self.noticed = {}
        self.held: HeldPermit | None = None
        #: By how long it may last, so that those who wait in vain for long answers still look for short ones.
        self._patience = {spin_s: Patience(spin_s=spin_s) for spin_s in _SPINS}
        self._requests = self._replies = self._strays = self._broken = self._lost = 0

    # --- requests -----------------------------------------------------------------------------------------------------

    def submit(self, request: p.Request, timeout_s: float = limits.SERVICE_TIMEOUT_S) -> Pending:
        """Put a request on its way and return; waits only while too many are under way or the ring is full.

        Args:
            request: a struct of ``protocol.Request``.
            timeout_s: how long to wait for room, in seconds.

        Raises:
            RingFull: no room in time; the request was not sent.
            MessageTooLarge: the encoded request exceeds ``limits.SERVICE_REQUEST_BYTES`` or a record of the ring.
            ChannelClosed: the kernel has closed the ring.
        """
        data = self._encode_checked(request)
        pending = self._put(data)
        if pending is not None:
            return pending
        deadline = time.monotonic() + timeout_s
        while True:
            self.on_ready()
            pending = self._put(data)
            if pending is not None:
                return pending
            left = deadline - time.monotonic()
            if left <= 0:
                raise RingFull(
                    f"no room for a request to the service within {timeout_s:g} s: {len(self._pending)} are under way",
                    depth_bytes=self._request.depth_bytes(),
                    capacity=self._request.geometry.capacity,
                )
            # The service's answer wakes us; a ring that became free without one is found after a slice.
            self.pump(min(left, limits.WAIT_SLICE_S))

    def offer(self, request: p.Request) -> bool:
        """Put a request on its way if there is room now; nobody waits for its answer.

        Returns:
            False when there is no room; nothing was sent.

        Raises:
            MessageTooLarge, ChannelClosed: as for ``submit``.
        """
        return self._put(self._encode_checked(request)) is not None

    def append(
        self,
        kind: str,
        payload: dict[str, Any],
        *,
        subject: str | None = None,
        cause: int | None = None,
        durable: bool | None = None,
        cosigned: bool = False,
        key: str | None = None,
        artifact: ArtifactRef | None = None,
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> p.Appended:
        """Append one event to the chain and wait for the answer.

        Args:
            kind: starts with ``app.``; the other kinds belong to the kernel.
            payload: mapping with text keys of None, bool, int, float, str, bytes, lists and mappings of these.
            subject: what the event is about.
            cause: sequence number of the record that led to it.
            durable: answer when it is on disk, not when the operating system has it; see ``[chain] durability``.
            artifact: what ``ctx.artifacts.put`` returned; it stands in the payload under ``artifact``, and is kept as
                long as that payload is. For what is too large for a payload.
            cosigned: answer when more than half of the witnesses have signed a checkpoint that covers it.
            key: a name of your own for this event, such as ``"order-17"``. Under one key there is one event on the log,
                for good: submitted again, by this agent or one spawned anew under its name, before or after any
                restart, it gets the answer of the first time.
            timeout_s: in seconds, for all of it.

        Raises:
            IdempotencyConflict: the key has another event (kind, payload, subject or cause differ).
            AppendRefused: the event is not acceptable, or its kind is not for agents.
            ArtifactNotFound: the artifact is not in the store.
            StorageFailed: the log cannot be written.
            ServiceUnavailable: no answer in time.
            RingFull, MessageTooLarge: as for ``submit``.
        """
        payload = with_artifact(payload, artifact)
        durable = self.durable if durable is None else durable
        deadline = time.monotonic() + timeout_s
        done = self.ask(p.Append(kind, payload, subject, cause, durable or cosigned, key), p.Appended, timeout_s)
        if cosigned:
            self._await_cosigned(done.seq, deadline)
        return done

    def _await_cosigned(self, seq: int, deadline: float) -> None:
        while self.head(max(deadline - time.monotonic(), 0.0)).get("cosigned_size", 0) <= seq:
            if time.monotonic() >= deadline:
                raise ServiceUnavailable(
                    f"record {seq} is on the disk, but too few witnesses have signed a checkpoint that covers it; "
                    "`weaver chain witness` shows what keeps them"
                )
            # What is waited for happens in other processes, once a second at most.
            self.pump(min(limits.POLL_LONGEST_S, max(deadline - time.monotonic(), 0.0)))

    def append_batch(
        self,
        events: Iterable[p.Event],
        *,
        durable: bool | None = None,
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> p.Appended:
        """Append several events in order, all or none, with one answer; arguments and errors as for ``append``."""
        durable = self.durable if durable is None else durable
        return self.ask(p.AppendBatch(list(events), durable), p.Appended, timeout_s)

    def head(self, timeout_s: float = limits.SERVICE_TIMEOUT_S) -> dict[str, Any]:
        """Return the state of chain and service; see ``protocol.Head``. Errors as for ``Pending.result``."""
        return self.ask(p.ChainHead(), p.Head, timeout_s).values

    def tail(self, count: int = 20, timeout_s: float = limits.SERVICE_TIMEOUT_S) -> list[dict[str, Any]]:
        """Return the newest records, newest last; fewer than ``count`` if they do not fit one answer."""
        return self.ask(p.ChainTail(count), p.Tail, timeout_s).records

    def ping(self, timeout_s: float = limits.SERVICE_TIMEOUT_S) -> float:
        """Return how long the service took to answer, in seconds."""
        started = time.monotonic()
        self.ask(p.Ping(), p.Pong, timeout_s)
        return time.monotonic() - started

    # --- for the runtime ----------------------------------------------------------------------------------------------

    def on_ready(self) -> int:
        """Take the replies that are there.

        Returns:
            How many replies were taken.

        Raises:
            RingCorrupted: the reply ring contradicts its format.
        """
        total = 0
        while taken := self._reply.take(_TAKE):
            # Before the callbacks: one of them may wait for a further answer and come here again.
            self._reply.commit()
            total += len(taken)
            for _, data in taken:
                self._settle(data)
            if len(taken) < _TAKE:
                break  # of what comes meanwhile the ready byte tells
        return total

    def has_reply(self) -> bool:
        """Whether the reply ring holds something."""
        return self._reply.depth_bytes() > 0

    def look_for(self, pending: Pending, request: p.Request) -> None:
        """Look for the one answer that is under way for a moment, where that pays: to be woken takes as long again.

        Args:
            pending: what is waited for.
            request: what was asked.
        """
        spin_s = _QUICK.get(type(request))
        if spin_s is None:
            return
        if isinstance(request, SearchMemory) and request.count > 1:
            spin_s = limits.SERVICE_BATCH_SPIN_S
        if len(self._pending) == 1:
            self._patience[spin_s].spin(
                lambda: pending.done or (self.has_reply() and self.on_ready() > 0), float("inf")
            )

    def give_up(self, pending: Pending) -> None:
        """Forget a request; its answer, should it come, counts as a stray."""
        self._pending.pop(pending.position, None)

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return len(self._pending)

    def statistics(self) -> ClientStatistics:
        """Return the counts."""
        return ClientStatistics(
            self._requests, self._replies, self._strays, self._broken, self._lost, len(self._pending)
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _encode_checked(self, request: p.Request) -> bytes:
        try:
            data = self._encode(request)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ProtocolError(f"a {type(request).__name__} holds a value that cannot travel: {error}") from error
        if len(data) > self.largest:
            raise MessageTooLarge(
                f"a {type(request).__name__} of {len(data)} bytes; the service takes {self.largest}; "
                "put what is large with ctx.artifacts.put and append a reference to it",
                size=len(data),
                limit=self.largest,
            )
        return data

    def _put(self, data: bytes) -> Pending | None:
        if len(self._pending) >= self._in_flight:
            return None
        try:
            position = self._request.put(data)
        except RingFull:
            return None
        pending = self._pending[position] = Pending(self, position)
        self._requests += 1
        return pending

    def _settle(self, data: Any) -> None:
        try:
            frame = self._decode(data)
        except (msgspec.MsgspecError, TypeError, RecursionError, ValueError):
            self._broken += 1
            return
        position = frame.request
        if position == p.NOTICE and isinstance(frame.reply, p.Noticed):
            self.take_notice(frame.reply)
            return
        pending = self._pending.pop(position, None)
        if pending is None:
            self._strays += 1
            return
        self._replies += 1
        pending.settle(frame.reply)
        # Answers come in the order of the requests, so one that was passed over found no room and will not come.
        while self._pending and (first := next(iter(self._pending))) < position:
            self._lost += 1
            self._pending.pop(first).settle(_LOST)

    def ask(self, request: p.Request, kind: type[R], timeout_s: float) -> R:
        """Send a request and wait for its answer, which must be of the given kind; errors as for ``Pending.result``."""
        started = time.monotonic()
        pending = self.submit(request, timeout_s)
        self.look_for(pending, request)
        reply = pending.result(max(timeout_s - (time.monotonic() - started), 0))
        if not isinstance(reply, kind):
            raise ServiceUnavailable(f"the service answered a {type(request).__name__} with {type(reply).__name__}")
        return reply
