"""Derivations that agents and the service put on the log: who may name what, and which are refused.

Why it is as it is: a thing may be recorded once, so whoever records a name first owns it. Names therefore begin with
the *scope* of the agent (see ``keyed``), which the service sets and nobody can choose: an agent speaks of its own
things and of nobody else's. Parents may be anybody's. The index of the log knows every child ever recorded with its
hash, so all the rules of ``chain.lineage`` are checked before a derivation is taken, and cost a look-up or two.

Guaranteed: the derivations that went through here have no problem that ``verify_lineage`` would find. What it still
checks is whether somebody else wrote the log. Not guaranteed, here or there: that a hash is that of the thing.
"""

from __future__ import annotations

from typing import Final

from weftos import limits
from weftos.chain.index.index_facts import TREE_LINEAGE
from weftos.chain.index.log_index import LogIndex
from weftos.chain.records.kinds import check_text
from weftos.chain.statements.lineage import Derivation
from weftos.errors import AppendRefused, LineageRefused

__all__ = ["SNAPSHOT_SCOPE", "check_derivation", "derivation_of", "full_name", "snapshot_derivation"]

#: Between scope and name. No scope holds it.
_MARK: Final = "#"
#: Scope of the snapshots of the resource tree; no agent's, because names of agents hold no colon.
SNAPSHOT_SCOPE: Final = "service:tree"


def full_name(scope: str, name: str) -> str:
    """Return the name of a thing of one's own as it stands on the log.

    Raises:
        AppendRefused: it is empty, too long, holds characters that cannot be shown, or the mark of a full name.
    """
    check_text("the name of a thing", name, limits.CHAIN_NAME_BYTES - limits.CHAIN_KEY_SCOPE_BYTES - len(_MARK))
    if _MARK in name:
        raise AppendRefused(
            f"{name!r} names a thing of somebody else: a thing of one's own has no {_MARK!r} in its name"
        )
    return scope + _MARK + name


def derivation_of(scope: str, step: Derivation) -> Derivation:
    """Return a derivation with full names.

    Args:
        scope: of the agent that speaks.
        step: as it gave it: the child by its own name; the parent by its own name, or by a full one.

    Raises:
        AppendRefused: a field does not have its form.
    """
    step.check()
    parent = step.parent if step.parent is None or _MARK in step.parent else full_name(scope, step.parent)
    full = Derivation(
        full_name(scope, step.child),
        step.child_hash,
        parent,
        step.parent_hash,
        step.type,
        step.mutations,
        step.description,
    )
    full.check()
    return full


def check_derivation(index: LogIndex, step: Derivation) -> None:
    """Refuse a derivation that does not fit what is on the log.

    Raises:
        LineageRefused: it does not; the message begins with the code of ``LineageProblem``.
        StorageFailed: the index cannot be used.
    """
    known = index.child(step.child)
    if known is not None:
        if "merge" not in {known.type} & {step.type} or step.parent is None or index.has_edge(step.child, None):
            raise LineageRefused(f"repeated: {step.child!r} is recorded already, by record {known.seq}")
        if index.has_edge(step.child, step.parent):
            raise LineageRefused(f"repeated: {step.parent!r} is a parent of {step.child!r} already")
        if known.hash != step.child_hash:
            raise LineageRefused(f"child_hash: record {known.seq} names another hash of {step.child!r}")
    if step.parent is None:
        return
    if step.parent == step.child:
        raise LineageRefused(f"cycle: {step.child!r} would be made from itself")
    parent = index.child(step.parent)
    if parent is None:
        raise LineageRefused(
            f"parent_missing: {step.parent!r} is recorded nowhere; record it first, without a parent if it is an origin"
        )
    if known is not None and parent.seq > known.seq:
        raise LineageRefused(f"parent_later: {step.parent!r} was recorded after {step.child!r}, in record {parent.seq}")
    if parent.hash != step.parent_hash:
        raise LineageRefused(f"parent_hash: record {parent.seq} names another hash of {step.parent!r}")


def snapshot_derivation(index: LogIndex, seq: int, digest: bytes, changes: int) -> Derivation:
    """Return from what a snapshot of the resource tree came: from the one before.

    Args:
        index: of the log.
        seq: number of the record of the snapshot.
        digest: BLAKE3 of the snapshot's bytes, 32 bytes.
        changes: of the tree since the one before.

    Raises:
        StorageFailed: the index cannot be used.
    """
    child = full_name(SNAPSHOT_SCOPE, f"snapshot-{seq}")
    before = index.newest(TREE_LINEAGE)
    if before is None:
        return Derivation(child, digest, None, None, "snapshot", changes)
    return Derivation(child, digest, before.name, before.value["hash"], "snapshot", changes)
