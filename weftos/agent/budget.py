"""``ctx.budget``: reserve before an act, tell what it used, and give the rest back.

    with ctx.budget.reserve("llm.call", args=prompt, turns=1, tokens=4000, wall_ms=30_000) as spent:
        answer = model(prompt)
        spent.used(tokens=answer.tokens)

The figures are held by the service. What is reserved when this process ends is charged in full.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from blake3 import blake3

from weftos import limits
from weftos.errors import BudgetExhausted, InvalidRequest, ServiceUnavailable
from weftos.governance.budget import DIMENSIONS, Stop
from weftos.service import protocol as p
from weftos.service.client import ServiceClient

__all__ = ["AsyncBudget", "AsyncReservation", "Budget", "Reservation", "hash_arguments"]

_encode: Final = msgspec.msgpack.Encoder(order="sorted").encode


def hash_arguments(args: Any) -> bytes:
    """Return a hash by which equal arguments are known: 16 bytes.

    Raises:
        InvalidRequest: they hold something that MessagePack does not.
    """
    try:
        return blake3(_encode(args)).digest(length=limits.BUDGET_ARGS_HASH_BYTES)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"the arguments of an act cannot be compared: {error}") from error


def _request(action: str, args: Any, amounts: dict[str, int]) -> p.BudgetReserve:
    wanted = {name: amount for name, amount in amounts.items() if amount}
    return p.BudgetReserve(wanted, action, b"" if args is None else hash_arguments(args))


def _answer(service: ServiceClient, request: p.Request) -> p.Reply:
    pending = service.submit(request)
    service.look_for(pending, request)
    return pending.result()


def _ticket(reply: p.Reply) -> int:
    """Return the number of a reservation.

    Raises:
        BudgetExhausted: a budget does not reach.
    """
    if isinstance(reply, p.BudgetTicket):
        return reply.reservation
    if isinstance(reply, p.BudgetStop):
        facts: dict[str, Any] = msgspec.structs.asdict(reply)
        raise BudgetExhausted(str(Stop(**facts)), **facts)
    raise ServiceUnavailable(f"the service answered a reservation with {type(reply).__name__}")


def _charged(reply: p.Reply) -> dict[str, int]:
    if not isinstance(reply, p.Done):
        raise ServiceUnavailable(f"the service answered a settlement with {type(reply).__name__}")
    charged: dict[str, int] = reply.values["charged"]
    return charged


class _Spent:
    """What is counted while a reservation is open."""

    def __init__(self, number: int) -> None:
        #: The number of its record on the log.
        self.number = number
        self._used: dict[str, int] | None = None
        self._done = False

    def used(self, **amounts: int) -> None:
        """Count what was used, by dimension; several calls add up. Without any, all that was reserved counts."""
        total = self._used = {} if self._used is None else self._used
        for name, amount in amounts.items():
            if name not in DIMENSIONS:
                raise InvalidRequest(f"there is no dimension {name!r} of a budget; there are {', '.join(DIMENSIONS)}")
            total[name] = total.get(name, 0) + amount

    def _end(self) -> p.BudgetSettle | None:
        if self._done:
            return None
        self._done = True
        return p.BudgetSettle(self.number, self._used)


class Reservation(_Spent):
    """An open reservation; leaving the ``with`` block settles it, also after an exception."""

    def __init__(self, number: int, service: ServiceClient) -> None:
        super().__init__(number)
        self._service = service

    def settle(self) -> dict[str, int]:
        """End it; returns what was charged, by dimension, and nothing the second time.

        Raises:
            ServiceUnavailable: no answer; it may be settled, and is charged in full at the latest when this agent ends.
        """
        request = self._end()
        return {} if request is None else _charged(_answer(self._service, request))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()


class Budget:
    """What an agent uses as ``ctx.budget``.

    Args:
        service: asks.
    """

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    def reserve(self, action: str = "", *, args: Any = None, **amounts: int) -> Reservation:
        """Reserve what an act may use at most; use it in a ``with`` statement.

        Args:
            action: name of the act, for the log and for the guard against loops.
            args: of the act, anything that MessagePack holds; the same again and again is a loop. ``None``: no guard.
            amounts: ``turns``, ``tool_calls``, ``tokens``, ``cost`` (millionths), ``wall_ms``.

        Raises:
            BudgetExhausted: a budget does not reach; its fields say which, and by whose rule.
            InvalidRequest: an unknown dimension, or a figure out of range.
            ServiceUnavailable, RingFull, MessageTooLarge: as for ``ctx.service.submit``. The act must not happen.
        """
        reply = _answer(self._service, _request(action, args, amounts))
        return Reservation(_ticket(reply), self._service)

    def show(self) -> dict[str, Any]:
        """Return what may still be used, by dimension, and by whose rule."""
        return self._service.ask(p.BudgetShow(), p.Done, limits.SERVICE_TIMEOUT_S).values


class AsyncReservation(_Spent):
    """As ``Reservation``, for ``async with``."""

    def __init__(self, number: int, ask: Callable[[p.Request], Awaitable[p.Reply]]) -> None:
        super().__init__(number)
        self._ask = ask

    async def settle(self) -> dict[str, int]:
        """As ``Reservation.settle``."""
        request = self._end()
        return {} if request is None else _charged(await self._ask(request))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.settle()


class AsyncBudget:
    """As ``Budget``, awaitable: ``async with await ctx.budget.reserve(…)``.

    Args:
        ask: sends a request to the service and awaits its answer.
    """

    def __init__(self, ask: Callable[[p.Request], Awaitable[p.Reply]]) -> None:
        self._ask = ask

    async def reserve(self, action: str = "", *, args: Any = None, **amounts: int) -> AsyncReservation:
        """As ``Budget.reserve``."""
        return AsyncReservation(_ticket(await self._ask(_request(action, args, amounts))), self._ask)

    async def show(self) -> dict[str, Any]:
        """As ``Budget.show``."""
        reply = await self._ask(p.BudgetShow())
        if not isinstance(reply, p.Done):
            raise ServiceUnavailable(f"the service answered a question about budgets with {type(reply).__name__}")
        return reply.values
