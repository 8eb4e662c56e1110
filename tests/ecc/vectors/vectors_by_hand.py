"""What a store of vectors must hold, computed from the formats and by brute force, without its code."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from blake3 import blake3

from weftos.disk.files import RealFiles


class UnsyncedFiles(RealFiles):
    """Real files that nothing waits for: these tests kill no machine."""

    def sync_data(self, fd: int) -> None: ...

    def sync_file(self, fd: int) -> None: ...

    def sync_dir(self, path: str) -> None: ...


Kept = tuple[np.ndarray, dict[str, Any], bytes]


def small_limits(patch: pytest.MonkeyPatch, **others: Any) -> None:
    """Limits with which some dozen entries make segments, graphs and merges."""
    chosen = {
        "VECTOR_DELTA_ROWS": 6,
        "VECTOR_GRAPH_ROWS": 12,
        "VECTOR_FANOUT": 2,
        "VECTOR_QUIET_ROWS": 1,
        "VECTOR_CALIBRATION_QUERIES": 10,
        **others,
    }
    for name, value in chosen.items():
        patch.setattr(f"weftos.limits.{name}", value)


def raw_metadata(metadata: dict[str, Any]) -> bytes:
    return msgspec.msgpack.encode(dict(sorted(metadata.items()))) if metadata else b""


def entry_expansion(identity: str, kept: Kept) -> bytes:
    parts = (identity.encode(), kept[0].astype("<f4").tobytes(), raw_metadata(kept[1]), kept[2])
    hasher = blake3(derive_key_context="weftos.ecc.vectors entry v1")
    hasher.update(struct.pack("<4Q", *map(len, parts)))
    for part in parts:
        hasher.update(part)
    return hasher.digest(length=2048)


def root_of(content: dict[str, Kept]) -> bytes:
    total = np.zeros(1024, np.uint64)
    for identity, kept in content.items():
        total += np.frombuffer(entry_expansion(identity, kept), "<u2")
    hasher = blake3(derive_key_context="weftos.ecc.vectors content root v1")
    hasher.update(struct.pack("<Q", len(content)) + (total % 65536).astype("<u2").tobytes())
    return hasher.digest()


def kept_vector(vector: np.ndarray, metric: str) -> np.ndarray:
    if metric != "cosine":
        return vector
    wide = vector.astype(np.float64)
    return (wide / np.sqrt((wide * wide).sum())).astype(np.float32)


def score(query: np.ndarray, vector: np.ndarray, metric: str) -> float:
    query, vector = kept_vector(query, metric).astype(np.float64), vector.astype(np.float64)
    return float(-((query - vector) ** 2).sum() if metric == "l2" else query @ vector)
