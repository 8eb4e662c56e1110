"""Lineage: from what something was derived and how, as events of the log, and the check that such a story holds.

Why it is as it is: each event says one step, "this child was made from that parent", with the hashes of both, so that
a story can be checked against the things themselves. Something without a parent is an origin. A merge has several
parents and so several events, which differ in the parent alone. A child is new when it is first named: what it was made
from must be there already. That rule alone leaves no room for cycles; a cycle is told apart from a mere wrong order
because it means something else to whoever investigates.

Guaranteed: a story without problems is a graph without cycles, in which every edge names a parent that was recorded
before under the same hash. Not guaranteed: that a hash is that of the thing, or that the step was what it claims; that
takes the things.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, Self, TypeAlias, get_args

import msgspec

from weftos import limits
from weftos.chain.records.kinds import check_text
from weftos.chain.signing.statement import U64_MAX
from weftos.chain.statements.versioned import fields_of
from weftos.errors import AppendRefused

__all__ = ["LINEAGE_KIND", "Derivation", "DerivationType", "LineageProblem", "LineageReport", "verify_lineage"]

#: Kind of the record that carries a derivation.
LINEAGE_KIND: Final = "lineage.derivation"
_VERSION: Final = 1

DerivationType: TypeAlias = Literal["clone", "filter", "merge", "quantize", "reindex", "transform", "snapshot", "user"]
_TYPES: Final = frozenset(get_args(DerivationType))

ProblemCode: TypeAlias = Literal["repeated", "parent_missing", "parent_hash", "child_hash", "cycle", "parent_later"]


class Derivation(msgspec.Struct, frozen=True):
    """One step: a child was made from a parent, or appeared without one.

    Attributes:
        child: id of what was made, printable text.
        child_hash: of its content, 32 bytes.
        parent: id of what it was made from; ``None`` for an origin.
        parent_hash: of the parent's content when the child was made, 32 bytes; ``None`` for an origin.
        type: how. ``merge`` alone may give a child several parents.
        mutations: changes made on the way, as the maker counts them; 64 bit unsigned.
        description: for a reader; may be empty.
    """

    child: str
    child_hash: bytes
    parent: str | None
    parent_hash: bytes | None
    type: DerivationType
    mutations: int = 0
    description: str = ""

    def to_payload(self) -> dict[str, Any]:
        """Return the payload of a ``lineage.derivation`` record.

        Raises:
            AppendRefused: a field does not have its form.
        """
        self.check()
        return {"version": _VERSION, **msgspec.structs.asdict(self)}

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Self:
        """Read a derivation from a record's payload.

        Raises:
            AppendRefused: it has another form.
        """
        derivation = cls(**fields_of(payload, cls, version=_VERSION, name="a derivation", error=AppendRefused))
        derivation.check()
        return derivation

    def check(self) -> None:
        """Check the form of the fields.

        Raises:
            AppendRefused: one has another.
        """
        check_text("child", self.child, limits.CHAIN_NAME_BYTES)
        _check_hash("child_hash", self.child_hash)
        if (self.parent is None) != (self.parent_hash is None):
            raise AppendRefused("parent and parent_hash are there together or not at all")
        if self.parent is not None:
            check_text("parent", self.parent, limits.CHAIN_NAME_BYTES)
            _check_hash("parent_hash", self.parent_hash)
        if type(self.type) is not str or self.type not in _TYPES:
            raise AppendRefused(f"a derivation is one of {', '.join(get_args(DerivationType))}, not {self.type!r:.40}")
        if type(self.mutations) is not int or not 0 <= self.mutations <= U64_MAX:
            raise AppendRefused(f"mutations is an unsigned number of 64 bits, not {self.mutations!r:.40}")
        if self.description != "":
            check_text("description", self.description, limits.CHAIN_DESCRIPTION_BYTES)


class LineageProblem(msgspec.Struct, frozen=True):
    """One finding.

    Attributes:
        index: where the event stands among those examined, from 0.
        code: ``repeated``, the child was recorded already, and not as another parent of the same merge;
            ``parent_missing``, the parent is never recorded; ``parent_later``, it is, but only after the child;
            ``parent_hash``, it was recorded with another hash; ``child_hash``, the events of one merge name different
            hashes of the child; ``cycle``, the parent is the child itself or made from it.
        child: the child's id.
        parent: the parent's id, or ``None``.
    """

    index: int
    code: ProblemCode
    child: str
    parent: str | None


class LineageReport(msgspec.Struct, frozen=True):
    """What a check found.

    Attributes:
        valid: there are no problems.
        things: ids recorded as children.
        origins: those without a parent.
        problems: in the order of the events.
    """

    valid: bool
    things: int
    origins: int
    problems: list[LineageProblem]


def verify_lineage(events: Iterable[Derivation]) -> LineageReport:
    """Check a row of derivations, in the order of the log and from its beginning.

    Time and memory are in proportion to the number of events.

    Args:
        events: well-formed ones, see ``Derivation.from_payload``.

    Returns:
        The report. An event with a problem still counts as recorded, so that one fault does not bring down all that
        follows; but a child that is recorded again keeps its first hash.
    """
    rows = list(events)
    first: dict[str, int] = {}
    edges: dict[tuple[str, str | None], int] = {}
    for index, event in enumerate(rows):
        first.setdefault(event.child, index)
        edges.setdefault((event.child, event.parent), index)
    cyclic = _in_cycles(rows, first)
    problems = [
        LineageProblem(index, code, event.child, event.parent)
        for index, event in enumerate(rows)
        for code in _faults(rows, first, cyclic, index, edges[event.child, event.parent] != index)
    ]
    origins = sum(rows[index].parent is None for index in first.values())
    return LineageReport(not problems, len(first), origins, problems)


def _faults(
    rows: list[Derivation], first: dict[str, int], cyclic: set[int], index: int, again: bool
) -> list[ProblemCode]:
    event, found = rows[index], list[ProblemCode]()
    begun = first[event.child]
    if begun != index:
        types = {rows[begun].type, event.type}
        if again or types != {"merge"} or event.parent is None or rows[begun].parent is None:
            found.append("repeated")
        elif event.child_hash != rows[begun].child_hash:
            found.append("child_hash")
    if event.parent is None:
        return found
    made = first.get(event.parent)
    if made is None:
        found.append("parent_missing")
    else:
        if index in cyclic:
            found.append("cycle")
        elif made >= begun:
            found.append("parent_later")
        if rows[made].child_hash != event.parent_hash:
            found.append("parent_hash")
    return found


def _in_cycles(rows: list[Derivation], first: dict[str, int]) -> set[int]:
    """Return the events that close a cycle: child and parent are in one strongly connected part of the graph.

    Tarjan's algorithm (SIAM J. Comput. 1(2), 1972), with a stack of its own: stories are longer than Python recurses.
    """
    parents: dict[str, list[str]] = {child: [] for child in first}
    for event in rows:
        if event.parent is not None and event.parent in first:
            parents[event.child].append(event.parent)
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    part: dict[str, int] = {}
    path: list[str] = []
    for root in first:
        if root in number:
            continue
        work = [(root, iter(parents[root]))]
        number[root] = low[root] = len(number)
        path.append(root)
        while work:
            node, rest = work[-1]
            for parent in rest:
                if parent not in number:
                    number[parent] = low[parent] = len(number)
                    path.append(parent)
                    work.append((parent, iter(parents[parent])))
                    break
                if parent not in part:
                    low[node] = min(low[node], number[parent])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    while True:
                        member = path.pop()
                        part[member] = number[node]
                        if member == node:
                            break
    return {
        index
        for index, event in enumerate(rows)
        if event.parent is not None and event.parent in first and part[event.parent] == part[event.child]
    }


def _check_hash(name: str, value: object) -> None:
    if type(value) is not bytes or len(value) != 32:
        raise AppendRefused(f"{name} is a hash of 32 bytes, not {value!r:.80}")
