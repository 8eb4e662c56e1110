"""Requests about memory: what each of them does, one small function per entry.

Why it is as it is: who asks is known from the ring, and whether he may is asked of the gate each time; the decision
takes microseconds and needs no record where it is a permit that no person gave. What changes is answered when it is on
the disk of the store; the record that vouches for it follows with the next tick.

Guaranteed: no store is touched before the gate has permitted it. A request that is read again after a crash leaves the
same content: entries are replaced by themselves, nodes are found by their ids. Not guaranteed: that it is counted once;
what was taken away before counts as 0 the second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from weftos import limits
from weftos.ecc.causal.graph import CODES, EdgeType
from weftos.ecc.causal.store import GraphStore
from weftos.ecc.crossrefs.model import CrossRef, CrossRefType, to_row
from weftos.ecc.embedding.provider import EmbeddingIdentity
from weftos.ecc.impulses.model import ImpulseType
from weftos.ecc.universal import StructureTag, UniversalNodeId
from weftos.ecc.vectors.model import CollectionSpec, is_name
from weftos.errors import (
    CollectionNotFound,
    DimensionMismatch,
    GraphRefused,
    IdentityMismatch,
    InvalidRequest,
)
from weftos.governance.gate import Permit, require
from weftos.governance.permissions import PRIVATE_SPACES
from weftos.merkle.frontier import Frontier, leaf_hash
from weftos.service import protocol as p
from weftos.service.clients import Caller, only_kernel
from weftos.service.ecc_orders import ORDERS
from weftos.service.ecc_protocol import (
    AskMemory,
    DropCollection,
    EmbedMemory,
    EmitImpulses,
    ForgetMemory,
    GetMemory,
    LinkCauses,
    LinkCrossRefs,
    MakeCollection,
    Remembered,
    RunMemory,
    SearchMemory,
    UnlinkCauses,
)
from weftos.service.ecc_questions import QUESTIONS
from weftos.service.ecc_searches import Search, answer_searches
from weftos.service.gate_desk import decide_for, tell_done

if TYPE_CHECKING:
    from weftos.service.handlers import Desk, Handler

__all__ = ["ECC_HANDLERS", "begin_search"]


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


# --- vectors ----------------------------------------------------------------------------------------------------------


def _matrix(data: bytes, count: int, dimension: int) -> NDArray[np.float32]:
    if len(data) != count * dimension * 4:
        raise DimensionMismatch(
            f"{count} vectors of {dimension} dimensions take {count * dimension * 4} bytes, not {len(data)}; the "
            "collection says how many dimensions it has (`weaver ecc collections`)"
        )
    return np.frombuffer(data, "<f4").reshape(count, dimension)


def _fits(spec: CollectionSpec, identity: EmbeddingIdentity | None) -> None:
    if identity != spec.identity:
        has, given = (one.name if one is not None else "no model" for one in (spec.identity, identity))
        raise IdentityMismatch(
            f"the vectors of {spec.name!r} were made by {has}, these by {given}; they cannot be compared: use another "
            "space, or embed its documents anew"
        )


def begin_search(desk: Desk, caller: Caller, position: int, request: SearchMemory) -> Search:
    """Check a search and return it, to be answered together with others.

    Raises:
        WeftError: it is refused.
    """
    request.space = _space_of(caller, request.space)
    permitted(desk, caller, position, "ecc.search", request.space)
    spec = desk.cognition.vectors.spec(request.space)
    _fits(spec, request.identity)
    if not 0 < request.count <= limits.ECC_SEARCH_VECTORS:
        raise InvalidRequest(f"a search has 1 to {limits.ECC_SEARCH_VECTORS} vectors, not {request.count}")
    if not 0 < request.k <= limits.ECC_SEARCH_K:
        raise InvalidRequest(f"a search returns 1 to {limits.ECC_SEARCH_K} entries, not {request.k}")
    if request.ef is not None and not 0 < request.ef <= limits.ECC_SEARCH_EF:
        raise InvalidRequest(f"ef is a number from 1 to {limits.ECC_SEARCH_EF}, not {request.ef}")
    return Search(request, _matrix(request.vectors, request.count, spec.dimension), caller.reply_bytes)


def _search(desk: Desk, caller: Caller, position: int, request: SearchMemory) -> p.Reply:
    return answer_searches(desk.cognition, [begin_search(desk, caller, position, request)])[0]


def _embed(desk: Desk, caller: Caller, position: int, request: EmbedMemory) -> p.Reply:
    allowed = permitted(desk, caller, position, "ecc.embed", request.space, request.permit)
    store, count = desk.cognition.vectors, len(request.ids)
    spec = store.spec(request.space)
    _fits(spec, request.identity)
    if not count or not count == len(request.metadata) == len(request.documents):
        raise InvalidRequest("entries have an id, a vector, metadata and a document each, and there is at least one")
    matrix = _matrix(request.vectors, count, spec.dimension)
    op = store.upsert_arrays(request.space, request.ids, matrix, request.metadata, request.documents)
    desk.cognition.changed(caller.source, "vectors", upserts=count)
    return _done(desk, caller, position, allowed, Remembered(op, count))


def _forget(desk: Desk, caller: Caller, position: int, request: ForgetMemory) -> p.Reply:
    allowed = permitted(desk, caller, position, "ecc.forget", request.space, request.permit)
    store = desk.cognition.vectors
    gone = store.delete(request.space, request.ids)
    if gone:
        desk.cognition.changed(caller.source, "vectors", deletes=gone)
    return _done(desk, caller, position, allowed, Remembered(store.last_op, gone))


def _get(desk: Desk, caller: Caller, position: int, request: GetMemory) -> p.Reply:
    permitted(desk, caller, position, "ecc.search", request.space)
    if len(request.ids) > limits.ECC_SEARCH_K:
        raise InvalidRequest(f"at most {limits.ECC_SEARCH_K} entries are asked for at once, not {len(request.ids)}")
    found = desk.cognition.vectors.get(request.space, request.ids)
    rows: list[dict[str, Any] | None] = []
    room = caller.reply_bytes - limits.SERVICE_ANSWER_HEAD_BYTES
    for one in found:
        row: dict[str, Any] | None = None
        if one is not None:
            row = {
                "id": one.id, "metadata": dict(one.metadata), "document": one.document, "op": one.op,
                "chain_seq": one.chain_seq,
            }  # fmt: skip
            if request.vectors:
                row["vector"] = np.ascontiguousarray(one.vector, "<f4").tobytes()
        room -= len(desk.encoder.encode(row))
        if room < 0:
            raise InvalidRequest(f"the entries do not fit one answer; ask for fewer than {len(rows) + 1} at once")
        rows.append(row)
    return p.Done({"entries": rows})


def _make(desk: Desk, caller: Caller, position: int, request: MakeCollection) -> p.Reply:
    allowed = permitted(desk, caller, position, "ecc.collection.create", request.space, request.permit)
    store = desk.cognition.vectors
    owner = caller.scope if not caller.kernel else ""
    spec = CollectionSpec(request.space, request.dimension, request.metric, request.identity, owner)
    try:
        known: CollectionSpec | None = store.spec(request.space)
    except CollectionNotFound:
        known = None
    if known is not None:
        # Whoever made it, it is the same collection.
        store.create(msgspec.structs.replace(spec, owner=known.owner))
        return Remembered(store.last_op, 0)
    store.create(spec)
    told = {
        "space": spec.name,
        "dimension": spec.dimension,
        "metric": spec.metric,
        "identity": msgspec.to_builtins(spec.identity),
        "owner": spec.owner,
    }
    desk.journal.append(caller, position, "ecc.collection.create", told, subject=f"memory:{spec.name}")
    desk.cognition.changed(caller.source, "vectors", collections=1)
    return _done(desk, caller, position, allowed, Remembered(store.last_op, 1))


def _drop(desk: Desk, caller: Caller, position: int, request: DropCollection) -> p.Reply:
    allowed = permitted(desk, caller, position, "ecc.collection.drop", request.space, request.permit)
    store = desk.cognition.vectors
    gone = store.drop(request.space)
    told = {"space": request.space, "entries": gone}
    desk.journal.append(caller, position, "ecc.collection.drop", told, subject=f"memory:{request.space}")
    desk.cognition.changed(caller.source, "vectors", collections_dropped=1)
    return _done(desk, caller, position, allowed, Remembered(store.last_op, gone))


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
    return _done(desk, caller, position, allowed, Remembered(graph.commitment.last, made + fresh, values))


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
    return _done(desk, caller, position, allowed, Remembered(graph.commitment.last, gone))


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
    return _done(desk, caller, position, allowed, Remembered(record.seq, count))


def _emit(desk: Desk, caller: Caller, position: int, request: EmitImpulses) -> p.Reply:
    allowed = permitted(desk, caller, position, "ecc.impulse.emit", request.space, request.permit)
    if not is_name(request.space) or not 0 < len(request.impulses) <= limits.ECC_REFS:
        raise InvalidRequest(f"one request emits 1 to {limits.ECC_REFS} impulses into a space with a name")
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
    return _done(desk, caller, position, allowed, Remembered(number, count))


# --- the rest ---------------------------------------------------------------------------------------------------------


def _ask(desk: Desk, caller: Caller, position: int, request: AskMemory) -> p.Reply:
    question = QUESTIONS.get(request.question)
    if question is None:
        raise InvalidRequest(
            f"there is no question {request.question[:40]!r}; there are {', '.join(sorted(QUESTIONS))}"
        )
    if question.action is None:
        only_kernel(caller)
    else:
        permitted(desk, caller, position, question.action, request.space)
    room = caller.reply_bytes - limits.SERVICE_ANSWER_HEAD_BYTES
    values = question.answer(desk.cognition, request.space, request.params | {"room": room})
    size = len(desk.encoder.encode(values))
    if size > room:
        raise InvalidRequest(f"the answer has {size} bytes and {room} fit; ask for less (limit, depth)")
    return p.Done(values)


def _run(desk: Desk, caller: Caller, _position: int, request: RunMemory) -> p.Reply:
    only_kernel(caller)
    order = ORDERS.get(request.order)
    if order is None:
        raise InvalidRequest(f"there is no order {request.order[:40]!r}; there are {', '.join(sorted(ORDERS))}")
    return p.Done(order(desk.cognition, request.params))


def _done(desk: Desk, caller: Caller, position: int, allowed: Permit, reply: Remembered) -> Remembered:
    if allowed.permit:
        tell_done(desk, caller, position, allowed)
    return reply


def _in_space(handler: Handler) -> Handler:
    """Let a request without a space mean the space of who asks."""

    def handle(desk: Desk, caller: Caller, position: int, request: Any) -> p.Reply:
        request.space = _space_of(caller, request.space)
        with desk.cognition.guarded():
            return handler(desk, caller, position, request)

    return handle


def _space_of(caller: Caller, space: str) -> str:
    return space or ("" if caller.kernel else f"{PRIVATE_SPACES}{caller.scope}")


#: The requests of this module.
ECC_HANDLERS: dict[type[Any], Handler] = {
    SearchMemory: _search,
    EmbedMemory: _embed,
    ForgetMemory: _forget,
    GetMemory: _get,
    MakeCollection: _make,
    DropCollection: _drop,
    LinkCauses: _link,
    UnlinkCauses: _unlink,
    LinkCrossRefs: _crossrefs,
    EmitImpulses: _emit,
    AskMemory: _ask,
    RunMemory: _run,
}
ECC_HANDLERS |= {kind: _in_space(handler) for kind, handler in ECC_HANDLERS.items() if kind is not RunMemory}
