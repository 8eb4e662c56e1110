"""Budgets in the service: asked over the ring, decided here, on the log before the answer.

Why it is as it is: a reservation is made before each act of a model or a tool, so it may not cost a question to the
kernel, and an agent may not hold the figures itself. The service reads the agent's ring anyway and holds the log. An
answer waits for the write and not for the disk: if the machine fails, the agent that was answered is gone too.

Guaranteed: what is held here is what the records of this boot add up to, also after this process was killed: the next
one reads them again. A request that is read again gets the answer of the first time. What an agent had reserved when
it ended is charged in full. Not guaranteed: anything, if a part of this boot's records was pruned before this process
was killed; then reservations are refused until the kernel is started anew.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import msgspec

from weftos import chain, limits
from weftos.chain.index.index_facts import BOOT_MARK
from weftos.errors import BudgetUnknown, InvalidRequest, ProtocolError, RecordPruned
from weftos.governance.budget import DIMENSIONS, Budgets, LoopGuard, Rule, Stop, check_amounts
from weftos.service import protocol as p
from weftos.service.clients import Caller, only_kernel
from weftos.service.journal import Journal
from weftos.service.ledgers import EVENT_BITS

__all__ = ["BUDGET_SOURCE", "BudgetDesk"]

log = logging.getLogger(__name__)

#: Who writes the records of budgets.
BUDGET_SOURCE: Final = "budget"
_SOURCES: Final = ("kernel", "supervisor", BUDGET_SOURCE)


class BudgetDesk:
    """See the head of this file.

    Args:
        journal: takes records.

    Raises:
        ChainError: the log cannot be read.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.budgets = Budgets()
        #: Refusals that are on the log already, until something changes for the agent.
        self._told: set[tuple[int, str, int]] = set()
        #: Why nothing can be told, or ``None``.
        self._lost: str | None = None
        self._recover()

    # --- requests -----------------------------------------------------------------------------------------------------

    def reserve(self, caller: Caller, position: int, incarnation: int, request: p.BudgetReserve) -> p.Reply:
        """Reserve what an act of the caller may use."""
        pid = _own_pid(caller)
        if self._lost is not None:
            raise BudgetUnknown(self._lost)
        amounts = check_amounts(request.amounts)
        action, args = request.action, request.args_hash
        if len(action) > limits.BUDGET_ACTION_CHARS or len(args) > limits.BUDGET_ARGS_HASH_BYTES:
            raise InvalidRequest(
                f"an action has at most {limits.BUDGET_ACTION_CHARS} characters, and the hash of its arguments "
                f"{limits.BUDGET_ARGS_HASH_BYTES} bytes"
            )
        known = self._journal.known(caller, position)
        if known is not None:
            return self._answered(known.seq)
        now_ms = time.time_ns() // 1_000_000
        stop = self.budgets.check(pid, amounts, action, args, now_ms)
        if stop is None and len(self.budgets.open_of(pid)) >= limits.BUDGET_OPEN_MAX:
            raise InvalidRequest(f"agent {pid} has {limits.BUDGET_OPEN_MAX} reservations open; settle some first")
        if stop is not None:
            self._tell(caller, position, pid, stop, action)
            return p.BudgetStop(stop.dimension, stop.rule_pid, stop.asked, stop.remaining, stop.given)
        payload = {"pid": pid, "incarnation": incarnation, "amounts": amounts, "at_ms": now_ms}
        payload |= {"action": action} if action else {}
        payload |= {"args_hash": args} if args else {}
        number = self._put("budget.reserve", payload, caller, position)
        self.budgets.reserve(number, pid, incarnation, amounts, action, args, now_ms)
        return p.BudgetTicket(number)

    def settle(self, caller: Caller, position: int, request: p.BudgetSettle) -> p.Reply:
        """End a reservation of the caller with what it says that it used."""
        pid = _own_pid(caller)
        used = None if request.used is None else check_amounts(request.used)
        account = self.budgets.account(pid)
        made = account.open.get(request.reservation) if account is not None else None
        if made is None:
            known = self._journal.known(caller, position)
            if known is not None:
                return self._answered(known.seq)
            raise InvalidRequest(
                f"agent {pid} has no open reservation {request.reservation}; it may be settled already"
            )
        charged = self.budgets.charge_for(made, used, time.time_ns() // 1_000_000)
        payload = {"pid": pid, "reservation": made.number, "charged": charged, "how": "settled"}
        self._put("budget.settle", payload | ({} if used is None else {"claimed": used}), caller, position)
        self.budgets.settle(made.number, pid, charged)
        self._forget_told()
        return p.Done({"charged": charged})

    def show(self, caller: Caller, request: p.BudgetShow) -> p.Reply:
        """Tell what an agent may still use, and whose rule says so; an agent learns that of itself alone."""
        pid = request.pid if caller.kernel else _own_pid(caller)
        path = self.budgets.path(pid)
        account = self.budgets.account(pid)
        rows = []
        for dimension in DIMENSIONS:
            best = self.budgets.tightest(pid, dimension)
            rows.append(
                {
                    "dimension": dimension,
                    "given": account.rule.given.get(dimension, 0) if account is not None and account.rule else 0,
                    "reserved": account.reserved.get(dimension, 0) if account is not None else 0,
                    "settled": account.settled.get(dimension, 0) if account is not None else 0,
                    "remaining": best[0] if best is not None else None,
                    "rule_pid": best[1] if best is not None else None,
                    "rule_given": best[2] if best is not None else None,
                }
            )
        guard, owner = self.budgets.loop_guard(pid)
        return p.Done(
            {
                "pid": pid,
                "path": [one.pid for one in path],
                "dimensions": rows,
                "open": len(self.budgets.open_of(pid)),
                "claims": all(one.rule is None or one.rule.claims for one in path),
                "loop_repeats": guard.repeats,
                "loop_window_s": guard.window_s,
                "loop_rule_pid": owner,
            }
        )

    def set_rule(self, caller: Caller, position: int, request: p.BudgetSet) -> p.Reply:
        """Give a budget; on the disk when this is answered."""
        only_kernel(caller)
        if self._lost is not None:
            raise BudgetUnknown(self._lost)
        account = self.budgets.account(request.pid)
        before = account.rule if account is not None and account.rule is not None else Rule()
        # Zeros stay until here: they take a limit away.
        check_amounts(request.given)
        given = {name: amount for name, amount in (before.given | request.given).items() if amount}
        loop = before.loop
        if request.loop_repeats is not None:
            loop = LoopGuard(request.loop_repeats, request.loop_window_s or limits.BUDGET_LOOP_WINDOW_S)
            if not 0 <= loop.repeats <= limits.BUDGET_LOOP_REPEATS_MAX or not 0 < loop.window_s <= 86_400:
                raise InvalidRequest(
                    f"a loop is 0 (never) to {limits.BUDGET_LOOP_REPEATS_MAX} repeats within 1 to 86400 seconds"
                )
        rule = Rule(given, before.claims if request.claims is None else request.claims, loop)
        payload: dict[str, Any] = {"pid": request.pid, "given": given, "claims": rule.claims}
        if loop is not None:
            payload |= {"loop_repeats": loop.repeats, "loop_window_s": loop.window_s}
        record = self._put("budget.set", payload | {"by": request.by, "reason": request.reason}, caller, position)
        self._journal.sync()
        self.budgets.set_rule(request.pid, rule)
        self._told.clear()
        return p.Done({"record": record})

    def state(self, caller: Caller) -> p.Reply:
        """Tell all that is held, as of the newest record."""
        only_kernel(caller)
        rows = []
        for one in self.budgets:
            rule = one.rule
            rows.append(
                {
                    "pid": one.pid,
                    "given": rule.given if rule is not None else None,
                    "claims": rule.claims if rule is not None else False,
                    "loop": [rule.loop.repeats, rule.loop.window_s] if rule is not None and rule.loop else [],
                    "reserved": one.reserved,
                    "settled": one.settled,
                    "open": sorted(one.open),
                }
            )
        return p.Done({"head_seq": self._journal.head_seq, "budgets": rows})

    # --- lives --------------------------------------------------------------------------------------------------------

    def life(self, kind: str, payload: dict[str, Any]) -> None:
        """A record of the kernel about an agent's life is on its way; repeated, it changes nothing."""
        pid = payload.get("pid")
        if type(pid) is not int:
            return
        if kind in ("agent.spawn", "agent.restart"):
            self.budgets.begins(pid, int(payload.get("parent_pid") or 0))
        elif kind == "agent.exit":
            self._charge_all(pid, payload.get("incarnation"))
        elif kind == "agent.gone":
            self._charge_all(pid, None)
            self.budgets.gone(pid)

    def _charge_all(self, pid: int, until: int | None) -> None:
        for made in self.budgets.open_of(pid, until):
            charged = dict(made.amounts)
            payload = {"pid": pid, "reservation": made.number, "charged": charged, "how": "crash"}
            self._journal.put(chain.NewEvent(BUDGET_SOURCE, "budget.settle", payload, f"agent:{pid}"))
            self.budgets.settle(made.number, pid, charged)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _put(self, kind: str, payload: dict[str, Any], caller: Caller, position: int) -> int:
        event = chain.NewEvent(
            BUDGET_SOURCE, kind, payload, f"agent:{payload['pid']}", None, caller.producer, position << EVENT_BITS
        )
        return self._journal.put(event).seq

    def _tell(self, caller: Caller, position: int, pid: int, stop: Stop, action: str) -> None:
        """Write a refusal down, once: an agent that goes on asking must not fill the log."""
        about = pid, stop.dimension, stop.rule_pid
        if about in self._told:
            return
        self._told.add(about)
        payload = {"pid": pid, **msgspec.structs.asdict(stop)} | ({"action": action} if action else {})
        self._put("budget.exhausted", payload, caller, position)

    def _forget_told(self) -> None:
        # What was settled may have given something back; whoever is refused from here on is refused anew.
        self._told.clear()

    def _answered(self, seq: int) -> p.Reply:
        """The answer that a request had which is read again, from the record that it left."""
        record = self._journal.record(seq)
        payload = record.payload
        if record.kind == "budget.reserve":
            return p.BudgetTicket(seq)
        if record.kind == "budget.settle":
            return p.Done({"charged": payload["charged"]})
        return p.BudgetStop(*(payload[name] for name in Stop.__struct_fields__))

    def _recover(self) -> None:
        mark = self._journal.ledgers.index.newest(BOOT_MARK, self._journal.boot_id.hex())
        if mark is None:
            return
        began, count = time.monotonic(), 0
        try:
            for record in chain.read(self._journal.directory, start=mark.seq):
                if record.header.boot_id == self._journal.boot_id and record.source in _SOURCES:
                    count += self._again(record)
        except RecordPruned as error:
            self._lost = f"the budgets of this boot cannot be told any more: {error}; start the kernel anew"
            log.error("%s", self._lost)
        if count:
            log.info("%d records about budgets were added up in %.2f s", count, time.monotonic() - began)

    def _again(self, record: chain.Record) -> bool:
        payload, budgets = record.payload, self.budgets
        match record.kind:
            case "agent.spawn" | "agent.restart":
                budgets.begins(payload["pid"], payload.get("parent_pid", 0))
            case "agent.gone":
                budgets.gone(payload["pid"])
            case "budget.set":
                loop = (
                    LoopGuard(payload["loop_repeats"], payload["loop_window_s"]) if "loop_repeats" in payload else None
                )
                budgets.set_rule(payload["pid"], Rule(payload["given"], payload["claims"], loop))
            case "budget.reserve":
                args = payload.get("args_hash", b""), payload["at_ms"]
                life = payload["pid"], payload["incarnation"]
                budgets.reserve(record.seq, *life, payload["amounts"], payload.get("action", ""), *args)
            case "budget.settle":
                budgets.settle(payload["reservation"], payload["pid"], payload["charged"])
            case _:
                return False
        return True


def _own_pid(caller: Caller) -> int:
    if caller.kernel:
        raise ProtocolError("the kernel has no budget of its own to draw on; agents reserve through their rings")
    return int(caller.agent_id)
