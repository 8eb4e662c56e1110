"""The cognitive layer in the service process: its stores, what the log says of them, what is done beside the loop.

    requests ──▶ stores ──▶ one sync for all since the last, vectors beside the loop ──▶ answers
                   │
                   └── now and then: one record ``ecc.commit`` over all changes since the last
                   └── when impulses wait: a cognitive tick, see ``ecc_ticks``
                   └── when there is enough: a segment, built by a process of its own and taken in between two rounds

Why it is as it is: a record for each change would cost more than the change. So changes are numbered, answered when
they are on the disk of the store, and vouched for together. A segment takes seconds to minutes to build, so that is the
work of another process, which reads files that do not change any more.

Guaranteed: a change that was answered is there after any crash. Every change is under a record of the log within
``limits.ECC_COMMIT_S`` of it and one round. A store that is damaged is left as it is, reported once, and refuses; log
and gate go on. Not guaranteed: that a record exists at once; ``chain_seq`` is 0 until then.
Single-threaded: the thread of the loop.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from weftos import limits
from weftos.chain import Ack, NewEvent
from weftos.disk.files import Files, RealFiles
from weftos.ecc.causal.store import GraphStore, content_root
from weftos.ecc.commitment import Uncommitted
from weftos.ecc.vectors.store import VectorStore
from weftos.errors import EccError, EccUnavailable, GraphNotFound, StorageFailed
from weftos.service.ecc_beside import Beside
from weftos.service.ecc_changes import Changes
from weftos.service.ecc_disk import VectorSync
from weftos.service.ecc_figures import Figures
from weftos.service.ecc_guard import Guard
from weftos.service.ecc_quota import Quota, Room
from weftos.service.ecc_seals import Sealing
from weftos.service.ecc_spaces import Spaces
from weftos.service.journal import Journal
from weftos.service.side_work import SideWork

if TYPE_CHECKING:
    from weftos.service.ecc_ticks import Ticks

__all__ = ["ECC_SOURCE", "Cognition"]

log = logging.getLogger(__name__)

#: What stands as the source of the records about memory.
ECC_SOURCE: Final = "ecc"
_CAUSAL: Final = "causal:"


class Cognition:
    """See the head of this file.

    Args:
        folder: of all stores; made when the first thing is to be kept.
        journal: the open log.
        wake: wakes the loop; called from threads.
        room: how much may be taken.
        fs: the calls on files.

    Attributes:
        failed: why the stores cannot be used any more, or ``None``.
        sync_wanted: something was changed since the last ``sync`` that began.
        commits: records that vouch for changes, since the start.
        figures: what is computed beside the loop.
        guarded: around whatever uses a store.
    """

    def __init__(
        self,
        folder: str,
        journal: Journal,
        wake: Callable[[], object],
        room: Room | None = None,
        fs: Files | None = None,
    ) -> None:
        self._folder = folder
        self._journal = journal
        self._fs = fs or RealFiles()
        self._lock = -1
        self._vectors: VectorStore | None = None
        self._spaces: Spaces | None = None
        self._ticks: Ticks | None = None
        self._room = room or Room()
        self._quota: Quota | None = None
        self._changes = Changes()
        self._emitted: set[str] = set()
        self._looked = False
        self._beside = Beside(SideWork(wake))
        self._disk = VectorSync(wake)
        self._sealing = Sealing(self._beside)
        self.figures = Figures(self._beside, self._fs, folder, self._calibrated)
        self.guarded = Guard(self._fail)
        self.commits = 0
        self.failed: EccError | None = None
        self.sync_wanted = False

    # --- stores -------------------------------------------------------------------------------------------------------

    @property
    def vectors(self) -> VectorStore:
        """The collections of vectors.

        Raises:
            EccUnavailable: the stores cannot be opened, or failed before.
        """
        self._use()
        assert self._vectors is not None
        return self._vectors

    @property
    def spaces(self) -> Spaces:
        """Graphs, cross-references and impulses; errors as for ``vectors``."""
        self._use()
        assert self._spaces is not None
        return self._spaces

    @property
    def ticks(self) -> Ticks:
        """The cognitive ticks; errors as for ``vectors``."""
        self._use()
        if self._ticks is None:
            # Here, because it loads scipy: the kernel imports this module, and forks agents that have no use for it.
            from weftos.service.ecc_ticks import Ticks

            assert self._spaces is not None
            assert self._vectors is not None
            self._ticks = Ticks(self._spaces, self._vectors, self._changes, self.put_now)
            self.figures.load()
        return self._ticks

    @property
    def quota(self) -> Quota:
        """What is taken of the room there is; errors as for ``vectors``."""
        self._use()
        if self._quota is None:
            assert self._spaces is not None
            assert self._vectors is not None
            self._quota = Quota(self._vectors, self._spaces, self._room)
        return self._quota

    def graph(self, space: str, *, make: bool = False) -> GraphStore:
        """Return the causal graph of a space.

        Args:
            space: its name; the caller has checked it.
            make: make it if it is not there.

        Raises:
            GraphNotFound: there is none.
            EccUnavailable: as for ``vectors``.
        """
        shelf = self.spaces.graphs
        try:
            found = shelf.make(space) if make else shelf.get(space)
        except (EccError, OSError) as error:
            raise self._fail(error) from error
        if found is None:
            raise GraphNotFound(f"the memory space {space!r} has no causal graph; nothing was linked there yet")
        return found

    def _use(self) -> None:
        if self.failed is not None:
            raise EccUnavailable(f"memory cannot be used: {self.failed}") from self.failed
        if self._vectors is not None:
            return
        began = time.monotonic()
        try:
            if not os.path.isdir(self._folder):
                self._fs.make_dir(self._folder)
            self._lock = self._fs.lock_dir(self._folder)
            self._spaces = Spaces(self._fs, self._folder)
            self._vectors = VectorStore.open(self._fs, os.path.join(self._folder, "vectors"))
            self._find_unvouched(self._vectors, self._spaces)
        except (EccError, OSError) as error:
            raise self._fail(error) from error
        log.info("memory is open after %.0f ms", (time.monotonic() - began) * 1000)

    def _find_unvouched(self, vectors: VectorStore, spaces: Spaces) -> None:
        """Find what was changed just before an end without a goodbye, and no record vouches for."""
        if vectors.uncommitted().count:
            self._changes.note(ECC_SOURCE, "vectors")
        for space in spaces.graphs.names():
            if spaces.graphs.make(space).commitment.waiting:
                self._changes.note(ECC_SOURCE, _CAUSAL + space)

    def look(self) -> None:
        """Open what an earlier start left, if it left something. A failure is remembered in ``failed``."""
        if not os.path.isdir(self._folder):
            return
        try:
            # The ticks bring libraries that take a while to load; they are there when something waits for them.
            if self.spaces.impulses.names():
                _ = self.ticks
        except EccUnavailable:
            log.debug("memory stays closed")

    def _calibrated(self, found: Any, new: bool) -> None:
        """Take up what a calibration says about the interval of ticks; a new one is on the log."""
        self.ticks.controller.set_interval(found.tick_interval_ms)
        if new:
            names = ("compute_p50_us", "compute_p95_us", "tick_interval_ms", "hnsw_vector_count", "spectral_capable")
            self._put("ecc.boot.calibration", {"figures": {name: getattr(found, name) for name in names}})

    # --- changes ------------------------------------------------------------------------------------------------------

    def changed(self, source: str, store: str, **counts: int) -> None:
        """Note a change, for the next record and the next sync; arguments as for ``Changes.note``."""
        self._changes.note(source, store, **counts)
        self.sync_wanted = True

    def emitted(self, space: str) -> None:
        """Note that impulses wait in a space, for the next sync and the next tick."""
        self._emitted.add(space)
        self.sync_wanted = True
        self.ticks.wake(space)

    def sync(self) -> int:
        """Begin to bring all changes so far onto the disk, or leave them to the next time if one is under way.

        A failure is remembered in ``failed``.

        Returns:
            What ``is_synced`` takes.
        """
        if self.sync_wanted and self.failed is None and not self._disk.under_way:
            self.sync_wanted = False
            try:
                self._sync_others()
                # Also if a commit has brought all onto the disk meanwhile: somebody waits for the number.
                self._disk.begin(self.vectors)
            except (EccError, OSError) as error:
                self._fail(error)
        return self._disk.begun + 1 if self.sync_wanted else self._disk.begun

    def is_synced(self, number: int) -> bool:
        """Return whether the changes before a ``sync`` are on the disk, or will never be: then ``failed`` says why."""
        return self.failed is not None or number <= self._disk.landed

    def sync_now(self) -> None:
        """Bring all changes onto the disk, and wait for it. A failure is remembered in ``failed``."""
        if self.failed is None:
            try:
                self._sync_all()
            except (EccError, OSError) as error:
                self._fail(error)

    def _sync_all(self) -> None:
        self._sync_others()
        if "vectors" in self._changes.stores:
            self.vectors.sync()

    def _sync_others(self) -> None:
        for store in self._changes.stores - {"vectors"}:
            self.graph(store.removeprefix(_CAUSAL)).sync()
        while self._emitted:
            self.spaces.impulses.make(self._emitted.pop()).sync()

    def turn(self, now: float) -> None:
        """Do what is due: take in finished segments, have new ones built, tick, vouch for changes.

        Args:
            now: monotonic time, in seconds.

        Raises:
            StorageFailed: the log cannot be written.
        """
        if not self._looked:
            self._looked = True
            self.look()
        if self._vectors is None or self.failed is not None:
            return
        try:
            self._beside.turn()
            self._sealing.turn(self._vectors)
            if self._ticks is not None:
                self._ticks.turn()
            self._disk.turn()
            # Between two waits for the disk: there is nothing to wait for then but what was changed since.
            if self._changes.due is not None and now >= self._changes.due and not self._disk.under_way:
                self.commit()
            self.sync()
        except (EccError, OSError) as error:
            self._fail(error)

    @property
    def wake_at(self) -> float | None:
        """Monotonic time at which ``turn`` has something to do, in seconds."""
        due = self._changes.due if not self._disk.under_way else None
        times = [due, self._ticks.wake_at if self._ticks is not None else None]
        return None if self.failed is not None else min((one for one in times if one is not None), default=None)

    def commit(self) -> int | None:
        """Vouch for all changes so far with one record.

        Returns:
            Its number; ``None`` if there was nothing to vouch for.

        Raises:
            StorageFailed: the log cannot be written.
            EccError: a store cannot be written.
        """
        began = time.monotonic_ns()
        waiting = [(name, one) for name in sorted(self._changes.stores) if (one := self._waiting(name)).count]
        if not waiting:
            self._changes.clear()
            return None
        self._sync_all()
        payload = {
            "number": self.commits + 1,
            "changes": [
                {"store": name, "first": one.first, "last": one.last, "root": one.root} for name, one in waiting
            ],
            "counts": dict(self._changes.counts),
            "by": dict(self._changes.by),
            "took_us": (time.monotonic_ns() - began) // 1000,
        }
        seq = self.put_now("ecc.commit", payload)
        self.commits += 1
        for name, one in waiting:
            self._vouched(name, one.last, seq)
        self._changes.clear()
        return seq

    def roots(self) -> dict[str, bytes]:
        """Return the content root of each collection (``vectors:SPACE``), graph (``causal:``) and cross-references."""
        found = {f"vectors:{one.spec.name}": one.content_root for one in self.vectors.collections()}
        found |= {_CAUSAL + space: content_root(self.graph(space).graph) for space in self.spaces.graphs.names()}
        shelf = self.spaces.crossrefs
        return found | {f"crossrefs:{space}": shelf.make(space).content_root() for space in shelf.names()}

    def put_roots(self) -> int:
        """Put the content roots on the log; returns the number of the record. Errors as for ``commit``."""
        self.commit()
        return self.put_now("ecc.roots", {"roots": self.roots()})

    def put_now(self, kind: str, payload: dict[str, Any]) -> int:
        """Put an event on the log and onto the disk, so that a store may name it; returns its number.

        Raises:
            StorageFailed: the log cannot be written.
        """
        seq = self._put(kind, payload).seq
        self._journal.sync()
        return seq

    def compact(self, space: str | None = None) -> list[str]:
        """Have spaces brought into one segment each, beside the loop; returns their names."""
        spaces = [space] if space is not None else [one.spec.name for one in self.vectors.collections()]
        for name in spaces:
            self.vectors.compact(name)
        return spaces

    def status(self) -> dict[str, Any]:
        """Return the state of the layer, as plain values."""
        self.look()
        ready = self._vectors is not None and self.failed is None
        collections = self.vectors.collections() if ready else []
        graphs = [self.graph(space).graph for space in self.spaces.graphs.names()] if ready else []
        queues = [self.spaces.impulses.make(space) for space in self.spaces.impulses.names()] if ready else []
        shelf = self.spaces.crossrefs if ready else None
        return {
            "state": "failed" if self.failed is not None else "open" if ready else "empty",
            "reason": str(self.failed) if self.failed is not None else "",
            "collections": len(collections),
            "entries": sum(one.live for one in collections),
            "segments": sum(one.segments for one in collections),
            "searches": sum(one.searches for one in collections),
            "graphs": len(graphs),
            "nodes": sum(graph.node_count for graph in graphs),
            "edges": sum(graph.edge_count for graph in graphs),
            "crossrefs": sum(len(shelf.make(space)) for space in shelf.names()) if shelf is not None else 0,
            "impulses": sum(len(queue) for queue in queues),
            "commits": self.commits,
            "waiting": sum(self._waiting(name).count for name in self._changes.stores) if ready else 0,
            "building": self._sealing.busy,
            "built": self._sealing.built,
            "build_failures": self._sealing.failures,
            "tick_interval_ms": (
                self._ticks.controller.interval_ms if self._ticks is not None else limits.TICK_INTERVAL_MS
            ),
        }

    def _put(self, kind: str, payload: dict[str, Any]) -> Ack:
        return self._journal.put(NewEvent(ECC_SOURCE, kind, payload))

    def _waiting(self, store: str) -> Uncommitted:
        if store == "vectors":
            found = self.vectors.uncommitted()
            return Uncommitted(found.first_op, found.last_op, found.root)
        return self.graph(store.removeprefix(_CAUSAL)).commitment.uncommitted()

    def _vouched(self, store: str, last: int, seq: int) -> None:
        if store == "vectors":
            self.vectors.committed(last, seq)
            return
        graph = self.graph(store.removeprefix(_CAUSAL))
        graph.committed(last, seq)
        if graph.journal_bytes > limits.ECC_GRAPH_JOURNAL_BYTES:
            graph.snapshot()

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Vouch for what is left, say what the stores hold, and close them. Errors as for ``commit``."""
        self._beside.close()
        try:
            self._disk.close()
            if self._vectors is not None and self.failed is None:
                self.commit()
                if self.commits:
                    self.put_roots()
                self._vectors.sync()
        except (EccError, OSError) as error:
            self._fail(error)
        finally:
            if self._spaces is not None:
                self._spaces.close()
            if self._vectors is not None:
                self._vectors.close()
            self._vectors = self._spaces = self._ticks = self._quota = None
            if self._lock >= 0:
                self._fs.close(self._lock)
                self._lock = -1

    def _fail(self, error: EccError | OSError) -> EccUnavailable:
        """Give the stores up and say so on the log, once. They are left as they are. Returns what to raise."""
        if self.failed is None:
            text = str(error) if isinstance(error, EccError) else f"{self._folder}: {error.strerror}"
            self.failed = EccUnavailable(text)
            log.error("memory cannot be used any more: %s", text)
            try:
                self._put("ecc.failed", {"reason": text})
            except StorageFailed:
                log.error("nor could that be put on the log")
        return EccUnavailable(f"memory cannot be used: {self.failed}")
