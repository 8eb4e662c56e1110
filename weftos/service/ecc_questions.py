"""What can be asked about memory: one table, one small function per question. Nothing here changes anything."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from weftos import limits
from weftos.ecc.causal.graph import Edge, EdgeType, Node
from weftos.ecc.causal.store import GraphStore
from weftos.ecc.causal.walks import effects, roots, shortest_path, strongest_path, walk
from weftos.ecc.universal import UniversalNodeId
from weftos.ecc.vectors.filters import Filter
from weftos.ecc.vectors.model import Stored
from weftos.errors import FilterInvalid, GraphNotFound, GraphRefused, InvalidRequest
from weftos.service.cognition import Cognition

__all__ = ["QUESTIONS", "Question"]

#: As they were asked, and ``room``: bytes of an answer at most.
Params = dict[str, Any]
R = TypeVar("R")
_encode = msgspec.msgpack.Encoder().encode


class Question(NamedTuple):
    """A question.

    Attributes:
        answer: gives plain values.
        action: what the gate is asked about an agent; ``None`` for what only the kernel may ask.
    """

    answer: Callable[[Cognition, str, Params], dict[str, Any]]
    action: str | None


def _whole(params: Params, name: str, default: int, most: int) -> int:
    value = params.get(name, default)
    if type(value) is not int or not 0 < value <= most:
        raise InvalidRequest(f"{name} is a whole number from 1 to {most}, not {value!r:.40}")
    return value


def _types(params: Params) -> list[EdgeType] | None:
    names = params.get("types")
    if not names:
        return None
    if not isinstance(names, list):
        raise InvalidRequest("types is a list of names of types of edges")
    known = {one.value: one for one in EdgeType}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidRequest(f"there is no type of edge {unknown[0]!r:.40}; there are {', '.join(known)}")
    return [known[name] for name in names]


def node_of(graph: GraphStore, given: object) -> int:
    """Return the number of the node that is meant: by its universal id, or by its whole label.

    Raises:
        GraphRefused: there is none.
    """
    if isinstance(given, bytes):
        number = graph.find(given)
    elif isinstance(given, str):
        number = next((node.id for node in graph.graph.all_nodes() if node.label == given), None)
    else:
        number = None
    if number is None:
        shown = given.hex()[:16] if isinstance(given, bytes) else f"{given!r:.80}"
        raise GraphRefused(f"there is no node {shown}; `weaver ecc causal --find TEXT` looks for labels")
    return number


def _node(graph: GraphStore, node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "label": node.label,
        "universal_id": node.universal_id.hex(),
        "created_at": node.created_at >> 16,
        "chain_seq": graph.commitment.seq_of(node.op),
    }


def _edge(graph: GraphStore, edge: Edge) -> dict[str, Any]:
    return {
        "source": edge.source,
        "target": edge.target,
        "type": edge.type.value,
        "weight": edge.weight,
        "created_at": edge.created_at >> 16,
        "chain_seq": graph.commitment.seq_of(edge.op),
    }


def _nodes(graph: GraphStore, numbers: Iterable[int]) -> list[dict[str, Any]]:
    return [_node(graph, graph.graph.node(number)) for number in numbers]


def _walk(cognition: Cognition, space: str, params: Params) -> dict[str, Any]:
    """Nodes within some edges of one, and the edges between them and it."""
    graph = cognition.graph(space)
    start = node_of(graph, params.get("node"))
    depth, limit = _whole(params, "depth", 3, 64), _whole(params, "limit", 100, limits.ECC_WALK_NODES)
    types = _types(params)
    directions = {"effects": (True,), "causes": (False,), "both": (True, False)}.get(params.get("direction", "both"))
    if directions is None:
        raise InvalidRequest("direction is effects, causes or both")
    depths = {start: 0}
    for forward in directions:
        for one in walk(graph.graph, start, forward=forward, depth=depth, types=types, limit=limit):
            depths.setdefault(one.id, one.depth if forward else -one.depth)
    found = [edge for number in depths for edge in graph.graph.edges(number, types=types) if edge.target in depths]
    rows = [row | {"depth": depths[row["id"]]} for row in _nodes(graph, depths)]
    return {"start": start, "nodes": rows, "edges": [_edge(graph, edge) for edge in found[: 8 * limit]]}


def _ends(cognition: Cognition, space: str, params: Params) -> dict[str, Any]:
    graph = cognition.graph(space)
    start = node_of(graph, params.get("node"))
    look = roots if params.get("direction", "causes") == "causes" else effects
    depth, limit = _whole(params, "depth", 64, 64), _whole(params, "limit", 100, limits.ECC_WALK_NODES)
    return {"start": start, "nodes": _nodes(graph, look(graph.graph, start, depth=depth, limit=limit))}


def _path(cognition: Cognition, space: str, params: Params) -> dict[str, Any]:
    graph = cognition.graph(space)
    start, goal = node_of(graph, params.get("node")), node_of(graph, params.get("goal"))
    if params.get("strongest"):
        strongest = strongest_path(graph.graph, start, goal)
        numbers, strength = strongest if strongest is not None else (None, None)
    else:
        numbers, strength = shortest_path(graph.graph, start, goal, depth=_whole(params, "depth", 64, 64)), None
    if numbers is None:
        return {"found": False, "nodes": [], "edges": [], "strength": None}
    steps = pairwise(numbers)
    best = [max((e for e in graph.graph.edges(a) if e.target == b), key=lambda e: e.weight) for a, b in steps]
    edges = [_edge(graph, edge) for edge in best]
    return {"found": True, "nodes": _nodes(graph, numbers), "edges": edges, "strength": strength}


def _find(cognition: Cognition, space: str, params: Params) -> dict[str, Any]:
    graph = cognition.graph(space)
    text, limit = params.get("text"), _whole(params, "limit", 20, limits.ECC_WALK_NODES)
    if not isinstance(text, str) or not text:
        raise InvalidRequest("text is what the label holds")
    sought = text.casefold()
    found = [node.id for node in graph.graph.all_nodes() if sought in node.label.casefold()]
    return {"nodes": _nodes(graph, found[:limit]), "total": len(found)}


def _behind(graph: GraphStore, params: Params) -> Iterator[Node]:
    """The nodes whose label begins with a text, behind a number."""
    prefix, after = params.get("prefix", ""), params.get("after", 0)
    if not isinstance(prefix, str) or type(after) is not int:
        raise InvalidRequest("prefix is how labels begin, and after is the number of a node")
    numbers = graph.graph.nodes()
    nodes = (graph.graph.node(number) for number in numbers[bisect_right(numbers, after) :])
    return (node for node in nodes if node.label.startswith(prefix))


def _fitting(rows: Iterable[R], params: Params) -> tuple[list[R], bool]:
    """As many rows as fit an answer, and whether these are all."""
    room, fit = params["room"] - limits.SERVICE_ANSWER_HEAD_BYTES, list[R]()
    for row in rows:
        size = len(_encode(row))
        if size > room and not fit:
            raise InvalidRequest(f"a row of the answer has {size} bytes and {room} fit")
        if size > room:
            return fit, False
        room -= size
        fit.append(row)
    return fit, True


def _all_nodes(cognition: Cognition, space: str, params: Params) -> dict[str, Any]:
    """A page of the nodes whose label begins with a text: number, universal id, label."""
    nodes = ((node.id, node.universal_id, node.label) for node in _behind(cognition.graph(space), params))
    rows, all_of_them = _fitting(nodes, params)
    return {"nodes": rows, "more": not all_of_them}


def _all_edges(cognition: Cognition, space: str, params: Params) -> dict[str, Any]:
    """A page of the edges that leave such nodes: ids of both ends, type. The first ``skip`` of the first were read."""
    graph, skip, types = cognition.graph(space), params.get("skip", 0), _types(params)
    if type(skip) is not int or skip < 0:
        raise InvalidRequest("skip is how many edges of the node behind `after` were read before")
    place = [0, 0]

    def found() -> Iterator[tuple[bytes, bytes, str]]:
        for number, node in enumerate(_behind(graph, params)):
            first = 0 if number else skip
            edges = graph.graph.edges(node.id, types=types)
            for count, edge in enumerate(edges[first:], first):
                # Where the next page begins if this edge does not fit.
                place[:] = node.id - 1, count
                yield node.universal_id, graph.graph.node(edge.target).universal_id, edge.type.value

    rows, all_of_them = _fitting(found(), params)
    return {"edges": rows, "more": not all_of_them, "after": place[0], "skip": place[1]}


def _graph_counts(cognition: Cognition, space: str) -> dict[str, int]:
    try:
        graph = cognition.graph(space)
    except GraphNotFound:
        return {"nodes": 0, "edges": 0}
    return {"nodes": graph.graph.node_count, "edges": graph.graph.edge_count}


def _spaces(cognition: Cognition, _space: str, _params: Params) -> dict[str, Any]:
    """Every space, with what its collection and its graph hold."""
    collections = {one.spec.name: one for one in cognition.vectors.collections()}
    rows: list[dict[str, Any]] = []
    for space in sorted({*collections, *cognition.spaces.graphs.names()}):
        row: dict[str, Any] = {"space": space, **_graph_counts(cognition, space), "collection": None}
        one = collections.get(space)
        if one is not None:
            told: dict[str, Any] = msgspec.to_builtins(one, builtin_types=(bytes,))
            row["collection"] = told | told.pop("spec") | {"content_root": one.content_root.hex()}
        rows.append(row)
    return {"spaces": rows}


def _condition(params: Params) -> Filter | None:
    raw = params.get("condition")
    if raw is None:
        return None
    try:
        found: Filter = msgspec.convert(raw, Filter)
        return found
    except (msgspec.ValidationError, RecursionError) as error:
        raise FilterInvalid(f"the condition is no filter: {error}") from error


def _after(params: Params) -> int:
    after = params.get("after", 0)
    if type(after) is not int or after < 0:
        raise InvalidRequest("after is the number of a change")
    return after


def _entries(cognition: Cognition, space: str, params: Params) -> dict[str, Any]:
    """Entries that were written after a change, in the order of writing."""
    limit = _whole(params, "limit", 100, limits.ECC_SEARCH_K)
    store = cognition.vectors
    ids = store.select(space, _condition(params), after=_after(params), limit=limit + 1)
    found = [one for one in store.get(space, [name for _, name in ids[:limit]]) if one is not None]
    rows, all_of_them = _fitting((_entry(one, bool(params.get("vectors"))) for one in found), params)
    return {"entries": rows, "more": len(ids) > limit or not all_of_them}


def _entry(one: Stored, vectors: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": one.id,
        "metadata": dict(one.metadata),
        "document": one.document,
        "op": one.op,
        "chain_seq": one.chain_seq,
    }
    return row | {"vector": one.vector.astype("<f4").tobytes()} if vectors else row


def _ids(cognition: Cognition, space: str, params: Params) -> dict[str, Any]:
    """Ids of what was written after a change and meets a condition, in the order of writing."""
    limit = _whole(params, "limit", 1000, limits.ECC_PAGE_IDS)
    ids = cognition.vectors.select(space, _condition(params), after=_after(params), limit=limit + 1)
    rows, all_of_them = _fitting(ids[:limit], params)
    last = rows[-1][0] if rows else 0
    return {"ids": [name for _, name in rows], "after": last, "more": len(ids) > limit or not all_of_them}


def _fields(cognition: Cognition, space: str, params: Params) -> dict[str, Any]:
    """Which values some fields have together, and in how many entries; in order, behind a number of rows."""
    names, skip = params.get("names"), params.get("skip", 0)
    limit = _whole(params, "limit", 500, limits.ECC_PAGE_IDS)
    named = isinstance(names, list) and 0 < len(names) <= 8 and all(isinstance(name, str) for name in names)
    if not named or type(skip) is not int or skip < 0:
        raise InvalidRequest("names are 1 to 8 fields, and skip is how many rows were read before")
    rows = cognition.vectors.facets(space, tuple(names or ()), _condition(params))
    fit, _ = _fitting(([list(values), count] for values, count in rows[skip : skip + limit]), params)
    return {"rows": fit, "total": len(rows)}


def _coherence(cognition: Cognition, space: str, _params: Params) -> dict[str, Any]:
    """How the graph of a space hangs together, as far as it is known."""
    graph = cognition.graph(space)
    return cognition.figures.coherence(space, graph.graph, graph.commitment.last)


def _calibration(cognition: Cognition, _space: str, _params: Params) -> dict[str, Any]:
    """What this machine can do, as far as it was measured."""
    _ = cognition.ticks  # which take up what was measured before
    return cognition.figures.machine()


def _status(cognition: Cognition, _space: str, _params: Params) -> dict[str, Any]:
    return cognition.status()


def _crossrefs(cognition: Cognition, space: str, params: Params) -> dict[str, Any]:
    """Cross-references from and to a node, or how many there are by type."""
    store = cognition.spaces.crossrefs.get(space)
    if store is None:
        return {"refs": [], "total": 0, "types": {}}
    node, limit = params.get("node"), _whole(params, "limit", 100, limits.ECC_WALK_NODES)
    if isinstance(node, str) and node:
        node = UniversalNodeId.parse(node)
    if not node:
        types = Counter(str(ref.ref_type) for ref in store)
        return {"refs": [], "total": len(store), "types": dict(sorted(types.items()))}
    if not isinstance(node, bytes):
        raise InvalidRequest("node is a universal id: 32 bytes, or 64 hexadecimal digits")
    found = store.both(node)
    rows = [
        {
            "source": ref.source.hex(),
            "source_structure": str(ref.source_structure),
            "target": ref.target.hex(),
            "target_structure": str(ref.target_structure),
            "type": str(ref.ref_type),
            "created_at": ref.created_at >> 16,
            "chain_seq": ref.chain_seq,
        }
        for ref in found[:limit]
    ]
    return {"refs": rows, "total": len(found), "types": dict(Counter(row["type"] for row in rows))}


def _ticks(cognition: Cognition, _space: str, _params: Params) -> dict[str, Any]:
    """The pace of cognitive ticks, and what waits for them."""
    return cognition.ticks.statistics()


#: Every question there is.
QUESTIONS: Final[dict[str, Question]] = {
    "walk": Question(_walk, "ecc.causal.query"),
    "ends": Question(_ends, "ecc.causal.query"),
    "path": Question(_path, "ecc.causal.query"),
    "find": Question(_find, "ecc.causal.query"),
    "nodes": Question(_all_nodes, "ecc.causal.query"),
    "edges": Question(_all_edges, "ecc.causal.query"),
    "ids": Question(_ids, "ecc.search"),
    "fields": Question(_fields, "ecc.search"),
    "entries": Question(_entries, "ecc.search"),
    "crossrefs": Question(_crossrefs, "ecc.crossref.query"),
    "coherence": Question(_coherence, "ecc.causal.query"),
    "calibration": Question(_calibration, None),
    "ticks": Question(_ticks, None),
    "spaces": Question(_spaces, None),
    "status": Question(_status, None),
}
