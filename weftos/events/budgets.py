"""Events of budgets: what was given, reserved, used, and refused."""

from __future__ import annotations

from typing import ClassVar, Literal

from weftos.events.event import Event, Natural, Pid


class BudgetSet(Event, frozen=True, kw_only=True):
    """A budget was given to an agent and all below it, in place of the one before; pid 0 is the kernel's."""

    kind: ClassVar[str] = "budget.set"
    pid: Pid
    given: dict[str, int]
    claims: bool
    loop_repeats: Natural | None = None
    loop_window_s: Natural | None = None
    by: str
    reason: str


class BudgetReserved(Event, frozen=True, kw_only=True):
    """An agent reserved what an act may use; the number of this record names the reservation."""

    kind: ClassVar[str] = "budget.reserve"
    pid: Pid
    incarnation: Natural
    amounts: dict[str, int]
    action: str = ""
    args_hash: bytes = b""
    at_ms: Natural


class BudgetSettled(Event, frozen=True, kw_only=True):
    """A reservation ended, and was charged."""

    kind: ClassVar[str] = "budget.settle"
    pid: Pid
    reservation: Natural
    charged: dict[str, int]
    claimed: dict[str, int] | None = None
    how: Literal["settled", "crash"]


class BudgetExhausted(Event, frozen=True, kw_only=True):
    """An act was refused, because a budget does not reach, or because it repeats itself."""

    kind: ClassVar[str] = "budget.exhausted"
    pid: Pid
    dimension: str
    rule_pid: Pid
    asked: Natural
    remaining: int
    given: Natural
    action: str = ""
