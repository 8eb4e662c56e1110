"""The resource tree of the instance: kept by the service, changed by what the kernel logs, rebuilt from the log.

Why it is as it is: the log is the truth and the tree a sum over it. So every change of the tree is a record of its own,
written right behind the record that caused it and naming it, in the same group; nobody changes the tree in any other
way. A snapshot saves reading the whole log at the next start. It counts only if a record of the log says so, digest and
root hash included; otherwise the log is read from its beginning.

Guaranteed: the tree is what its records on the log add up to, also after a crash between any two of them: a request
that is carried out again finds its records there, and those that are missing follow. Not guaranteed: that an agent
whose name cannot be a path is in the tree; it is counted and logged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Final

import msgspec

from weftos import chain
from weftos.chain.folder.locate import record_at
from weftos.chain.folder.reader import list_segments
from weftos.chain.tiles.tile_tree import TileTree
from weftos.disk.files import RealFiles, replace_file
from weftos.errors import ChainCorrupted, ChainError, TreeError, WeftError
from weftos.tree.deltas import LOG_KINDS, Created, Delta, MetadataSet, Removed, from_payload
from weftos.tree.names import Kind
from weftos.tree.paths import ResourcePath
from weftos.tree.snapshot import SNAPSHOT_KIND, SnapshotRef, load_snapshot, make_snapshot
from weftos.tree.tree import ResourceTree

__all__ = ["TREE_SOURCE", "TreeKeeper"]

log = logging.getLogger(__name__)

#: Source of the records that change the tree.
TREE_SOURCE: Final = "tree"
_SNAPSHOT: Final = "snapshot"
_NEXT: Final = "snapshot.next"
_REFERENCE: Final = "snapshot.seq"
_FEW: Final = 20_000

#: States in which an agent has no process and gets none.
_ENDED: Final = frozenset(("exited", "quarantined", "lost"))

Causes = Callable[[dict[str, Any]], Delta | None]


def _agent(payload: dict[str, Any]) -> ResourcePath:
    return ResourcePath(f"/kernel/agents/{payload['agent_id']}")


def _service(payload: dict[str, Any]) -> ResourcePath:
    return ResourcePath(f"/kernel/services/{payload['name']}")


def _spawned(payload: dict[str, Any]) -> Delta:
    shown = ("pid", "name", "program", "parent_pid", "restart")
    return Created(
        path=_agent(payload),
        kind=Kind("agent"),
        values={name: payload[name] for name in shown if name in payload} | {"state": "starting"},
    )


def _state(state: str) -> Causes:
    def change(payload: dict[str, Any]) -> Delta:
        values = {name: payload[name] for name in ("os_pid",) if payload.get(name) is not None}
        return MetadataSet(path=_agent(payload), values=values | {"state": state})

    return change


def _registered(payload: dict[str, Any]) -> Delta:
    values = {"pid": payload["pid"], "methods": list(payload.get("methods", ()))}
    return Created(path=_service(payload), kind=Kind("service"), values=values)


#: Which records of the kernel change the tree, and how.
CAUSES: Final[dict[str, Causes]] = {
    "agent.spawn": _spawned,
    "agent.ready": _state("running"),
    "agent.suspend": _state("suspended"),
    "agent.resume": _state("running"),
    "agent.restart": _state("restarting"),
    "agent.exit": _state("exited"),
    "agent.escalate": _state("quarantined"),
    "service.register": _registered,
    "service.unregister": lambda payload: Removed(path=_service(payload)),
}


class TreeKeeper:
    """The tree, and what it takes to keep it.

    Args:
        directory: for the snapshot; made if it is missing.
        chain_dir: of the log.
        log_id: of the log, 16 bytes.
        size: records in the log.
        covered: records that its newest checkpoint covers.

    Attributes:
        tree: as the log has it.
        refused: changes that could not be made, since the start.
        changes: made since the newest snapshot.
        snapshot_seq: number of the record that speaks of the snapshot on the disk; -1 without one. The tree needs
            the records from there on.

    Raises:
        ChainCorrupted: the snapshot cannot be used, and the records that it stands for were pruned.
    """

    def __init__(self, directory: str, chain_dir: str, log_id: bytes, size: int, covered: int) -> None:
        self._directory = directory
        self._chain_dir = chain_dir
        self._log_id = log_id
        self.refused = self.changes = 0
        self.snapshot_seq = -1
        self.tree, start = self._from_snapshot(covered)
        self._kept = self.tree.last_seq
        first = list_segments(chain_dir).first_seq
        if start < first:
            raise ChainCorrupted(
                f"the resource tree cannot be rebuilt: its snapshot in {directory} cannot be used, and the records "
                f"before {first} were pruned. Put the snapshot back, or the log with `weaver chain restore`",
                path=directory,
            )
        # Few records are read fastest from the end.
        records = chain.tail(chain_dir, size - start) if size - start < _FEW else chain.read(chain_dir, start=start)
        for record in records:
            if record.source == TREE_SOURCE and record.kind in LOG_KINDS:
                self._follow(record)

    def _follow(self, record: chain.Record) -> None:
        try:
            self.tree.apply(from_payload(record.kind, record.payload), record.seq, record.t_ns)
            self.changes += 1
        except (WeftError, msgspec.DecodeError) as error:  # the second: a forged payload that is no map
            self.refused += 1
            log.error("record %d does not fit the resource tree: %s", record.seq, error)

    def missing(self, *, new_boot: bool) -> list[Delta]:
        """Return the changes that have to be made before anything else.

        Args:
            new_boot: the kernel is another one than before, so no agent that lived then can live now.
        """
        lost = [
            MetadataSet(path=node.path, values={"state": "lost"})
            for node in (self.tree.subtree() if new_boot else ())
            if str(node.kind) == "agent" and node.metadata.get("state") not in _ENDED
        ]
        return [*self.tree.bootstrap_deltas(), *lost]

    def caused_by(self, kind: str, payload: dict[str, Any]) -> Delta | None:
        """Return the change that a record of the kernel makes, or ``None``."""
        cause = CAUSES.get(kind)
        if cause is None:
            return None
        try:
            delta = cause(payload)
            if delta is not None:
                self.tree.check(delta)
        except (TreeError, WeftError, KeyError) as error:
            self.refused += 1
            log.warning("%s does not change the resource tree: %s", kind, error)
            return None
        return delta

    def apply(self, delta: Delta, ack: chain.Ack) -> None:
        """Take a change whose record is taken; one that is known already changes nothing."""
        if ack.seq > self.tree.last_seq:
            self.tree.apply(delta, ack.seq, ack.t_ns)
            self.changes += 1

    # --- snapshots ----------------------------------------------------------------------------------------------------

    @property
    def is_kept(self) -> bool:
        """Whether the newest snapshot is of this tree."""
        return self._kept == self.tree.last_seq

    def snapshot(self, seq: int) -> tuple[bytes, SnapshotRef]:
        """Write the tree down as of a record.

        Args:
            seq: number of the newest record.
        """
        return make_snapshot(self.tree, self._log_id, seq)

    def keep(self, data: bytes, seq: int) -> None:
        """Put a snapshot on the disk whose record has this number.

        Raises:
            OSError: it cannot be written.
        """
        fs = RealFiles()
        if not os.path.isdir(self._directory):
            fs.make_dir(self._directory)
        # One of the two is good at every moment: the records that either stands for may be pruned.
        following = os.path.join(self._directory, _NEXT)
        replace_file(fs, following, data)
        replace_file(fs, os.path.join(self._directory, _REFERENCE), b"%d\n" % seq)
        fs.rename(following, os.path.join(self._directory, _SNAPSHOT))
        fs.sync_dir(self._directory)
        self._kept, self.snapshot_seq = self.tree.last_seq, seq
        self.changes = 0

    def _from_snapshot(self, covered: int) -> tuple[ResourceTree, int]:
        """Return the tree of the snapshot and the number of the record to go on with; an empty tree without one."""
        try:
            with open(os.path.join(self._directory, _REFERENCE), "rb") as file:
                seq = int(file.read(40))
            entry = TileTree(self._chain_dir, covered).entry(seq) if 0 <= seq < covered else None
            record = record_at(self._chain_dir, seq, entry)
            if record.kind != SNAPSHOT_KIND or record.source != TREE_SOURCE:
                raise ChainError(f"record {seq} is no record of a snapshot")
            tree = self._load(SnapshotRef.from_payload(record.payload))
            self.snapshot_seq = seq
            return tree, seq + 1
        except FileNotFoundError:
            return ResourceTree(), 0
        except (OSError, ValueError, WeftError) as error:
            log.warning("the snapshot of the resource tree is not used: %s; the whole log is read", error)
            return ResourceTree(), 0

    def _load(self, reference: SnapshotRef) -> ResourceTree:
        """Load the snapshot that a record speaks of; finish what a crash left in the middle of replacing it."""
        path, following = os.path.join(self._directory, _SNAPSHOT), os.path.join(self._directory, _NEXT)
        if os.path.lexists(following):
            try:
                with open(following, "rb") as file:
                    tree = load_snapshot(file.read(), reference)
            except TreeError:
                pass  # the record speaks of the one before
            else:
                os.replace(following, path)
                return tree
        with open(path, "rb") as file:
            return load_snapshot(file.read(), reference)
