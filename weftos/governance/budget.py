"""Budgets: how much agents may use, in five dimensions, shared by everybody below whoever it was given to.

::

    kernel 0 ── rule: cost 5 000 000
       └─ agent 1 ── rule: tokens 100 000          an act of agent 3 must fit into every rule above it;
            ├─ agent 2                             what it reserves and uses counts in every account above it
            └─ agent 3 ── rule: tokens 20 000

Why it is as it is: a budget that were handed out in pieces would leave most of it unused where it is not needed. So
nothing is handed out: an account holds what was reserved and used by its agent and all below it, and an act is refused
by the tightest rule on the way to the top. Pure: whoever owns this keeps the log, the clock and the names.

Guaranteed: for each account and dimension, reserved + settled + remaining = given; what an account holds is the sum of
its agent's and its children's; a reservation ends once. Not guaranteed: that remaining stays above zero. What was used
counts, also where it is more than was reserved; then nothing more is granted.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from weftos import limits
from weftos.errors import InvalidRequest

__all__ = ["DIMENSIONS", "Account", "Amounts", "Budgets", "LoopGuard", "Reservation", "Rule", "Stop", "check_amounts"]

#: Turns of a model, runs of tools, tokens, cost in millionths of the currency, milliseconds of wall time.
DIMENSIONS: Final = ("turns", "tool_calls", "tokens", "cost", "wall_ms")
#: What whoever uses it counts itself; all else is counted for it.
_CLAIMED: Final = ("tokens", "cost")
_KERNEL: Final = 0

#: By dimension; what is missing is 0.
Amounts = dict[str, int]


def check_amounts(amounts: Mapping[str, int]) -> Amounts:
    """Return amounts without zeros.

    Raises:
        InvalidRequest: a dimension is unknown, or a figure is no whole number within the limit.
    """
    for name, amount in amounts.items():
        if name not in DIMENSIONS:
            raise InvalidRequest(f"there is no dimension {name[:40]!r} of a budget; there are {', '.join(DIMENSIONS)}")
        if type(amount) is not int or not 0 <= amount <= limits.BUDGET_AMOUNT_MAX:
            raise InvalidRequest(f"{name} is a whole number from 0 to {limits.BUDGET_AMOUNT_MAX}, not {amount!r}"[:200])
    return {name: amount for name, amount in amounts.items() if amount}


class LoopGuard(msgspec.Struct, frozen=True):
    """The same action with the same arguments ``repeats`` times within ``window_s`` seconds is a loop; 0 is never."""

    repeats: int = limits.BUDGET_LOOP_REPEATS
    window_s: int = limits.BUDGET_LOOP_WINDOW_S


class Rule(msgspec.Struct, frozen=True):
    """What was given to an agent and all below it.

    Attributes:
        given: by dimension; what is missing or 0 is unlimited.
        claims: whether an agent's own word about its tokens and cost may give back what it reserved.
        loop: guards against loops; ``None`` leaves that to the next rule above.
    """

    given: Amounts = msgspec.field(default_factory=dict)
    claims: bool = False
    loop: LoopGuard | None = None


@dataclass(slots=True)
class Account:
    """One agent's: its rule, and what it and all below it hold."""

    pid: int
    parent: int
    rule: Rule | None = None
    reserved: Amounts = field(default_factory=dict)
    settled: Amounts = field(default_factory=dict)
    #: Reservations of this agent alone that are open, by their number.
    open: dict[int, Reservation] = field(default_factory=dict)
    #: Whether the agent is there, and how many accounts are right below this one.
    alive: bool = True
    children: int = 0
    #: When this agent did the same thing with the same arguments, in milliseconds.
    repeats: OrderedDict[tuple[str, bytes], deque[int]] = field(default_factory=OrderedDict)

    def remaining(self, dimension: str) -> int | None:
        """What is left of what was given; ``None`` where nothing is limited."""
        given = self.rule.given.get(dimension, 0) if self.rule is not None else 0
        if not given:
            return None
        return given - self.reserved.get(dimension, 0) - self.settled.get(dimension, 0)

    @property
    def speaks(self) -> bool:
        """Whether it says anything."""
        return self.rule is not None or bool(self.reserved) or bool(self.settled)


