"""Requests about causes, cross-references and impulses; the other half of ``ecc_desk``.

Guaranteed: as there. What is linked is found by universal ids, so a request that is read again changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from weftos import limits
from weftos.ecc.causal.graph import CODES, EdgeType
from weftos.ecc.causal.store import GraphStore
from weftos.ecc.crossrefs.model import CrossRef, CrossRefType, to_row
from weftos.ecc.impulses.model import ImpulseType
from weftos.ecc.universal import StructureTag, UniversalNodeId
from weftos.ecc.vectors.model import is_name
from weftos.errors import GraphRefused, InvalidRequest
from weftos.merkle.frontier import Frontier, leaf_hash
from weftos.service import protocol as p
from weftos.service.clients import Caller
from weftos.service.ecc_gate import done, may_make, permitted
from weftos.service.ecc_protocol import EmitImpulses, LinkCauses, LinkCrossRefs, Remembered, UnlinkCauses

if TYPE_CHECKING:
    from weftos.service.handlers import Desk, Handler

__all__ = ["CAUSE_HANDLERS"]


# --- causes -----------------------------------------------------------------------------------------------------------


def _link(desk: Desk, caller: Caller, position: int, request: LinkCauses) -> p.Reply:
    allowed = permitted(desk, caller, position, "ecc.causal.link", request.space, request.permit)
    if not is_name(request.space):
        raise InvalidRequest(f"{request.space!r} is no name of a memory space")
    places = range(len(request.nodes))
    wrong = next((one for one in request.edges if one[0] not in places or one[1] not in places), None)
    if wrong is not None:
        raise GraphRefused(f"an edge goes from {wrong[0]} to {wrong[1]}, and {len(places)} nodes are given")
    kinds = [_code(kind) for _, _, kind, _ in request.edges]
    weights = np.array([weight for *_, weight in request.edges], np.float64)
    if not ((weights >= 0) & (weights <= 1)).all():
        raise GraphRefused("a weight is a number from 0 to 1")
    if any(
        source == target or request.nodes[source][0] == request.nodes[target][0] for source, target, *_ in request.edges
    ):
        raise GraphRefused("a node cannot be linked with itself")
    may_make(desk, caller, request.space)
    labels = sum(len(label) for _, label in request.nodes)
    size = labels + len(request.nodes) * limits.ECC_NODE_BYTES + len(request.edges) * limits.ECC_EDGE_BYTES
    desk.cognition.quota.take(caller, request.space, size)
    graph, now = desk.cognition.graph(request.space, make=True), desk.cognition.spaces.hlc.now()
    made = 0
    numbers: list[int] = []
    for universal_id, label in request.nodes:
        number = graph.find(universal_id)
        if number is None:
            number = graph.add_node(label, created_at=now, universal_id=universal_id)
            made += 1
        numbers.append(number)
    fresh = 0
    try:
        if request.edges:
            ends = np.array(numbers, np.uint32)
            sources = ends[[source for source, *_ in request.edges]]
            targets = ends[[target for _, target, *_ in request.edges]]
            times = np.full(len(kinds), now, np.uint64)
            fresh = graph.link_arrays(sources, targets, np.array(kinds, np.uint8), weights, times)
    finally:
        if made or fresh or request.edges:
            desk.cognition.changed(caller.source, f"causal:{request.space}", nodes=made, edges=fresh)
    values = {"nodes": numbers, "new_nodes": made, "new_edges": fresh}
    return done(desk, caller, position, allowed, Remembered(graph.commitment.last, made + fresh, values))


def _code(kind: str) -> int:
    try:
        return CODES[EdgeType(kind)]
    except ValueError:
        known = ", ".join(one.value for one in EdgeType)
        raise GraphRefused(f"there is no type of edge {kind[:40]!r}; there are {known}") from None


def _unlink(desk: Desk, caller: Caller, position: int, request: UnlinkCauses) -> p.Reply:
    allowed = permitted(desk, caller, position, "ecc.causal.unlink", request.space, request.permit)
    graph = desk.cognition.graph(request.space)
    source = _number(graph, request.source)
    target = _number(graph, request.target) if request.target is not None else None
    kind = EdgeType(request.kind) if request.kind is not None and _code(request.kind) else None
    gone = graph.remove_node(source) if target is None else graph.unlink(source, target, kind)
    desk.cognition.changed(
        caller.source, f"causal:{request.space}", edges_removed=gone, nodes_removed=int(target is None)
    )
    return done(desk, caller, position, allowed, Remembered(graph.commitment.last, gone))


def _number(graph: GraphStore, universal_id: bytes) -> int:
    number = graph.find(universal_id)
    if number is None:
        raise GraphRefused(f"there is no node {universal_id.hex()[:16]}…; it was removed or never added")
    return number


# --- cross-references and impulses ------------------------------------------------------------------------------------


def _crossrefs(desk: Desk, caller: Caller, position: int, request: LinkCrossRefs) -> p.Reply:
    allowed = permitted(desk, caller, position, "ecc.crossref.create", request.space, request.permit)
    if not is_name(request.space) or not 0 < len(request.refs) <= limits.ECC_REFS:
        raise InvalidRequest(f"one request adds 1 to {limits.ECC_REFS} cross-references to a space with a name")
    may_make(desk, caller, request.space)
    desk.cognition.quota.take(caller, request.space, len(request.refs) * limits.ECC_NODE_BYTES)
    store, now = desk.cognition.spaces.crossrefs.make(request.space), desk.cognition.spaces.hlc.now()
    refs = [
        CrossRef(
            UniversalNodeId(source), StructureTag(source_tag), UniversalNodeId(target), StructureTag(target_tag),
            CrossRefType(kind), now, 0,
        )
        for source, source_tag, target, target_tag, kind in request.refs
    ]  # fmt: skip
    rows = Frontier()
    rows.extend(leaf_hash(to_row(ref)) for ref in refs)
    told = {"space": request.space, "count": len(refs), "root": rows.root()}
    verb = "remove" if request.remove else "create"
    record = desk.journal.append(caller, position, f"ecc.crossref.{verb}", told, subject=f"memory:{request.space}")
    # The store must not name a record that a power failure can still take back.
    desk.journal.sync()
    if request.remove:
        count = sum(store.remove(ref.source, ref.target, ref.ref_type) for ref in refs)
    else:
        count = sum(store.insert(msgspec.structs.replace(ref, chain_seq=record.seq)) for ref in refs)
    store.sync()
    return done(desk, caller, position, allowed, Remembered(record.seq, count))


def _emit(desk: Desk, caller: Caller, position: int, request: EmitImpulses) -> p.Reply:
    allowed = permitted(desk, caller, position, "ecc.impulse.emit", request.space, request.permit)
    if not is_name(request.space) or not 0 < len(request.impulses) <= limits.ECC_REFS:
        raise InvalidRequest(f"one request emits 1 to {limits.ECC_REFS} impulses into a space with a name")
    may_make(desk, caller, request.space)
    queue = desk.cognition.spaces.impulses.make(request.space)
    number = count = 0
    try:
        for kind, source_tag, source, target_tag, payload in request.impulses:
            number = queue.emit(
                ImpulseType(kind),
                source_structure=StructureTag(source_tag),
                source_node=UniversalNodeId(source),
                target_structure=StructureTag(target_tag),
                payload=payload,
            )
            count += 1
    finally:
        if count:
            desk.cognition.emitted(request.space)
    return done(desk, caller, position, allowed, Remembered(number, count))


#: The requests of this module.
CAUSE_HANDLERS: Final[dict[type[Any], Handler]] = {
    LinkCauses: _link,
    UnlinkCauses: _unlink,
    LinkCrossRefs: _crossrefs,
    EmitImpulses: _emit,
}
