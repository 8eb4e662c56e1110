"""What the service does for requests about the log beyond appending: lineage, foreign heads, pages for replicas.

One small function for each, as in ``handlers``, whose table takes them in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from weftos.chain.lineage import Derivation
from weftos.service import protocol as p
from weftos.service.clients import Caller

if TYPE_CHECKING:
    from weftos.service.handlers import Desk, Handler

__all__ = ["LOG_HANDLERS"]


def _derive(desk: Desk, caller: Caller, position: int, request: p.Derive) -> p.Reply:
    step = Derivation(
        request.child,
        request.child_hash,
        request.parent,
        request.parent_hash,
        request.how,
        request.mutations,
        request.description,
    )
    ack = desk.journal.ledgers.derive(caller, position, step)
    desk.journal.sync_wanted = True
    return p.Appended(ack.seq, ack.hash, True, ack.seq)


#: The requests of this module.
LOG_HANDLERS: Final[dict[type[Any], Handler]] = {
    p.Derive: _derive,
}
