"""Which kinds of records the index of the log looks into, and what it keeps of each: one table, pure functions.

A payload of another form than its kind promises gives no facts; to say so is the verification's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from weftos.chain.statements.bridge import BRIDGE_KIND, SPLIT_VIEW_KIND, Bridge
from weftos.chain.statements.lineage import LINEAGE_KIND, Derivation
from weftos.chain.statements.seals import SEAL_KIND, Seal
from weftos.errors import AppendRefused, SealInvalid

__all__ = [
    "APPROVAL_MARKS",
    "BOOT_MARK",
    "FACTS",
    "GOVERNANCE_SOURCE",
    "STANDING_MARKS",
    "TREE_LINEAGE",
    "ChildFact",
    "ErasureFact",
    "Fact",
    "MarkFact",
]

#: Sort of the marks of what was derived by the service's tree.
TREE_LINEAGE: Final = "lineage.tree"
#: Sort of the marks of where the records of a boot begin; the name is the boot, in hex digits.
BOOT_MARK: Final = "boot.init"
#: Sorts of the marks of what governance adds up: what is in force, and approvals with what came of them. Of these the
#: whole payload is kept, so that the sum can be made without reading the log, and after its beginning was pruned.
STANDING_MARKS: Final = "governance.standing"
APPROVAL_MARKS: Final = "governance.approvals"
#: Source of the records of governance: the service itself.
GOVERNANCE_SOURCE: Final = "governance"
_REDACTED_KIND: Final = "chain.redacted"


class ChildFact(NamedTuple):
    """A derivation: child, parent or ``None``, hash of the child, type."""

    child: str
    parent: str | None
    child_hash: bytes
    type: str


class MarkFact(NamedTuple):
    """Something of which the newest is asked for: sort, name, and what is kept of it."""

    kind: str
    name: str
    value: dict[str, Any]


class ErasureFact(NamedTuple):
    """The payload of this record was taken away."""

    seq: int


Fact: TypeAlias = ChildFact | MarkFact | ErasureFact


def _derivation(source: str, payload: dict[str, Any]) -> list[Fact]:
    try:
        step = Derivation.from_payload(payload)
    except AppendRefused:
        return []
    found: list[Fact] = [ChildFact(step.child, step.parent, step.child_hash, step.type)]
    if source == "tree":
        found.append(MarkFact(TREE_LINEAGE, step.child, {"hash": step.child_hash}))
    return found


def _seal(source: str, payload: dict[str, Any]) -> list[Fact]:
    try:
        seal = Seal.from_payload(payload)
    except SealInvalid:
        return []
    return [MarkFact(SEAL_KIND, seal.mac.hex(), {"epoch": seal.epoch, "end": seal.end})] if source == "chain" else []


def _bridge(source: str, payload: dict[str, Any]) -> list[Fact]:
    try:
        head = Bridge.from_payload(payload)
    except AppendRefused:
        return []
    return [MarkFact(BRIDGE_KIND, head.origin, head.summary())] if source == "chain" else []


def _split_view(source: str, payload: dict[str, Any]) -> list[Fact]:
    origin, size, root = (payload.get(name) for name in ("origin", "size", "root"))
    if source != "chain" or type(origin) is not str or type(size) is not int or type(root) is not bytes:
        return []
    return [MarkFact(SPLIT_VIEW_KIND, f"{origin} {size} {root.hex()}", {})]


def _redacted(source: str, payload: dict[str, Any]) -> list[Fact]:
    seq = payload.get("seq")
    return [ErasureFact(seq)] if source in ("chain", "kernel") and type(seq) is int else []


def _boot(source: str, payload: dict[str, Any]) -> list[Fact]:
    boot_id = payload.get("boot_id")
    return [MarkFact(BOOT_MARK, boot_id.hex(), {})] if source == "kernel" and type(boot_id) is bytes else []


def _kept(sort: str, kind: str, *, under_permit: bool = False) -> Callable[[str, dict[str, Any]], list[Fact]]:
    """Keep the payload of a kind whole; of some only if it names a permit."""

    def facts(source: str, payload: dict[str, Any]) -> list[Fact]:
        if source != GOVERNANCE_SOURCE or (under_permit and payload.get("permit") is None):
            return []
        return [MarkFact(sort, kind, payload)]

    return facts


_STANDING: Final = ("governance.genesis", "governance.root.supersede", "governance.policies", "env.switch")
_APPROVALS: Final = ("gate.request", "gate.approve", "gate.refuse", "gate.expire", "permit.mint", "permit.use")
_UNDER_PERMIT: Final = ("gate.intent", "gate.outcome")

#: By kind: makes the facts of the source and payload of a record.
FACTS: Final[dict[str, Callable[[str, dict[str, Any]], list[Fact]]]] = {
    BOOT_MARK: _boot,
    LINEAGE_KIND: _derivation,
    SEAL_KIND: _seal,
    BRIDGE_KIND: _bridge,
    SPLIT_VIEW_KIND: _split_view,
    _REDACTED_KIND: _redacted,
    **{kind: _kept(STANDING_MARKS, kind) for kind in _STANDING},
    **{kind: _kept(APPROVAL_MARKS, kind) for kind in _APPROVALS},
    **{kind: _kept(APPROVAL_MARKS, kind, under_permit=True) for kind in _UNDER_PERMIT},
}
