"""Plain appends that one agent sent in a row, taken together.

Why it is as it is: an append on its own costs half as much again as one among many, for what has to be looked up and
checked each time. Agents that append a lot have several requests in their ring at once. Each of them keeps its own
answer, place and fate: when the run is refused as a whole, its requests are carried out one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weftos.artifacts.holding import REFERENCE
from weftos.errors import WeftError
from weftos.service import protocol as p
from weftos.service.clients import Caller
from weftos.service.handlers import AGENT_PREFIX, Desk, answer

__all__ = ["answer_run", "is_plain"]


def is_plain(request: Any) -> bool:
    """Tell whether a request is an append that needs nothing but its place on the log."""
    return (
        type(request) is p.Append
        and request.key is None
        and request.kind.startswith(AGENT_PREFIX)
        and REFERENCE not in request.payload
    )


def answer_run(desk: Desk, caller: Caller, run: Sequence[tuple[int, p.Append]]) -> list[p.Reply]:
    """Carry out plain appends of one agent, with their positions, in their order; return their answers."""
    if len(run) > 1:
        journal = desk.journal
        try:
            acks = journal.append_run(caller, run)
        except (WeftError, RecursionError):
            pass  # one of them is at fault, and below it is told so
        else:
            journal.sync_wanted |= any(request.durable for _, request in run)
            return [
                p.Appended(ack.seq, ack.hash, request.durable, ack.seq)
                for ack, (_, request) in zip(acks, run, strict=True)
            ]
    return [answer(desk, caller, position, request) for position, request in run]
