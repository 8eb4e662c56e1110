"""The requests about budgets, as a part of the table of ``handlers``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from weftos.service import protocol as p
from weftos.service.clients import Caller

if TYPE_CHECKING:
    from weftos.service.handlers import Desk, Handler

__all__ = ["BUDGET_HANDLERS"]


def _reserve(desk: Desk, caller: Caller, position: int, request: p.BudgetReserve) -> p.Reply:
    subject = desk.subject(caller.agent_id)
    return desk.budgets.reserve(caller, position, subject.incarnation if subject is not None else 0, request)


def _settle(desk: Desk, caller: Caller, position: int, request: p.BudgetSettle) -> p.Reply:
    return desk.budgets.settle(caller, position, request)


def _show(desk: Desk, caller: Caller, _position: int, request: p.BudgetShow) -> p.Reply:
    return desk.budgets.show(caller, request)


def _set(desk: Desk, caller: Caller, position: int, request: p.BudgetSet) -> p.Reply:
    return desk.budgets.set_rule(caller, position, request)


def _state(desk: Desk, caller: Caller, _position: int, _request: p.BudgetState) -> p.Reply:
    return desk.budgets.state(caller)


#: The requests of this module.
BUDGET_HANDLERS: Final[dict[type[Any], Handler]] = {
    p.BudgetReserve: _reserve,
    p.BudgetSettle: _settle,
    p.BudgetShow: _show,
    p.BudgetSet: _set,
    p.BudgetState: _state,
}
