"""A whole tree in one string of bytes, and the record that says which bytes those must be.

Why it is as it is: a snapshot only saves the replay of a log, so it must never be able to say anything that the log
does not. It is read against a reference that comes from the log: the digest of the bytes, and the root that the state
must have. Both are computed from what was read; hashes of nodes are not even stored. The root alone would not do,
because it does not bind the times and record numbers of nodes; the digest alone would not do either, because then a
writer with a fault could record a state that its log does not give.

Guaranteed: equal trees give equal bytes; what is loaded is a new tree that has the root of the reference, or there is
an error and no tree. Not guaranteed: that the reference is right. It must come from a verified log.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import blake3
import msgspec

from weftos import limits
from weftos.errors import DeltaInvalid, ResourceLimitExceeded, SnapshotInvalid, TreeError
from weftos.tree import metadata
from weftos.tree.entries import Entry
from weftos.tree.hashing import HASH_BYTES
from weftos.tree.names import Kind, check_label
from weftos.tree.paths import ResourcePath
from weftos.tree.policies import Policy
from weftos.tree.scoring import Scoring
from weftos.tree.tree import ResourceTree

__all__ = ["SNAPSHOT_KIND", "SnapshotRef", "load_snapshot", "make_snapshot"]

#: Kind of the record that holds a ``SnapshotRef``.
SNAPSHOT_KIND: Final = "tree.snapshot"
_MAGIC: Final = "exo/tree/snapshot"
_LOG_ID_BYTES: Final = 16

_Seq = Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Hash = Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
_LogId = Annotated[bytes, msgspec.Meta(min_length=_LOG_ID_BYTES, max_length=_LOG_ID_BYTES)]


class SnapshotRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the log says about a snapshot; the payload of its record.

    Attributes:
        version: of the payload, 1.
        log_id: of the log, 16 bytes.
        seq: number of the last record that the tree contains.
        root: hash of the tree, 32 bytes.
        nodes: how many it has.
        digest: BLAKE3 of the snapshot's bytes, 32 bytes.
    """

    version: Literal[1] = 1
    log_id: _LogId
    seq: _Seq
    root: _Hash
    nodes: Annotated[int, msgspec.Meta(ge=1)]
    digest: _Hash

    def to_payload(self) -> dict[str, Any]:
        """Return the payload of the record."""
        return msgspec.structs.asdict(self)

    @classmethod
    def from_payload(cls, payload: object) -> SnapshotRef:
        """Read the payload of a record.

        Raises:
            DeltaInvalid: it does not have the form.
        """
        if type(payload) is not dict or set(payload) != set(cls.__struct_fields__):
            raise DeltaInvalid(f"the payload of {SNAPSHOT_KIND} has other keys than it must have")
        try:
            return msgspec.convert(payload, cls, strict=True)
        except msgspec.ValidationError as error:
            raise DeltaInvalid(f"the payload of {SNAPSHOT_KIND} is malformed: {error}") from error


class _Row(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    path: str
    kind: str
    values: dict[str, bytes]
    scoring: tuple[float, float, float, float, float, float]
    policies: dict[str, bytes]
    chain_seq: _Seq
    created_ns: _Time
    updated_ns: _Time


class _File(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    magic: str
    version: int
    log_id: _LogId
    seq: _Seq
    root: _Hash
    rows: list[_Row]


_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_decode: Final = msgspec.msgpack.Decoder(_File, strict=True).decode


def make_snapshot(tree: ResourceTree, log_id: bytes, seq: int) -> tuple[bytes, SnapshotRef]:
    """Write a tree down.

    Args:
        tree: the sum of all changes up to and including record ``seq``.
        log_id: of the log, 16 bytes.
        seq: may be larger than the number of the last change, because other records come in between.

    Returns:
        The bytes, and what must be recorded about them.

    Raises:
        SnapshotInvalid: the log's id has another length, or ``seq`` is below the last change.
        ResourceLimitExceeded: the snapshot is larger than ``limits.TREE_SNAPSHOT_BYTES``.
    """
    if len(log_id) != _LOG_ID_BYTES or not tree.last_seq <= seq < 2**63:
        raise SnapshotInvalid(
            f"a snapshot needs a log id of {_LOG_ID_BYTES} bytes and a number from {tree.last_seq} up"
        )
    root = tree.root_hash()
    rows = [_row(entry) for entry in tree.entries()]
    data = _encode(_File(_MAGIC, 1, log_id, seq, root, rows))
    if len(data) > limits.TREE_SNAPSHOT_BYTES:
        raise ResourceLimitExceeded(f"the snapshot has {len(data)} bytes, {limits.TREE_SNAPSHOT_BYTES} are allowed")
    digest = blake3.blake3(data).digest()
    return data, SnapshotRef(log_id=log_id, seq=seq, root=root, nodes=len(rows), digest=digest)


def load_snapshot(data: bytes, expected: SnapshotRef) -> ResourceTree:
    """Build a tree from a snapshot.

    Args:
        data: the bytes, from anywhere.
        expected: what a verified log says about them.

    Returns:
        A new tree; the next change must have a number above ``expected.seq``.

    Raises:
        SnapshotInvalid: the bytes are not the expected ones, or do not describe a tree with the expected root.
    """
    if len(data) > limits.TREE_SNAPSHOT_BYTES:
        raise SnapshotInvalid(f"the snapshot has {len(data)} bytes, {limits.TREE_SNAPSHOT_BYTES} are allowed")
    if blake3.blake3(data).digest() != expected.digest:
        raise SnapshotInvalid("the snapshot is not the one that the log names: its digest is another")
    try:
        file = _decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SnapshotInvalid(f"the snapshot is malformed: {error}") from error
    if (file.magic, file.version) != (_MAGIC, 1):
        raise SnapshotInvalid(f"this is {file.magic!r} of version {file.version}; known is {_MAGIC!r} of version 1")
    stated = (file.log_id, file.seq, file.root, len(file.rows))
    if stated != (expected.log_id, expected.seq, expected.root, expected.nodes):
        raise SnapshotInvalid("the snapshot is of another log, another record, or has another root or size")
    if not file.rows or file.rows[0].path != "/":
        raise SnapshotInvalid("the first node of a snapshot is the root")
    try:
        tree = ResourceTree.assemble(map(_entry, file.rows), file.seq)
    except (TreeError, ResourceLimitExceeded) as error:
        raise SnapshotInvalid(f"the snapshot describes no tree: {error}") from error
    if tree.root_hash() != expected.root:
        raise SnapshotInvalid("the content of the snapshot does not have the root that the log names")
    return tree


def _row(entry: Entry) -> _Row:
    return _Row(
        str(entry.path),
        str(entry.kind),
        entry.values,
        entry.scoring.values,
        {name: policy.to_bytes() for name, policy in entry.policies.items()},
        entry.chain_seq,
        entry.created_ns,
        entry.updated_ns,
    )


def _entry(row: _Row) -> Entry:
    entry = Entry(ResourcePath(row.path), Kind(row.kind), Scoring(*row.scoring), None)
    entry.values = {metadata.check_key(key): metadata.read_encoded(data) for key, data in row.values.items()}
    for name, data in row.policies.items():
        entry.policies[check_label(name, "the identifier of a policy")] = Policy.from_bytes(data)
    entry.chain_seq, entry.created_ns, entry.updated_ns = row.chain_seq, row.created_ns, row.updated_ns
    return entry
