"""A causal graph on disk: a snapshot, and a journal of the changes since.

Guaranteed: what :meth:`GraphStore.sync` returned for is there after a kill at any point, and the graph that is read has
the content root that it had. A snapshot that was altered, or does not belong to the journal, is an error. The caller
holds the lock of the folder. Format in docs/formats/causal.md.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from weftos import limits
from weftos.disk.files import Files
from weftos.ecc.causal.graph import CODES, CausalGraph, EdgeType, Node
from weftos.ecc.commitment import Commitment, CommitmentState
from weftos.ecc.state_files import StateFiles
from weftos.errors import GraphRefused

__all__ = ["GraphStore", "content_root"]

_NAME: Final = "causal"
_MAGIC: Final = b"WEFTCGR1"
_COLUMNS: Final = {
    "source": "<u4",
    "target": "<u4",
    "kind": "u1",
    "weight": "<f4",
    "created_at": "<u8",
    "op": "<u8",
}
#: What a change says of an edge; its number is the store's.
_GIVEN: Final = tuple(form for name, form in _COLUMNS.items() if name != "op")


class _AddNode(msgspec.Struct, frozen=True, array_like=True, tag="n"):
    label: str
    created_at: int
    universal_id: bytes


class _Link(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    columns: list[bytes]


class _Unlink(msgspec.Struct, frozen=True, array_like=True, tag="u"):
    source: int
    target: int
    kind: EdgeType | None


class _RemoveNode(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    id: int


class _Committed(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    last: int
    seq: int


_Change = _AddNode | _Link | _Unlink | _RemoveNode


class _Snapshot(msgspec.Struct, frozen=True, array_like=True):
    generation: int
    acyclic: bool
    next_id: int
    nodes: list[Node]
    columns: list[bytes]
    commitment: CommitmentState


def _apply(graph: CausalGraph, change: _Change, op: int) -> int:
    match change:
        case _AddNode():
            return graph.add_node(change.label, created_at=change.created_at, universal_id=change.universal_id, op=op)
        case _Link():
            sources, targets, kinds, weights, created_at = _unpacked(change.columns, _GIVEN)
            return graph.link_arrays(sources, targets, kinds, weights, created_at, np.full(len(sources), op, np.uint64))
        case _Unlink():
            return graph.unlink(change.source, change.target, change.kind)
        case _RemoveNode():
            return graph.remove_node(change.id)


def _unpacked(columns: list[bytes], forms: tuple[str, ...]) -> list[NDArray[Any]]:
    if len(columns) != len(forms):
        raise GraphRefused(f"a batch of edges has {len(forms)} columns, not {len(columns)}")
    try:
        return [np.frombuffer(raw, form) for raw, form in zip(columns, forms, strict=True)]
    except ValueError as error:
        raise GraphRefused(f"a column of edges does not fit its type: {error}") from error


def _packed_edges(graph: CausalGraph) -> list[bytes]:
    ordered = graph.columns.ordered()
    return [ordered[name].astype(form).tobytes() for name, form in _COLUMNS.items()]


def content_root(graph: CausalGraph) -> bytes:
    """BLAKE3 over the content in order: what the log can attest. Equal for equal graphs, however they came about."""
    hasher = blake3(derive_key_context="weftos.ecc.causal content root v1")
    fields = [bytes([graph.acyclic]) + graph.next_id.to_bytes(8, "little")]
    fields += [msgspec.msgpack.encode(node) for node in graph.all_nodes()]
    fields += _packed_edges(graph)
    for field in fields:
        hasher.update(len(field).to_bytes(8, "little"))
        hasher.update(field)
    return hasher.digest()


class _State:
    """The graph, and which of its changes the log vouches for, as :class:`StateFiles` keeps them."""

    def __init__(self, acyclic: bool) -> None:
        self.graph = CausalGraph(acyclic=acyclic)
        self.commitment = Commitment()

    def dump(self, generation: int) -> bytes:
        graph = self.graph
        nodes = list(graph.all_nodes())
        return msgspec.msgpack.encode(
            _Snapshot(generation, graph.acyclic, graph.next_id, nodes, _packed_edges(graph), self.commitment.state())
        )

    def load(self, body: bytes) -> int:
        found = msgspec.msgpack.decode(body, type=_Snapshot)
        graph = CausalGraph(acyclic=found.acyclic)
        graph.restore_nodes(found.nodes, found.next_id)
        graph.link_arrays(*_unpacked(found.columns, tuple(_COLUMNS.values())))
        self.graph, self.commitment = graph, Commitment(found.commitment)
        return found.generation

    def replay(self, content: bytes) -> None:
        change: _Change | _Committed = msgspec.msgpack.decode(content, type=_Change | _Committed)
        if isinstance(change, _Committed):
            self.commitment.commit(change.last, change.seq)
        else:
            self.apply(change, content)

    def apply(self, change: _Change, content: bytes) -> int:
        """Make a change, and give it the next number; ``content`` is what the journal says of it."""
        result = _apply(self.graph, change, self.commitment.last + 1)
        self.commitment.add(content)
        return result


class GraphStore:
    """A graph with its files ``causal.snapshot`` and ``causal.journal``.

    Args:
        fs: the calls on files.
        folder: an existing folder of its own, locked by the caller.
        acyclic: what a new graph is; an existing one stays what it was made as.

    Raises:
        JournalDamaged: the files are not what was written.
        OSError: a call failed.
    """

    def __init__(self, fs: Files, folder: str, *, acyclic: bool = False) -> None:
        self._state = _State(acyclic)
        self._files = StateFiles(fs, folder, _NAME, _MAGIC, self._state)
        self.graph, self.commitment = self._state.graph, self._state.commitment
        self._numbers = {node.universal_id: node.id for node in self.graph.all_nodes()}

    def find(self, universal_id: bytes) -> int | None:
        """Return the number of the node with this id; of several, the last that was added."""
        return self._numbers.get(universal_id)

    def add_node(self, label: str, *, created_at: int, universal_id: bytes) -> int:
        """As :meth:`CausalGraph.add_node`, without ``op``; on disk with the next :meth:`sync`."""
        number = self._change(_AddNode(label, created_at, universal_id))
        self._numbers[universal_id] = number
        return number

    def link_arrays(self, *columns: NDArray[Any]) -> int:
        """As :meth:`CausalGraph.link_arrays`, without the column ``op``; on disk with the next :meth:`sync`."""
        if len(columns) == len(_GIVEN) and len(columns[0]) and not _in_range(columns):
            raise GraphRefused("numbers of nodes, types and positions are whole numbers within their range")
        return self._change(_Link([one.astype(form).tobytes() for one, form in zip(columns, _GIVEN, strict=True)]))

    def link(self, source: int, target: int, kind: EdgeType, weight: float, *, created_at: int) -> int:
        """Add one edge, or replace its weight and provenance; return 1 if it is new."""
        values = (source, target, CODES[kind], weight, created_at)
        return self.link_arrays(*(np.array([value]) for value in values))

    def unlink(self, source: int, target: int, kind: EdgeType | None = None) -> int:
        """As :meth:`CausalGraph.unlink`; on disk with the next :meth:`sync`."""
        return self._change(_Unlink(source, target, kind))

    def remove_node(self, number: int) -> int:
        """As :meth:`CausalGraph.remove_node`; on disk with the next :meth:`sync`."""
        universal_id = self.graph.node(number).universal_id
        gone = self._change(_RemoveNode(number))
        if self._numbers.get(universal_id) == number:
            del self._numbers[universal_id]
        return gone

    def committed(self, last: int, seq: int) -> None:
        """Note that record ``seq`` of the log vouches for the changes up to ``last``; see :class:`Commitment`."""
        if not self.commitment.last - self.commitment.waiting < last <= self.commitment.last:
            raise GraphRefused(f"change {last} is not one that waits for a record of the log")
        self._files.append(msgspec.msgpack.encode(_Committed(last, seq)))
        self.commitment.commit(last, seq)

    @property
    def journal_bytes(self) -> int:
        """Size of the journal: what a start has to read behind the snapshot."""
        return self._files.journal_bytes

    def sync(self) -> None:
        """Bring every change so far onto the disk.

        Raises:
            JournalFailed: it did not work; open the store again.
        """
        self._files.sync()

    def snapshot(self) -> None:
        """Write the whole graph and begin the journal anew.

        Raises:
            JournalFailed: it did not work. What was synced is kept; open the store again.
        """
        self._files.compact()

    def close(self) -> None:
        """Close the files; what was not synced is dropped."""
        self._files.close()

    def _change(self, change: _Change) -> int:
        self._files.check()
        try:
            content = msgspec.msgpack.encode(change)
        except (OverflowError, UnicodeEncodeError) as error:
            raise GraphRefused(f"a number or a label cannot be written: {error}") from error
        if len(content) > limits.ECC_JOURNAL_RECORD_BYTES:
            raise GraphRefused(f"a batch of {len(content)} bytes is too large for one record; make it smaller")
        result = self._state.apply(change, content)
        self._files.append(content)
        return result


def _in_range(columns: tuple[NDArray[Any], ...]) -> bool:
    """Whether nothing is lost when the columns of whole numbers take their form."""
    bounds = (1 << 32, 1 << 32, 1 << 8, None, 1 << 64)
    for column, bound in zip(columns, bounds, strict=True):
        if bound is None:
            continue
        if column.dtype.kind not in "iu" or int(column.min()) < 0 or int(column.max()) >= bound:
            return False
    return True
