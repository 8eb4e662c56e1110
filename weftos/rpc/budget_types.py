"""Parameters and answers of the methods about budgets."""

from __future__ import annotations

from typing import Annotated

import msgspec

from weftos import limits

__all__ = ["BudgetRow", "BudgetSetParams", "BudgetSetResult", "BudgetShowParams", "BudgetView"]

_Amount = Annotated[int, msgspec.Meta(ge=0, le=limits.BUDGET_AMOUNT_MAX)]
#: 0 is the kernel.
_Pid = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class BudgetShowParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names one account.

    Attributes:
        pid: of the agent; 0 is the kernel's, above all.
    """

    pid: _Pid = 0


class BudgetSetParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A budget for an agent and all below it.

    Attributes:
        pid: of the agent; 0 is the kernel's, above all.
        given: by dimension (``turns``, ``tool_calls``, ``tokens``, ``cost``, ``wall_ms``); 0 takes a limit away, and
            what is missing stays as it was.
        claims: whether an agent's word gives back tokens and cost that it reserved; ``None`` leaves that.
        loop_repeats: so often the same act may be done within the window; 0 is without end, ``None`` leaves that.
        loop_window_secs: the window in seconds.
        reason: for the log.
    """

    pid: _Pid
    given: dict[str, _Amount] = {}
    claims: bool | None = None
    loop_repeats: Annotated[int, msgspec.Meta(ge=0, le=limits.BUDGET_LOOP_REPEATS_MAX)] | None = None
    loop_window_secs: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=limits.RIGHTS_REASON_CHARS)] = "the operator asked"


class BudgetSetResult(msgspec.Struct, frozen=True, kw_only=True):
    """The budget counts.

    Attributes:
        record: number of its record.
    """

    record: int


class BudgetRow(msgspec.Struct, frozen=True, kw_only=True):
    """One dimension of an account.

    Attributes:
        dimension: which.
        given: to this very account; 0 is nothing of its own.
        reserved: by the agent and all below it, for acts under way.
        settled: used by the agent and all below it.
        remaining: what an act may still use, by the tightest rule above it; ``None`` is unlimited.
        rule_pid: whose rule that is; 0 is the kernel's, ``None`` is nobody's.
        rule_given: what that rule gave.
    """

    dimension: str
    given: int
    reserved: int
    settled: int
    remaining: int | None
    rule_pid: int | None
    rule_given: int | None


class BudgetView(msgspec.Struct, frozen=True, kw_only=True):
    """An account.

    Attributes:
        pid: of the agent; 0 is the kernel's.
        path: accounts that its acts count in, its own first.
        dimensions: one row for each.
        open: reservations of the agent itself that are open.
        claims: whether its word gives back tokens and cost.
        loop_repeats: so often the same act may be done within the window; 0 is without end.
        loop_window_s: the window in seconds.
        loop_rule_pid: whose rule that is.
    """

    pid: int
    path: list[int]
    dimensions: list[BudgetRow]
    open: int
    claims: bool
    loop_repeats: int
    loop_window_s: int
    loop_rule_pid: int
