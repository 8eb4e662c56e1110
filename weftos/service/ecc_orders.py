"""What the operator can have the cognitive layer do now: one table, one small function per order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from weftos.errors import InvalidRequest
from weftos.service.cognition import Cognition

__all__ = ["ORDERS"]

Params = dict[str, Any]


def _tick(cognition: Cognition, _params: Params) -> dict[str, Any]:
    """Do a cognitive tick in every space where impulses wait, and vouch for what changed, now."""
    ticks = cognition.ticks.tick()
    return {"record": cognition.commit(), "commits": cognition.commits, "ticks": ticks}


def _compact(cognition: Cognition, params: Params) -> dict[str, Any]:
    """Have one space, or all, brought into one segment each."""
    space = params.get("space")
    if space is not None and not isinstance(space, str):
        raise InvalidRequest("space is the name of a memory space")
    return {"spaces": cognition.compact(space)}


def _roots(cognition: Cognition, _params: Params) -> dict[str, Any]:
    """Put the content roots of everything on the log."""
    return {"record": cognition.put_roots(), "roots": {name: root.hex() for name, root in cognition.roots().items()}}


def _calibrate(cognition: Cognition, _params: Params) -> dict[str, Any]:
    """Measure what this machine can do, beside the loop and on copies."""
    _ = cognition.ticks
    return cognition.figures.calibrate()


#: Every order there is.
ORDERS: Final[dict[str, Callable[[Cognition, Params], dict[str, Any]]]] = {
    "tick": _tick,
    "calibrate": _calibrate,
    "compact": _compact,
    "roots": _roots,
}