@dataclass(slots=True, frozen=True)
class Reservation:
    """What was reserved before an act.

    Attributes:
        number: of its record on the log.
        pid: whose act it is.
        incarnation: which life of it.
        amounts: what was reserved.
        at_ms: when, in milliseconds since 1970.
        path: accounts that hold it.
    """

    number: int
    pid: int
    incarnation: int
    amounts: Amounts
    at_ms: int
    path: tuple[int, ...]


class Stop(msgspec.Struct, frozen=True):
    """Why an act was refused, for machines.

    Attributes:
        dimension: that is used up, or ``loop``.
        rule_pid: the agent whose rule says so; 0 is the kernel's.
        asked: how much was asked for; of a loop, how often it would have been done.
        remaining: what is left.
        given: what was given; of a loop, how often it may be done.
    """

    dimension: str
    rule_pid: int
    asked: int
    remaining: int
    given: int

    def __str__(self) -> str:
        who = f"agent {self.rule_pid}" if self.rule_pid else "the kernel"
        if self.dimension == "loop":
            return (
                f"the same action with the same arguments for the {self.asked}th time is a loop, by the rule of {who}"
            )
        return (
            f"{self.asked} {self.dimension} do not fit the {self.remaining} left of {self.given}, by the rule of {who}"
        )


