"""The tree of a log: takes record after record and keeps the tree that they amount to.

Why it is as it is: the log is the truth, so the tree must follow from it and from nothing else. Every record is taken,
in order and without a gap; one that does not fit is counted with its reason and changes nothing, because a fold that
stops at a bad record would let whoever writes one stop it. Order is another matter: a record that is not the next one
is not taken at all, since the tree would go on as if it had seen what lies between.

A record has one change, since each change carries the number of its record. The exception is the first record of a log:
the namespaces that it brings are planted at once.

Guaranteed: two folds that take the same records, with the same ``allow``, have equal trees and equal counts; ``take``
raises nothing that a record can cause. Not guaranteed: that the records are genuine; a verified log must give them. And
a payload that was taken away for good is gone for the tree too: its record is refused, as if it had said nothing.

Agents that ran when a kernel was killed have no record of their end. So nodes of agents and services carry the boot
that they belong to, and ``is_current`` tells whether that is the one that the log saw last.

For a log in which somebody writes each change of the tree as a record of its own beside the kernel's record, this is
the wrong fold: it derives the changes from the kernel's records and would count them twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from weftos import limits
from weftos.errors import CapabilityDenied, DeltaRefused, ResourceLimitExceeded, TreeError
from weftos.tree.deltas import LOG_KINDS, Created, Delta, MetadataSet
from weftos.tree.entries import Entry
from weftos.tree.fold_rules import KERNEL, RULES, SOURCES
from weftos.tree.names import Kind
from weftos.tree.paths import ROOT, ResourcePath
from weftos.tree.scoring import DEFAULT_SCORING
from weftos.tree.tree import ResourceTree

__all__ = ["BOOT", "Allow", "LogRecord", "Refusal", "TreeFold"]

#: Key of the metadata of agents and services that names the boot they belong to, 16 bytes.
BOOT: Final = "boot"
_BOOT_ID: Final = "boot_id"
_NAMESPACE: Final = Kind("namespace")

#: Says whether a source may make a change by a record of its own; must depend on nothing but its arguments and the log.
Allow: TypeAlias = Callable[[str, Delta], bool]


class LogRecord(Protocol):
    """What the fold asks of a record; those of the chain have it."""

    @property
    def seq(self) -> int:
        """Number in the log, from 0."""
        ...

    @property
    def t_ns(self) -> int:
        """Time, ns since 1970 UTC."""
        ...

    @property
    def source(self) -> str:
        """Who said it."""
        ...

    @property
    def kind(self) -> str:
        """What happened."""
        ...

    @property
    def subject(self) -> str | None:
        """Whom or what it is about."""
        ...

    @property
    def payload(self) -> Any:
        """The decoded payload. Reading it may raise ``msgspec.DecodeError``."""
        ...


class Refusal(msgspec.Struct, frozen=True):
    """A record that changed nothing although its kind could.

    Attributes:
        seq: its number.
        source, kind: as it says.
        code: stable name of the class of reasons, as in ``weftos.errors``.
        reason: a sentence.
    """

    seq: int
    source: str
    kind: str
    code: str
    reason: str


class TreeFold:
    """A tree, and how far into the log it goes.

    Args:
        tree: what the records up to ``seq`` gave, as from a snapshot; the fold owns it from now on. A new one if not
            given.
        seq: number of the last record in it; -1 for none.
        allow: who else may change the tree by records of its kinds; nobody if not given.

    Raises:
        DeltaRefused: the tree has changes from after ``seq``.
    """

    def __init__(self, tree: ResourceTree | None = None, seq: int = -1, *, allow: Allow | None = None) -> None:
        self._tree = ResourceTree() if tree is None else tree
        if type(seq) is not int or seq < self._tree.last_seq:
            raise DeltaRefused(f"the tree goes up to record {self._tree.last_seq}, so the fold cannot be at {seq}")
        self._seq = seq
        self._allow = allow
        self._refused: dict[str, int] = {}
        self._refusals: deque[Refusal] = deque(maxlen=limits.TREE_FOLD_REFUSALS)

    @property
    def tree(self) -> ResourceTree:
        """The tree now; for reading. Ask anew after each ``take``: the first record of a log brings another object."""
        return self._tree

    @property
    def seq(self) -> int:
        """Number of the last record that was taken, whether it changed the tree or not; -1 if none was."""
        return self._seq

    @property
    def refused(self) -> dict[str, int]:
        """How many records were refused since the fold was made, by ``Refusal.code``."""
        return dict(self._refused)

    @property
    def refusals(self) -> list[Refusal]:
        """The newest of them, ``limits.TREE_FOLD_REFUSALS`` at most, the oldest first."""
        return list(self._refusals)

    @property
    def boot_id(self) -> bytes | None:
        """The boot that the log saw last, 16 bytes; ``None`` before the first."""
        if KERNEL not in self._tree:
            return None
        boot_id = self._tree.get(KERNEL).metadata.get(_BOOT_ID)
        return boot_id if type(boot_id) is bytes else None

    def is_current(self, path: ResourcePath) -> bool:
        """Tell whether a node of an agent or a service belongs to the last boot.

        If not, it is of a kernel that has ended, whatever state the node has.

        Raises:
            NodeNotFound: it is not there.
        """
        boot = self._tree.get(path).metadata.get(BOOT)
        return boot is not None and boot == self.boot_id

    def take(self, record: LogRecord) -> bool:
        """Take the next record of the log.

        Args:
            record: number ``seq + 1``. Another one is refused and does not count as taken.

        Returns:
            Whether the tree was changed.
        """
        if record.seq != self._seq + 1:
            self._refuse(record, DeltaRefused(f"record {record.seq} is not the one after {self._seq}"))
            return False
        self._seq += 1
        rule = RULES.get(record.kind)
        if rule is None:
            return False
        try:
            self._check_source(record)
            deltas = rule(record.source, record.kind, record.subject, record.payload, record.t_ns)
            self._check_allowed(record, deltas)
            if record.kind == "genesis":
                self._plant(deltas, record)
            else:
                (delta,) = deltas
                if record.kind not in LOG_KINDS:
                    delta = self._fitted(delta)
                self._tree.apply(delta, record.seq, record.t_ns)
        except (TreeError, CapabilityDenied, ResourceLimitExceeded, msgspec.MsgspecError) as error:
            self._refuse(record, error)
            return False
        return True

    def _check_source(self, record: LogRecord) -> None:
        # Before the payload is read: what a stranger says about a process is not worth an error of another class.
        if record.source not in SOURCES[record.kind] and record.kind not in LOG_KINDS:
            raise CapabilityDenied(f"{record.source} may not say {record.kind}")

    def _check_allowed(self, record: LogRecord, deltas: list[Delta]) -> None:
        if record.source in SOURCES[record.kind]:
            return
        if self._allow is None or not all(self._allow(record.source, delta) for delta in deltas):
            raise CapabilityDenied(f"{record.source} may not change the tree so")

    def _fitted(self, delta: Delta) -> Delta:
        """Fit a change that stands for an event to what is there: only the fold knows the boot and the nodes."""
        if not isinstance(delta, Created):
            return delta
        values = delta.values | {BOOT: self.boot_id}
        if delta.path in self._tree and self._tree.get(delta.path).kind == delta.kind != Kind("agent"):
            return MetadataSet(path=delta.path, values=values)
        return msgspec.structs.replace(delta, values=values)

    def _plant(self, deltas: list[Delta], record: LogRecord) -> None:
        if record.seq != 0 or len(self._tree) != 1 or self._tree.last_seq != -1:
            raise DeltaRefused("a log begins once, with its first record")
        if type(record.t_ns) is not int or not 0 <= record.t_ns < 2**63:
            raise DeltaRefused(f"{record.t_ns} is no time in ns since 1970")
        entries = [Entry(ROOT, _NAMESPACE, DEFAULT_SCORING, None)]
        for delta in deltas:
            assert isinstance(delta, Created), "the first record only creates"
            entry = Entry(delta.path, delta.kind, delta.scoring, None)
            entry.created_ns = record.t_ns
            entry.stamp(record.seq, record.t_ns)
            entries.append(entry)
        self._tree = ResourceTree.assemble(entries, record.seq)

    def _refuse(self, record: LogRecord, error: Exception) -> None:
        code = error.code if isinstance(error, TreeError | CapabilityDenied | ResourceLimitExceeded) else "tree.delta"
        self._refused[code] = self._refused.get(code, 0) + 1
        self._refusals.append(Refusal(record.seq, record.source, record.kind, code, str(error)))
