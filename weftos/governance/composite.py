"""Several backends as one: each may only take away.

Why it is as it is: what one backend denies is denied, and what one puts off is not done, whatever the others say. So
all of them are asked, and the strictest answer counts; in which order they stand means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from weftos.governance.gate import Defer, Deny, GateBackend, GateDecision, Permit

__all__ = ["CompositeGate", "strictest"]

_RANK: Final[dict[type, int]] = {Permit: 0, Defer: 1, Deny: 2}


def _weight(decision: GateDecision) -> tuple[int, bool, str]:
    # Of equally strict answers the one that explains itself is given; the last part only makes it independent of order.
    return _RANK[type(decision)], decision.why is not None, decision.reason


def strictest(first: GateDecision, second: GateDecision) -> GateDecision:
    """Return the stricter of two decisions: Deny before Defer before Permit; of equal ones one that explains itself."""
    if type(first) is type(second) and (first.why is None) is not (second.why is None):
        # As it nearly always is: two permits, one by the capabilities and one by the rules.
        return second if first.why is None else first
    if _weight(first) == _weight(second):
        return second if first.why is None else first
    return first if _weight(first) > _weight(second) else second


class CompositeGate:
    """Asks all of its backends. Without any, everything is denied.

    Args:
        backends: to be asked.
    """

    def __init__(self, *backends: GateBackend) -> None:
        self._backends = backends

    def check(self, agent_id: str, action: str, context: Mapping[str, Any]) -> GateDecision:
        """Decide one action; see ``GateBackend.check``."""
        found: GateDecision | None = None
        for backend in self._backends:
            decision = backend.check(agent_id, action, context)
            found = decision if found is None else strictest(found, decision)
        return found if found is not None else Deny("no backend decides")