class Budgets:
    """All accounts of one boot."""

    def __init__(self) -> None:
        self._accounts: dict[int, Account] = {_KERNEL: Account(_KERNEL, _KERNEL)}

    # --- lives --------------------------------------------------------------------------------------------------------

    def begins(self, pid: int, parent: int) -> None:
        """An agent is there, for the first time or again, below ``parent``."""
        account = self._account(pid)
        account.alive = True
        if account.parent != parent:
            self._account(parent).children += 1
            above, account.parent = account.parent, parent
            self._leave(above)

    def _account(self, pid: int) -> Account:
        account = self._accounts.get(pid)
        if account is None:
            account = self._accounts[pid] = Account(pid, _KERNEL)
            self._accounts[_KERNEL].children += 1
        return account

    def _leave(self, pid: int) -> None:
        """An account below this one is gone."""
        self._accounts[pid].children -= 1
        self._tidy(pid)

    def _tidy(self, pid: int) -> None:
        account = self._accounts[pid]
        # As long as somebody is below it, it is a step on the way to the rules above.
        if pid != _KERNEL and not (account.alive or account.children or account.speaks):
            del self._accounts[pid]
            self._leave(account.parent)

    def gone(self, pid: int) -> None:
        """An agent will not come back by itself; its reservations have been settled."""
        account = self._accounts.get(pid)
        if account is not None:
            account.repeats.clear()
            account.alive = False
            self._tidy(pid)

    def open_of(self, pid: int, until: int | None = None) -> list[Reservation]:
        """Reservations of an agent that are open, of its lives up to ``until``."""
        account = self._accounts.get(pid)
        found = account.open.values() if account is not None else ()
        return [one for one in found if until is None or one.incarnation <= until]

    # --- rules --------------------------------------------------------------------------------------------------------

    def account(self, pid: int) -> Account | None:
        """The account of an agent; ``None`` if it never was, or said nothing and is gone."""
        return self._accounts.get(pid)

    def __iter__(self) -> Iterator[Account]:
        """Accounts that say something, by pid."""
        return iter([self._accounts[pid] for pid in sorted(self._accounts) if self._accounts[pid].speaks])

    def set_rule(self, pid: int, rule: Rule | None) -> None:
        """Give a budget to an agent and all below it, in place of the one before."""
        self._account(pid).rule = rule

    def path(self, pid: int) -> list[Account]:
        """The accounts that an act of an agent counts in, its own first, the kernel's last."""
        found: list[Account] = []
        while pid != _KERNEL:
            account = self._accounts.get(pid)
            if account is None:
                break
            found.append(account)
            pid = account.parent
        return [*found, self._accounts[_KERNEL]]

    def tightest(self, pid: int, dimension: str) -> tuple[int, int, int] | None:
        """The rule that counts: remaining, pid of the rule, given; the nearest of equals. ``None`` if there is none."""
        best: tuple[int, int, int] | None = None
        for account in self.path(pid):
            remaining = account.remaining(dimension)
            if remaining is not None and (best is None or remaining < best[0]):
                assert account.rule is not None
                best = remaining, account.pid, account.rule.given[dimension]
        return best

    def loop_guard(self, pid: int) -> tuple[LoopGuard, int]:
        """The guard that counts, and whose it is: the nearest, else the kernel's default."""
        for account in self.path(pid):
            if account.rule is not None and account.rule.loop is not None:
                return account.rule.loop, account.pid
        return LoopGuard(), _KERNEL

    # --- acts ---------------------------------------------------------------------------------------------------------

    def check(self, pid: int, amounts: Amounts, action: str, args: bytes, now_ms: int) -> Stop | None:
        """Tell why an act may not happen, or ``None``.

        Args:
            pid: whose act it is.
            amounts: what it needs at most.
            action: its name.
            args: hash of its arguments; ``b""`` leaves the guard against loops out.
            now_ms: milliseconds since 1970.
        """
        for dimension, asked in amounts.items():
            found = self.tightest(pid, dimension)
            if found is not None and asked > found[0]:
                return Stop(dimension, found[1], asked, found[0], found[2])
        return self._check_loop(pid, action, args, now_ms) if args else None

    def _check_loop(self, pid: int, action: str, args: bytes, now_ms: int) -> Stop | None:
        account = self._accounts.get(pid)
        times = account.repeats.get((action, args)) if account is not None else None
        if times is None:
            return None
        guard, owner = self.loop_guard(pid)
        since = now_ms - guard.window_s * 1000
        done = sum(time > since for time in times)
        if guard.repeats and done >= guard.repeats:
            return Stop("loop", owner, done + 1, 0, guard.repeats)
        return None

    def reserve(
        self, number: int, pid: int, incarnation: int, amounts: Amounts, action: str, args: bytes, at_ms: int
    ) -> Reservation:
        """Take note of a reservation; whether it fits was checked."""
        self._account(pid)
        path = self.path(pid)
        made = Reservation(number, pid, incarnation, amounts, at_ms, tuple(account.pid for account in path))
        for account in path:
            _add(account.reserved, amounts, 1)
        own = self._account(pid)
        own.open[number] = made
        if args:
            times = own.repeats.setdefault((action, args), deque(maxlen=limits.BUDGET_LOOP_REPEATS_MAX))
            times.append(at_ms)
            own.repeats.move_to_end((action, args))
            while len(own.repeats) > limits.BUDGET_LOOP_ACTIONS:
                own.repeats.popitem(last=False)
        return made

    def charge_for(self, made: Reservation, used: Amounts | None, now_ms: int) -> Amounts:
        """Return what a reservation is charged with.

        The turns and runs of tools that were reserved count, and the time that passed. Of tokens and cost counts what
        the agent says, if all rules above it take its word; else what it reserved, or what it says if that is more.

        Args:
            made: the reservation.
            used: as the agent says; ``None`` if it says nothing, and all of it counts.
            now_ms: milliseconds since 1970.
        """
        if used is None:
            return dict(made.amounts)
        believed = all(
            account.rule is None or account.rule.claims
            for account in (self._accounts.get(pid) for pid in made.path)
            if account is not None
        )
        charged = {}
        for dimension in DIMENSIONS:
            reserved, claimed = made.amounts.get(dimension, 0), used.get(dimension, 0)
            if dimension == "wall_ms":
                charged[dimension] = max(0, now_ms - made.at_ms) if reserved else 0
            elif dimension in _CLAIMED and believed:
                charged[dimension] = claimed
            else:
                charged[dimension] = max(reserved, claimed)
        return {dimension: min(amount, limits.BUDGET_AMOUNT_MAX) for dimension, amount in charged.items() if amount}

    def settle(self, number: int, pid: int, charged: Amounts) -> bool:
        """End a reservation; returns whether it was open."""
        account = self._accounts.get(pid)
        made = account.open.pop(number, None) if account is not None else None
        if made is None:
            return False
        for one in made.path:
            holder = self._accounts.get(one)
            assert holder is not None, "an account with something reserved is kept"
            _add(holder.reserved, made.amounts, -1)
            _add(holder.settled, charged, 1)
        return True


def _add(to: Amounts, amounts: Amounts, sign: int) -> None:
    for dimension, amount in amounts.items():
        total = to.get(dimension, 0) + sign * amount
        assert total >= 0, "nothing is given back twice"
        if total:
            to[dimension] = total
        else:
            to.pop(dimension, None)
