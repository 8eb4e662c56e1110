"""Before and after a request about memory: which space is meant, whether the gate lets it be, what came of a permit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weftos import limits
from weftos.errors import InvalidRequest
from weftos.governance.gate import Permit, require
from weftos.governance.permissions import PRIVATE_SPACES
from weftos.service.clients import Caller
from weftos.service.ecc_protocol import Remembered
from weftos.service.gate_desk import decide_for, tell_done

if TYPE_CHECKING:
    from weftos.service.handlers import Desk

__all__ = ["done", "may_make", "permitted", "space_of"]


def permitted(desk: Desk, caller: Caller, position: int, action: str, space: str, permit: bytes = b"") -> Permit:
    """Return only if the gate lets whoever asks do something in a space.

    Raises:
        InvalidRequest: there can be no such space.
        GovernanceDenied: it does not. That is on the log.
        GateDeferred: a person has to approve it first. That is on the log.
    """
    if not 0 < len(space) <= limits.ECC_SPACE_CHARS:
        raise InvalidRequest(
            f"the name of a memory space has 1 to {limits.ECC_SPACE_CHARS} characters, not {len(space)}"
        )
    context = {"space": space}
    if not permit:
        decision = desk.gate.check(caller.agent_id, action, context)
        if isinstance(decision, Permit):
            return decision
        if caller.kernel:
            return require(decision, action)
    return require(decide_for(desk, caller, position, action, context, permit), action)


def done(desk: Desk, caller: Caller, position: int, allowed: Permit, reply: Remembered) -> Remembered:
    """Tell what came of a permit, if there was one; returns the answer."""
    if allowed.permit:
        tell_done(desk, caller, position, allowed)
    return reply


def space_of(caller: Caller, space: str) -> str:
    """Return the space that is meant: without a name that of who asks."""
    return space or ("" if caller.kernel else f"{PRIVATE_SPACES}{caller.scope}")


def may_make(desk: Desk, caller: Caller, space: str) -> None:
    """Let somebody begin a graph, cross-references or impulses in a space: his own, or one with a collection.

    So the number of spaces is bounded by that of collections.

    Raises:
        CollectionNotFound: there is none.
    """
    if not caller.kernel and space != space_of(caller, ""):
        desk.cognition.vectors.spec(space)
