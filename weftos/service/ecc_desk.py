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
from weftos.ecc.embedding.provider import EmbeddingIdentity
from weftos.ecc.vectors.model import CollectionSpec
from weftos.errors import (
    CollectionNotFound,
    DimensionMismatch,
    IdentityMismatch,
    InvalidRequest,
)
from weftos.service import protocol as p
from weftos.service.clients import Caller, only_kernel
from weftos.service.ecc_causes import CAUSE_HANDLERS
from weftos.service.ecc_gate import done, permitted, space_of
from weftos.service.ecc_orders import ORDERS
from weftos.service.ecc_protocol import (
    AskMemory,
    DropCollection,
    EmbedMemory,
    ForgetMemory,
    GetMemory,
    MakeCollection,
    Remembered,
    RunMemory,
    SearchMemory,
)
from weftos.service.ecc_questions import QUESTIONS
from weftos.service.ecc_searches import Search, answer_searches

if TYPE_CHECKING:
    from weftos.service.handlers import Desk, Handler

__all__ = ["ECC_HANDLERS", "begin_search"]


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
    request.space = space_of(caller, request.space)
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
    texts = sum(map(len, request.documents)) + sum(map(len, request.ids))
    desk.cognition.quota.take(caller, request.space, len(request.vectors) + texts + count * limits.ECC_ENTRY_BYTES)
    op = store.upsert_arrays(request.space, request.ids, matrix, request.metadata, request.documents)
    desk.cognition.changed(caller.source, "vectors", upserts=count)
    return done(desk, caller, position, allowed, Remembered(op, count))


def _forget(desk: Desk, caller: Caller, position: int, request: ForgetMemory) -> p.Reply:
    allowed = permitted(desk, caller, position, "ecc.forget", request.space, request.permit)
    store = desk.cognition.vectors
    gone = store.delete(request.space, request.ids)
    if gone:
        desk.cognition.changed(caller.source, "vectors", deletes=gone)
    return done(desk, caller, position, allowed, Remembered(store.last_op, gone))


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
    desk.cognition.quota.make(caller)
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
    return done(desk, caller, position, allowed, Remembered(store.last_op, 1))


def _drop(desk: Desk, caller: Caller, position: int, request: DropCollection) -> p.Reply:
    allowed = permitted(desk, caller, position, "ecc.collection.drop", request.space, request.permit)
    store = desk.cognition.vectors
    gone = store.drop(request.space)
    told = {"space": request.space, "entries": gone}
    desk.journal.append(caller, position, "ecc.collection.drop", told, subject=f"memory:{request.space}")
    desk.cognition.changed(caller.source, "vectors", collections_dropped=1)
    return done(desk, caller, position, allowed, Remembered(store.last_op, gone))


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


def _in_space(handler: Handler) -> Handler:
    """Let a request without a space mean the space of who asks."""

    def handle(desk: Desk, caller: Caller, position: int, request: Any) -> p.Reply:
        request.space = space_of(caller, request.space)
        with desk.cognition.guarded:
            return handler(desk, caller, position, request)

    return handle


#: The requests of this module.
ECC_HANDLERS: dict[type[Any], Handler] = {
    SearchMemory: _search,
    EmbedMemory: _embed,
    ForgetMemory: _forget,
    GetMemory: _get,
    MakeCollection: _make,
    DropCollection: _drop,
    AskMemory: _ask,
    RunMemory: _run,
    **CAUSE_HANDLERS,
}
ECC_HANDLERS |= {kind: _in_space(handler) for kind, handler in ECC_HANDLERS.items() if kind is not RunMemory}
