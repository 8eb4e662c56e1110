"""What the service does for requests about the log beyond appending: lineage, foreign heads, pages for replicas.

One small function for each, as in ``handlers``, whose table takes them in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from weftos.chain.lineage import Derivation
from weftos.service import protocol as p
from weftos.service.clients import Caller, only_kernel

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


def _add_bridge(desk: Desk, caller: Caller, _position: int, request: p.AddBridge) -> p.Reply:
    only_kernel(caller)
    desk.journal.sync_wanted = True
    return p.Done(desk.journal.ledgers.bridges.add(request.note, request.proof))


def _list_bridges(desk: Desk, caller: Caller, _position: int, _request: p.ListBridges) -> p.Reply:
    only_kernel(caller)
    return p.Done({"heads": desk.journal.ledgers.bridges.heads()})


#: The requests of this module.
LOG_HANDLERS: Final[dict[type[Any], Handler]] = {
    p.Derive: _derive,
    p.AddBridge: _add_bridge,
    p.ListBridges: _list_bridges,
}
