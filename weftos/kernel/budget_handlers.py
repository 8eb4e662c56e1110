"""The control socket's methods about budgets. The figures are the service's; the kernel knows who is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from weftos.kernel.core import Core
from weftos.rpc import budget_types as t
from weftos.service import protocol as p

__all__ = ["BudgetHandlers"]


class BudgetHandlers:
    """All methods about budgets, for the operator.

    Args:
        core: shared state.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def table(self) -> dict[str, Callable[[Any], Awaitable[Any]]]:
        """Every method by name."""
        return {"budget.show": self.show, "budget.set": self.set}

    async def show(self, params: t.BudgetShowParams) -> t.BudgetView:
        """Tell what an agent may still use."""
        if params.pid:
            self._core.table.get(params.pid)
        return msgspec.convert(await self._core.service.done(p.BudgetShow(params.pid)), t.BudgetView)

    async def set(self, params: t.BudgetSetParams) -> t.BudgetSetResult:
        """Give a budget."""
        if params.pid:
            self._core.agent(params.pid)
        request = p.BudgetSet(
            params.pid,
            params.given,
            params.claims,
            params.loop_repeats,
            params.loop_window_secs,
            "operator",
            params.reason,
        )
        return t.BudgetSetResult(**await self._core.service.done(request))
