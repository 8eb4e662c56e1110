"""What ``ctx.causal`` does, step by step; see ``memory_steps``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.errors import GraphNotFound
from weftos.service.ecc_protocol import AskMemory, LinkCauses, Remembered, UnlinkCauses
from weftos.service.memory_steps import Named, Steps, ask_all, ask_one, node_id
from weftos.service.protocol import Done

__all__ = ["CausalSteps", "GraphContent"]

#: Bytes of a node in a request around its label, and of an edge.
_NODE_BYTES: Final = 48
_EDGE_BYTES: Final = 48
#: Requests of a hundred bytes that are under way at once: they share one sync of the disk.
_SMALL_UNDER_WAY: Final = 256


class GraphContent(msgspec.Struct, frozen=True):
    """Part of a causal graph.

    Attributes:
        labels: of its nodes, by universal id.
        edges: that leave them: source, target, type.
    """

    labels: dict[bytes, str]
    edges: set[tuple[bytes, bytes, str]]


class CausalSteps:
    """The steps of ``Causal``; arguments and errors as there.

    Args:
        largest: bytes of an encoded request at most.
    """

    def __init__(self, largest: int) -> None:
        self._room = largest - limits.SERVICE_ANSWER_HEAD_BYTES

    def link_many(self, edges: Iterable[tuple[Named, Named, str, float]], space: str) -> Steps[int]:
        """Add edges in batches."""
        done = yield from ask_all(list(self._batches(edges, space)), Remembered)
        return sum(one.values["new_edges"] for one in done)

    def unlink(self, source: Named, target: Named | None, kind: str | None, space: str) -> Steps[int]:
        """Remove edges or a node."""
        end = _named(target)[0] if target is not None else None
        return (yield from ask_one(UnlinkCauses(space, _named(source)[0], end, kind), Remembered)).count

    def unlink_many(self, ends: Iterable[tuple[bytes, bytes | None, str | None]], space: str) -> Steps[int]:
        """Remove edges and nodes, a few hundred at a time."""
        requests = [UnlinkCauses(space, source, target, kind) for source, target, kind in ends]
        done = yield from ask_all(requests, Remembered, _SMALL_UNDER_WAY)
        return sum(one.count for one in done)

    def content(self, prefix: str, types: Sequence[str], space: str) -> Steps[GraphContent]:
        """Ask for the nodes whose label begins with a text, and for the edges that leave them."""
        labels: dict[bytes, str] = {}
        asked: dict[str, Any] = {"prefix": prefix, "after": 0}
        more = True
        while more:
            values = yield from _graph_page("nodes", space, asked)
            for number, universal, label in values["nodes"]:
                labels[universal] = label
                asked["after"] = number
            more = values["more"]
        return GraphContent(labels, (yield from self.edges(prefix, types, space)))

    def edges(self, prefix: str, types: Sequence[str], space: str) -> Steps[set[tuple[bytes, bytes, str]]]:
        """Ask for the edges that leave such nodes."""
        edges: set[tuple[bytes, bytes, str]] = set()
        asked = {"prefix": prefix, "types": list(types), "after": 0, "skip": 0}
        more = True
        while more:
            values = yield from _graph_page("edges", space, asked)
            edges |= {(source, target, kind) for source, target, kind in values["edges"]}
            more = values["more"]
            asked |= {"after": values.get("after", 0), "skip": values.get("skip", 0)}
        return edges

    def around(
        self, node: Named, depth: int, direction: str, types: Sequence[str], limit: int, space: str
    ) -> Steps[dict[str, Any]]:
        """Ask for the nodes around one."""
        asked = {"node": _named(node)[0], "depth": depth, "direction": direction, "types": list(types), "limit": limit}
        return (yield from ask_one(AskMemory("walk", space, asked), Done)).values

    def path(self, source: Named, target: Named, strongest: bool, space: str) -> Steps[dict[str, Any]]:
        """Ask for a path."""
        asked = {"node": _named(source)[0], "goal": _named(target)[0], "strongest": strongest}
        return (yield from ask_one(AskMemory("path", space, asked), Done)).values

    def reached(self, node: Named, depth: int, direction: str, **options: Any) -> Steps[list[dict[str, Any]]]:
        """Ask for the nodes on one side of a node, the nearest first."""
        found = yield from self.around(node, depth, direction, **options)
        others = [one for one in found["nodes"] if one["id"] != found["start"]]
        return sorted(others, key=lambda one: abs(int(one["depth"])))

    def _batches(self, edges: Iterable[tuple[Named, Named, str, float]], space: str) -> Iterator[LinkCauses]:
        nodes: dict[bytes, tuple[int, str]] = {}
        rows: list[tuple[int, int, str, float]] = []
        size = 0
        for source, target, kind, weight in edges:
            ends = _named(source), _named(target)
            own = _EDGE_BYTES + sum(_node_bytes(label) for name, label in ends if name not in nodes)
            if rows and size + own > self._room:
                yield LinkCauses(space, [(name, label) for name, (_, label) in nodes.items()], rows)
                nodes, rows, size = {}, [], 0
                own = _EDGE_BYTES + sum(_node_bytes(label) for _, label in ends)
            places = [nodes.setdefault(name, (len(nodes), label))[0] for name, label in ends]
            rows.append((places[0], places[1], kind, float(weight)))
            size += own
        if rows:
            yield LinkCauses(space, [(name, label) for name, (_, label) in nodes.items()], rows)


def _node_bytes(label: str) -> int:
    return _NODE_BYTES + len(label.encode("utf-8", "surrogatepass"))


def _graph_page(question: str, space: str, params: dict[str, Any]) -> Steps[dict[str, Any]]:
    try:
        return (yield from ask_one(AskMemory(question, space, dict(params)), Done)).values
    except GraphNotFound:
        return {"nodes": [], "edges": [], "more": False}


def _named(node: Named) -> tuple[bytes, str]:
    return (node_id(node), node) if isinstance(node, str) else node
