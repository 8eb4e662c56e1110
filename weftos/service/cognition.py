"""The cognitive layer in the service process: its stores, what the log says of them, what is done beside the loop.

    requests ──▶ stores ──▶ one sync for a round ──▶ answers
                   │
                   └── now and then: one record ``ecc.commit`` over all changes since the last
                   └── when there is enough: a segment, built by a process of its own and taken in between two rounds

Why it is as it is: a record for each change would cost more than the change. So changes are numbered, answered when
they are on the disk of the store, and vouched for together. A segment takes seconds to minutes to build, so that is the
work of another process, which reads files that do not change any more.

Guaranteed: a change that was answered is there after any crash. Every change is under a record of the log within
``limits.ECC_COMMIT_S`` of it and one round. A store that is damaged is left as it is, reported once, and refuses; log and
gate go on. Not guaranteed: that a record exists at once; ``chain_seq`` is 0 until then.
Single-threaded: the thread of the loop.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from weftos import limits
from weftos.chain import Ack, NewEvent
from weftos.disk.files import Files, RealFiles
from weftos.ecc.causal.store import GraphStore, content_root
from weftos.ecc.commitment import Uncommitted
from weftos.ecc.vectors.store import VectorStore
from weftos.errors import EccError, EccUnavailable, GraphNotFound, StorageFailed, WeftError
from weftos.service.ecc_seals import Sealing
from weftos.service.journal import Journal
from weftos.service.side_work import SideWork

__all__ = ["ECC_SOURCE", "Cognition"]

log = logging.getLogger(__name__)

#: What stands as the source of the records about memory.
ECC_SOURCE = "ecc"


class Cognition:
    """See the head of this file.

    Args:
        folder: of all stores; made when the first thing is to be kept.
        journal: the open log.
        wake: wakes the loop; called from threads.
        fs: the calls on files.

    Attributes:
        failed: why the stores cannot be used any more, or ``None``.
        sync_wanted: an answer waits for the disk; reset by ``sync``.
    """

    def __init__(self, folder: str, journal: Journal, wake: Callable[[], object], fs: Files | None = None) -> None:
        self._folder = folder
        self._journal = journal
        self._fs = fs or RealFiles()
        self._lock = -1
        self._vectors: VectorStore | None = None
        self._graphs: dict[str, GraphStore] = {}
        self._by: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._changed: set[str] = set()
        self._next_commit = 0.0
        self._sealing = Sealing(SideWork(wake))
        self.commits = 0
        self.failed: EccError | None = None
        self.sync_wanted = False

    # --- stores -------------------------------------------------------------------------------------------------------

    @property
    def vectors(self) -> VectorStore:
        """The collections of vectors.

        Raises:
            EccError: the stores cannot be opened, or failed before.
        """
        if self.failed is not None:
            raise EccUnavailable(f"memory cannot be used: {self.failed}") from self.failed
        if self._vectors is None:
            self._open()
        assert self._vectors is not None
        return self._vectors

    def _open(self) -> None:
        began = time.monotonic()
        try:
            for folder in (self._folder, self._graph_root):
                self._fs.make_dir(folder)
            self._lock = self._fs.lock_dir(self._folder)
            self._vectors = VectorStore.open(self._fs, os.path.join(self._folder, "vectors"))
            # What was changed just before an end without a goodbye, and no record vouches for.
            left = {"vectors"} if self._vectors.uncommitted().count else set()
            left |= {f"causal:{space}" for space in self.graph_spaces() if self.graph(space).commitment.waiting}
            self._changed |= left
            if left:
                self._next_commit = began
        except (EccError, OSError) as error:
            self._fail(error)
            raise EccUnavailable(f"memory cannot be used: {error}") from error
        log.info("memory is open after %.0f ms", (time.monotonic() - began) * 1000)

    @property
    def _graph_root(self) -> str:
        return os.path.join(self._folder, "causal")

    def graph(self, space: str, *, make: bool = False) -> GraphStore:
        """Return the causal graph of a space.

        Args:
            space: its name; the caller has checked it.
            make: make it if it is not there.

        Raises:
            GraphNotFound: there is none.
            EccError: as for ``vectors``.
        """
        found = self._graphs.get(space)
        if found is not None:
            return found
        _ = self.vectors  # opens, or says why not
        folder = os.path.join(self._graph_root, quote(space, safe=""))
        if not os.path.isdir(folder):
            if not make:
                raise GraphNotFound(f"the memory space {space!r} has no causal graph; nothing was linked there yet")
            self._fs.make_dir(folder)
        try:
            found = self._graphs[space] = GraphStore(self._fs, folder)
        except (EccError, OSError) as error:
            self._fail(error)
            raise EccUnavailable(f"memory cannot be used: {error}") from error
        return found

    def graph_spaces(self) -> list[str]:
        """Return the names of all spaces with a causal graph, in order."""
        _ = self.vectors
        return sorted(unquote(name) for name in os.listdir(self._graph_root))

    # --- changes ------------------------------------------------------------------------------------------------------

    def changed(self, source: str, store: str, **counts: int) -> None:
        """Note a change, for the next record and the next sync.

        Args:
            source: who asked for it.
            store: ``vectors``, or ``causal:`` and the space.
            counts: what it was, as it stands in the record.
        """
        self._by[source] += 1
        self._counts.update(counts)
        self._changed.add(store)
        self.sync_wanted = True
        if not self._next_commit:
            self._next_commit = time.monotonic() + limits.ECC_COMMIT_S

    def sync(self) -> None:
        """Bring all changes onto the disk. A failure is remembered in ``failed``."""
        self.sync_wanted = False
        if self.failed is not None:
            return
        try:
            if "vectors" in self._changed:
                self.vectors.sync()
            for store in self._changed - {"vectors"}:
                self._graphs[store.removeprefix("causal:")].sync()
        except EccError as error:
            self._fail(error)

    def turn(self, now: float) -> None:
        """Do what is due: take in finished segments, have new ones built, vouch for changes.

        Args:
            now: monotonic time, in seconds.

        Raises:
            StorageFailed: the log cannot be written.
        """
        if self._vectors is None or self.failed is not None:
            return
        try:
            self._sealing.turn(self._vectors)
            if self._next_commit and now >= self._next_commit:
                self.commit()
        except EccError as error:
            self._fail(error)

    @property
    def wake_at(self) -> float | None:
        """Monotonic time at which ``turn`` has something to do, in seconds."""
        return self._next_commit or None

    def commit(self) -> int | None:
        """Vouch for all changes so far with one record.

        Returns:
            Its number; ``None`` if there was nothing to vouch for.

        Raises:
            StorageFailed: the log cannot be written.
            EccError: a store cannot be written.
        """
        self._next_commit = 0.0
        began = time.monotonic_ns()
        waiting = [(name, self._waiting(name)) for name in sorted(self._changed)]
        changes = [
            {"store": name, "first": one.first, "last": one.last, "root": one.root}
            for name, one in waiting
            if one.count
        ]
        if not changes:
            self._changed.clear()
            return None
        self.sync()
        if self.failed is not None:
            return None
        payload = {
            "number": self.commits + 1,
            "changes": changes,
            "counts": dict(self._counts),
            "by": dict(self._by),
            "took_us": (time.monotonic_ns() - began) // 1000,
        }
        ack = self._put("ecc.commit", payload)
        # The stores must not name a record that a power failure can still take back.
        self._journal.sync()
        self.commits += 1
        for name, one in waiting:
            if one.count:
                self._note(name, one.last, ack.seq)
        self._changed.clear()
        self._counts.clear()
        self._by.clear()
        return ack.seq

    def roots(self) -> dict[str, bytes]:
        """Return the content root of every collection (``vectors:SPACE``) and causal graph (``causal:SPACE``)."""
        found = {
            f"vectors:{one.spec.name}": self.vectors.content_root(one.spec.name) for one in self.vectors.collections()
        }
        return found | {f"causal:{space}": content_root(self.graph(space).graph) for space in self.graph_spaces()}

    def put_roots(self) -> int:
        """Put the content roots on the log; returns the number of the record."""
        self.commit()
        seq = self._put("ecc.roots", {"roots": self.roots()}).seq
        self._journal.sync()
        return seq

    def compact(self, space: str | None = None) -> list[str]:
        """Have spaces brought into one segment each, beside the loop; returns their names."""
        spaces = [space] if space is not None else [one.spec.name for one in self.vectors.collections()]
        for name in spaces:
            self.vectors.want_compaction(name)
        return spaces

    def status(self) -> dict[str, Any]:
        """Return the state of the layer, as plain values."""
        if self._vectors is None and self.failed is None and os.path.isdir(self._folder):
            _ = self.vectors
        collections = self._vectors.collections() if self._vectors is not None else []
        spaces = self.graph_spaces() if self._vectors is not None else []
        graphs = [self.graph(space).graph for space in spaces]
        return {
            "state": "failed" if self.failed is not None else "open" if self._vectors is not None else "empty",
            "reason": str(self.failed) if self.failed is not None else "",
            "collections": len(collections),
            "entries": sum(one.live for one in collections),
            "segments": sum(one.segments for one in collections),
            "searches": sum(one.searches for one in collections),
            "graphs": len(graphs),
            "nodes": sum(graph.node_count for graph in graphs),
            "edges": sum(graph.edge_count for graph in graphs),
            "commits": self.commits,
            "waiting": sum(self._waiting(name).count for name in self._changed) if self.failed is None else 0,
            "building": self._sealing.busy,
            "built": self._sealing.built,
            "build_failures": self._sealing.failures,
        }

    def _put(self, kind: str, payload: dict[str, object]) -> Ack:
        return self._journal.put(NewEvent(ECC_SOURCE, kind, payload))

    def _waiting(self, store: str) -> Uncommitted:
        if store == "vectors":
            return self.vectors.uncommitted()
        return self._graphs[store.removeprefix("causal:")].commitment.uncommitted()

    def _note(self, store: str, last: int, seq: int) -> None:
        if store == "vectors":
            self.vectors.committed(last, seq)
        else:
            graph = self._graphs[store.removeprefix("causal:")]
            graph.committed(last, seq)
            if graph.journal_bytes > limits.ECC_GRAPH_JOURNAL_BYTES:
                graph.snapshot()

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Vouch for what is left, say what the stores hold, and close them. Errors as for ``commit``."""
        self._sealing.close()
        if self._vectors is not None and self.failed is None:
            try:
                self.commit()
                if self.commits:
                    self.put_roots()
            except EccError as error:
                self._fail(error)
        for store in (*self._graphs.values(), *([self._vectors] if self._vectors is not None else [])):
            store.close()
        self._graphs.clear()
        self._vectors = None
        if self._lock >= 0:
            self._fs.close(self._lock)
            self._lock = -1

    def _fail(self, error: WeftError | OSError) -> None:
        """Give the stores up and say so on the log, once. They are left as they are."""
        if self.failed is not None:
            return
        self.failed = error if isinstance(error, EccError) else EccUnavailable(f"{self._folder}: {error.strerror}")
        log.error("memory cannot be used any more: %s", error)
        try:
            self._put("ecc.failed", {"reason": str(error)})
        except StorageFailed:
            log.error("nor could that be put on the log")
