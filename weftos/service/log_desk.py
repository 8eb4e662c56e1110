"""What the service does for requests about the log beyond appending: lineage, foreign heads, pages for replicas.

One small function for each, as in ``handlers``, whose table takes them in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from weftos.chain.folder.pages import RawRecord
from weftos.chain.statements.lineage import Derivation
from weftos.service import protocol as p
from weftos.service.clients import Caller, only_kernel

if TYPE_CHECKING:
    from weftos.service.handlers import Desk, Handler

__all__ = ["LOG_HANDLERS"]

#: Bytes of an answer around its records, and around each of them.
_FRAME_BYTES: Final = 96
_RECORD_BYTES: Final = 16


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


def _tail_from(desk: Desk, caller: Caller, _position: int, request: p.TailFrom) -> p.Reply:
    room = caller.reply_bytes - _FRAME_BYTES
    # First what was signed, then the records: they reach at least as far.
    note = desk.journal.note()
    if len(note) > room // 2:
        note = b""
    room -= len(note)
    records = desk.journal.raw_records(request.seq, request.max_records, min(request.max_bytes, room))
    return _fitted(request, records, note, room)


def _fitted(request: p.TailFrom, records: list[RawRecord], note: bytes, room: int) -> p.RawPage:
    """Return the records as an answer, or of a single one that is larger as much as fits."""
    first = records[0] if records else RawRecord(b"", b"")
    room -= len(first.header) + _RECORD_BYTES
    if request.skip:
        rest = first.salted[max(request.skip, 0) :]
        return p.RawPage(request.seq, [RawRecord(b"", rest[:room])], max(len(rest) - room, 0), note)
    if len(first.salted) > room:
        cut = max(room, 1)
        return p.RawPage(request.seq, [RawRecord(first.header, first.salted[:cut])], len(first.salted) - cut, note)
    return p.RawPage(request.seq, records, 0, note)


#: The requests of this module.
LOG_HANDLERS: Final[dict[type[Any], Handler]] = {
    p.Derive: _derive,
    p.AddBridge: _add_bridge,
    p.ListBridges: _list_bridges,
    p.TailFrom: _tail_from,
}
