"""What the budgets must hold, added up from the log alone; a part of ``folding``, and like it without the service.

Simpler than what it checks: each reservation is kept with the accounts that it counts in, and each account is summed
anew when it is asked for.
"""

from __future__ import annotations

from typing import Any

from weftos.chain import Record
from weftos.rpc.state_types import BudgetHeld

__all__ = ["BudgetFold"]


class BudgetFold:
    """The sum over the records of one boot, so far."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._rules: dict[int, dict[str, Any]] = {}
        #: By number: whose, the accounts it counts in, what was reserved, and what was charged (``None``: open).
        self._acts: dict[int, tuple[int, tuple[int, ...], dict[str, int], dict[str, int] | None]] = {}

    def take(self, record: Record) -> None:
        """Add a record of this boot."""
        payload = record.payload
        match record.kind:
            case "agent.spawn" | "agent.restart":
                self._parent[payload["pid"]] = payload.get("parent_pid", 0)
            case "budget.set":
                self._rules[payload["pid"]] = payload
            case "budget.reserve":
                pid = payload["pid"]
                self._acts[record.seq] = (pid, self._path(pid), payload["amounts"], None)
            case "budget.settle":
                pid, path, amounts, _ = self._acts[payload["reservation"]]
                self._acts[payload["reservation"]] = (pid, path, amounts, payload["charged"])

    def _path(self, pid: int) -> tuple[int, ...]:
        path = []
        while pid:
            path.append(pid)
            pid = self._parent.get(pid, 0)
        return (*path, 0)

    def held(self) -> list[BudgetHeld]:
        """Return the accounts that say something, by pid."""
        reserved: dict[int, dict[str, int]] = {}
        settled: dict[int, dict[str, int]] = {}
        still_open: dict[int, list[int]] = {}
        for number, (owner, path, amounts, charged) in self._acts.items():
            if charged is None:
                still_open.setdefault(owner, []).append(number)
            sums, values = (reserved, amounts) if charged is None else (settled, charged)
            for pid in path:
                account = sums.setdefault(pid, {})
                for dimension, amount in values.items():
                    account[dimension] = account.get(dimension, 0) + amount
        pids = sorted(pid for pid in {*self._rules, *reserved, *settled} if self._speaks(pid, reserved, settled))
        return [
            BudgetHeld(
                pid=pid,
                given=self._rules[pid]["given"] if pid in self._rules else None,
                claims=self._rules[pid]["claims"] if pid in self._rules else False,
                loop=self._loop(pid),
                reserved=reserved.get(pid, {}),
                settled=settled.get(pid, {}),
                open=sorted(still_open.get(pid, [])),
            )
            for pid in pids
        ]

    def _speaks(self, pid: int, *sums: dict[int, dict[str, int]]) -> bool:
        return pid in self._rules or any(one.get(pid) for one in sums)

    def _loop(self, pid: int) -> list[int]:
        rule = self._rules.get(pid, {})
        return [rule["loop_repeats"], rule["loop_window_s"]] if "loop_repeats" in rule else []
