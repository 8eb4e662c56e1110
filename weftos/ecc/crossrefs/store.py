"""Cross-references on disk: a snapshot, and a journal of the changes since.

Guaranteed: what :meth:`CrossRefStore.sync` returned for is there after a kill at any point, and what one ``sync`` wrote
is there as a whole or not at all (up to ``ECC_CHANGES_BYTES``). The store that is read has the content root that it
had. The caller holds the lock of the folder. Format in docs/formats/crossrefs.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from blake3 import blake3

from weftos.disk.files import Files
from weftos.ecc.crossrefs.model import ROW_BYTES, CrossRef, CrossRefType, from_row, to_row
from weftos.ecc.crossrefs.table import CrossRefTable
from weftos.ecc.state_files import StateStore
from weftos.ecc.universal import StructureTag
from weftos.errors import CrossRefRefused

__all__ = ["CrossRefStore"]

_NAME: Final = "crossrefs"
_MAGIC: Final = b"WEFTXRF1"
_ROOT: Final = "weftos.ecc.crossrefs content root v1"


class _Insert(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    row: bytes


class _Remove(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    source: bytes
    target: bytes
    ref_type: int


class _RemoveAll(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    node: bytes


_Change = _Insert | _Remove | _RemoveAll


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
    generation: int
    rows: bytes


class _State:
    """The table as :class:`StateFiles` keeps it."""

    def __init__(self) -> None:
        self.table = CrossRefTable()

    def dump(self, generation: int) -> bytes:
        return msgspec.msgpack.encode(_Snapshot(generation, self.table.rows()))

    def load(self, body: bytes) -> int:
        found = msgspec.msgpack.decode(body, type=_Snapshot)
        if len(found.rows) % ROW_BYTES:
            raise CrossRefRefused(f"{len(found.rows)} bytes are no rows of {ROW_BYTES}")
        for at in range(0, len(found.rows), ROW_BYTES):
            self.table.insert(from_row(found.rows[at : at + ROW_BYTES]))
        return found.generation

    def replay(self, content: bytes) -> None:
        for change in msgspec.msgpack.decode(content, type=list[_Change]):
            self.apply(change)

    def apply(self, change: _Change) -> int:
        match change:
            case _Insert(row):
                return self.table.insert(from_row(row))
            case _Remove(source, target, ref_type):
                return self.table.remove((source, target, ref_type))
            case _RemoveAll(node):
                return self.table.remove_all_of(node)


class CrossRefStore(StateStore):
    """Cross-references with their files ``crossrefs.snapshot`` and ``crossrefs.journal``. Made by :meth:`open`."""

    def __init__(self, fs: Files, folder: str) -> None:
        self._state = _State()
        super().__init__(fs, folder, _NAME, _MAGIC, self._state)

    @classmethod
    def open(cls, fs: Files, folder: str) -> CrossRefStore:
        """Open the store of a folder, or make it.

        Args:
            fs: the calls on files.
            folder: an existing folder, locked by the caller.

        Raises:
            JournalDamaged: the files are not what was written.
            OSError: a call failed.
        """
        return cls(fs, folder)

    @property
    def count(self) -> int:
        """Cross-references that are there."""
        return len(self._state.table)

    def __len__(self) -> int:
        return len(self._state.table)

    def __iter__(self) -> Iterator[CrossRef]:
        return iter(self._state.table)

    def insert(self, ref: CrossRef) -> bool:
        """Add a reference, unless one with its source, target and type is there: that one stays with its provenance.

        Returns:
            Whether it is new.

        Raises:
            CrossRefRefused: a field is out of range, one that is there has its ends in other structures, or it is full.
            JournalFailed: an earlier call on the files failed; open the store again.
        """
        return bool(self._change(_Insert(to_row(ref))))

    def remove(self, source: bytes, target: bytes, ref_type: CrossRefType) -> bool:
        """Remove a reference; return whether it was there."""
        return bool(self._change(_Remove(bytes(source), bytes(target), int(ref_type))))

    def remove_all_of(self, node: bytes) -> int:
        """Remove every reference from or to a node; return how many there were."""
        return self._change(_RemoveAll(bytes(node)))

    def get(self, source: bytes, target: bytes, ref_type: CrossRefType) -> CrossRef | None:
        """Return a reference, if it is there."""
        return self._state.table.get((source, target, int(ref_type)))

    def forward(self, node: bytes) -> list[CrossRef]:
        """The references from a node, in the order in which they were added."""
        return self._state.table.forward(node)

    def reverse(self, node: bytes) -> list[CrossRef]:
        """The references to a node."""
        return self._state.table.reverse(node)

    def both(self, node: bytes) -> list[CrossRef]:
        """The references from a node, then those to it; one from the node to itself once."""
        return self._state.table.both(node)

    def by_type(self, ref_type: CrossRefType) -> list[CrossRef]:
        """The references of a type."""
        return self._state.table.by_type(ref_type)

    def by_target_structure(self, tag: StructureTag) -> list[CrossRef]:
        """The references into a structure."""
        return self._state.table.by_target_structure(tag)

    def content_root(self) -> bytes:
        """32 bytes of BLAKE3 over all references: equal for equal stores, however they came about."""
        rows = self._state.table.rows()
        hasher = blake3(len(rows).to_bytes(8, "little"), derive_key_context=_ROOT)
        return hasher.update(rows).digest()

    def _change(self, change: _Change) -> int:
        self._check()
        result = self._state.apply(change)
        if result:  # what changed nothing is not worth a record
            self._add(msgspec.msgpack.encode(change))
        return result
