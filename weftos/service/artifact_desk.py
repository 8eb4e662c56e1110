"""The service's end of the artifact store: puts, reads, references and collections, each with its record on the log.

    agent ─▶ kernel ══ frame and sealed memory ══▶ job ─▶ thread: hash, write, sync ─▶ artifact.put, sync ─▶ answer

Why it is as it is: the log must be able to say of every artifact who put it and who refers to it, so whoever writes the
log keeps the store. Content never passes a ring or the loop: it comes as a descriptor, and threads read it. The folder
says what is there, the log says what it is for, and a collection is where the two are compared.

Guaranteed: a reference is answered after its record is on the disk; a removal happens after its record is; damage is on
the log before the file is set aside. A record that names an artifact is taken only while that artifact is there, and it
stays from then on, for a collection that has begun before sees the new names too. Not guaranteed: that a file which was
stored just before a crash has a record; then nothing holds it, and a collection takes it.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, TypeAlias

from blake3 import blake3

from weftos import limits
from weftos.artifacts import ArtifactRef, ArtifactStore
from weftos.artifacts.collecting import Loose
from weftos.artifacts.form import ArtifactInfo, check_content_type, check_hash, ref_from
from weftos.artifacts.holding import DAMAGED, GC, PUT, REFERENCE, RELEASE
from weftos.artifacts.looking import list_artifacts
from weftos.artifacts.sealed import SealedSource, sealed_size
from weftos.artifacts.sources import grace_border_ns
from weftos.errors import (
    AppendRefused,
    ArtifactCorrupted,
    ArtifactNotFound,
    ArtifactStorageFailed,
    InvalidRequest,
    ServiceUnavailable,
    WeftError,
    WrongState,
)
from weftos.ipc.frames import close_all
from weftos.service import artifact_protocol as ap
from weftos.service import protocol as p
from weftos.service.artifact_removal import PendingRemoval, RemovalNote
from weftos.service.artifact_scan import held_hashes
from weftos.service.clients import Caller
from weftos.service.journal import Journal
from weftos.service.side_work import Job, SideWork

__all__ = ["ARTIFACT_SOURCE", "ArtifactDesk", "Reply"]

log = logging.getLogger(__name__)

#: Source of the records about artifacts.
ARTIFACT_SOURCE: Final = "artifacts"
#: A serial number, its answer, and the descriptors that go with it.
Reply: TypeAlias = tuple[int, p.Reply, list[int]]


class ArtifactDesk:
    """Serves requests about artifacts. The methods are the loop's.

    Args:
        directory: of the store; made if it is missing.
        journal: takes records.
        quota_bytes: size of the store; 0 is unlimited.
        wake: wakes the loop; called from threads.
        refusal: makes the answer that carries an error.

    Attributes:
        replies: answers that are ready; the loop takes them away.

    Raises:
        ArtifactStorageFailed: the folder cannot be made or used.
    """

    def __init__(
        self,
        directory: str,
        journal: Journal,
        quota_bytes: int,
        wake: Callable[[], object],
        refusal: Callable[[WeftError], p.Failed],
    ) -> None:
        self._journal = journal
        self._refusal = refusal
        self._work = SideWork(wake)
        self._store = ArtifactStore(directory, quota_bytes=quota_bytes, on_damage=self._found_damage)
        self._removal = PendingRemoval(self._store)
        self._removal.try_to_finish(journal.directory)
        # These requests are not repeated after a crash, so a producer that nobody had before is all that is needed.
        self._caller = Caller(
            "0", ARTIFACT_SOURCE, f"artifacts:{secrets.token_hex(8)}", kernel=True, reply_bytes=0, scope="artifacts:"
        )
        self._positions = itertools.count(1)
        #: When each put that is under way began, nanoseconds since 1970 UTC.
        self._putting: dict[int, int] = {}
        #: Hashes named by records since the present collection began; ``None`` while there is none.
        self._named: set[str] | None = None
        #: Hashes whose removal is on the log and not done yet.
        self._going: frozenset[str] = frozenset()
        self._jobs: dict[type, Callable[[str, Any, list[int]], Job]] = {
            ap.StoreArtifact: self._put,
            ap.OpenArtifact: self._open,
            ap.StatArtifact: self._stat,
            ap.ListArtifacts: self._list,
            ap.ReleaseArtifact: self._release,
            ap.CollectArtifacts: self._collect,
        }
        self.replies: list[Reply] = []

    # --- for the loop -------------------------------------------------------------------------------------------------

    def begin(self, frame: p.ArtifactFrame, fds: list[int]) -> None:
        """Begin with a request; its answer comes among ``replies``.

        Args:
            frame: the request.
            fds: what came with it; owned by the desk from here on.
        """

        def done(result: tuple[dict[str, Any], list[int]] | None, error: WeftError | None) -> None:
            close_all(fds)
            values, out = result or ({}, [])
            self.replies.append((frame.serial, p.Done(values) if error is None else self._refusal(error), out))

        self._work.begin(self._jobs[type(frame.request)](frame.by, frame.request, fds), done)

    def turn(self) -> None:
        """Go on with what threads have done."""
        self._work.turn()

    def take_replies(self) -> list[Reply]:
        """Return the answers that are ready; the caller sends them and closes their descriptors."""
        replies, self.replies = self.replies, []
        return replies

    def close(self) -> None:
        """End everything that is under way."""
        self._work.close()

    def check_payloads(self, payloads: Iterable[dict[str, Any]]) -> None:
        """Refuse references to what is not in the store; what is referred to stays from here on.

        Args:
            payloads: of records that are about to be taken.

        Raises:
            AppendRefused: what stands under ``artifact`` is no reference, or its size is not the artifact's.
            ArtifactNotFound: there is no such artifact.
        """
        for payload in payloads:
            if REFERENCE in payload:
                self._check_reference(payload[REFERENCE])

    def _check_reference(self, value: Any) -> None:
        try:
            ref = ref_from(value)
        except InvalidRequest as error:
            raise AppendRefused(f"`{REFERENCE}` in a payload names an artifact: {error}") from error
        size = None if ref.hash in self._going else self._store.size_of(ref.hash)
        if size is None:
            raise ArtifactNotFound(f"there is no artifact {ref.hash}; put it before a record names it")
        if size != ref.size:
            raise AppendRefused(f"the artifact {ref.hash} has {size} bytes, not {ref.size}")
        if self._named is not None:
            self._named.add(ref.hash)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def _put(self, by: str, request: ap.StoreArtifact, fds: list[int]) -> Job:
        check_content_type(request.content_type)
        number, started = next(self._positions), time.time_ns()
        if request.hash:
            digest = check_hash(request.hash)
        elif len(fds) != 1:
            raise InvalidRequest(f"an artifact comes with one descriptor, not {len(fds)}")
        self._putting[number] = started
        try:
            if request.hash:
                info: ArtifactInfo = yield lambda: self._store.renew(digest)
                ref = ArtifactRef(info.hash, info.size, request.content_type)
            else:
                ref = yield lambda: self._take_in(fds[0], request.content_type)
            values = {"hash": ref.hash, "size": ref.size, "content_type": ref.content_type}
            seq = self._record(PUT, values | {"by": by}, ref.hash)
        finally:
            del self._putting[number]
        return values | {"record": seq}, []

    def _open(self, _by: str, request: ap.OpenArtifact, _fds: list[int]) -> Job:
        check_hash(request.hash)
        found: tuple[ArtifactInfo, int] = yield lambda: self._open_checked(request.hash)
        info, fd = found
        return _facts(info), [fd]

    def _stat(self, _by: str, request: ap.StatArtifact, _fds: list[int]) -> Job:
        check_hash(request.hash)
        if request.check:
            found: tuple[ArtifactInfo, int] = yield lambda: self._open_checked(request.hash)
            info, fd = found
            os.close(fd)
        else:
            info = yield lambda: self._store.stat(request.hash)
        return _facts(info) | {"checked": request.check}, []

    def _list(self, _by: str, request: ap.ListArtifacts, _fds: list[int]) -> Job:
        if request.after:
            check_hash(request.after)
        most = min(max(request.limit, 1), limits.ARTIFACT_ROWS)
        rows: list[ArtifactInfo] = yield lambda: list(
            itertools.islice(list_artifacts(self._store.directory, request.after), most + 1)
        )
        return {"artifacts": [_facts(row) for row in rows[:most]], "complete": len(rows) <= most}, []

    def _release(self, by: str, request: ap.ReleaseArtifact, _fds: list[int]) -> Job:
        info: ArtifactInfo = yield lambda: self._store.stat(check_hash(request.hash))
        return _facts(info) | {"record": self._record(RELEASE, {"hash": info.hash, "by": by}, info.hash)}, []

    def _collect(self, by: str, request: ap.CollectArtifacts, _fds: list[int]) -> Job:
        if self._named is not None:
            raise WrongState("a collection of artifacts is under way; ask again when it is done")
        # A put that has its file and no record yet must not lose it, however short the grace period is.
        before_ns = grace_border_ns(time.time_ns() / 1e9, request.older_than_s)
        before_ns = min(before_ns, *(started - 1 for started in self._putting.values()), time.time_ns())
        self._journal.sync()
        size = self._journal.head_seq + 1
        named: set[str] = set()
        self._named = named
        try:
            loose: Loose = yield lambda: self._look(size, before_ns)
            found = [(digest, length) for digest, length in loose.found if digest not in named]
            hashes, freed = [digest for digest, _ in found], sum(length for _, length in found)
            if not request.dry_run:
                hashes, freed = [], 0
                for at in range(0, len(found), limits.ARTIFACT_GC_HASHES):
                    removed, bytes_freed = yield from self._remove(
                        by, found[at : at + limits.ARTIFACT_GC_HASHES], named, before_ns
                    )
                    hashes, freed = hashes + removed, freed + bytes_freed
        finally:
            self._named = None
        return {
            "removed": len(hashes),
            "freed_bytes": freed,
            "hashes": hashes[: limits.ARTIFACT_GC_HASHES],
            "young": loose.young,
            "held": loose.held,
            "dry_run": request.dry_run,
        }, []

    def _remove(self, by: str, batch: list[tuple[str, int]], named: set[str], before_ns: int) -> Job:
        note = RemovalNote(secrets.token_hex(16), self._journal.head_seq + 1, before_ns)
        yield lambda: self._removal.announce(note)
        # From here to the record nothing else happens, so what is named after this is refused.
        batch = [(digest, length) for digest, length in batch if digest not in named]
        hashes = [digest for digest, _ in batch]
        if hashes:
            payload = {"id": note.id, "hashes": hashes, "bytes": sum(length for _, length in batch), "by": by}
            self._record(GC, payload)
        self._going = frozenset(hashes)
        try:
            done = yield lambda: self._removal.carry_out(hashes, before_ns)
        finally:
            self._going = frozenset()
        return done.hashes, done.freed_bytes

    # --- in threads ---------------------------------------------------------------------------------------------------

    def _take_in(self, fd: int, content_type: str) -> ArtifactRef:
        """Store what was handed over. It is read twice, so that what is there already is not written again."""
        size = sealed_size(fd)
        hasher, source = blake3(), SealedSource(fd, size)
        while block := source.read(limits.ARTIFACT_CHUNK_BYTES):
            if self._work.closing:
                raise ServiceUnavailable("the service process is ending; ask again")
            hasher.update(block)
        with suppress(ArtifactNotFound):
            return ArtifactRef(self._store.renew(hasher.hexdigest()).hash, size, content_type)
        return self._store.put(SealedSource(fd, size), content_type)

    def _open_checked(self, digest: str) -> tuple[ArtifactInfo, int]:
        with self._store.open_checked(digest) as file:
            try:
                return ArtifactInfo(digest, file.size, *file.header()), os.dup(file.fileno())
            except OSError as error:
                raise ArtifactStorageFailed(f"the artifact {digest} cannot be handed out: {error}") from error

    def _look(self, size: int, before_ns: int) -> Loose:
        held = held_hashes(self._journal.directory, size, lambda: self._work.closing)
        return self._store.find_loose(held, before_ns)

    def _found_damage(self, damage: ArtifactCorrupted) -> None:
        """From a thread: put damage on the log, before the file is set aside."""
        digest = os.path.basename(damage.path)
        log.error("the artifact %s is damaged: %s", digest, damage)
        payload = {
            "hash": digest,
            "reason": str(damage)[:500],
            "file": os.path.relpath(damage.path, self._store.directory),
        }
        self._work.in_loop(lambda: self._record_damage(payload, digest))

    def _record_damage(self, payload: dict[str, Any], digest: str) -> None:
        self._record(DAMAGED, payload, digest)

    # --- the log ------------------------------------------------------------------------------------------------------

    def _record(self, kind: str, payload: dict[str, Any], subject: str | None = None) -> int:
        """Put a record on the disk; return its number."""
        ack = self._journal.append(self._caller, next(self._positions), kind, payload, subject)
        self._journal.sync()
        return ack.seq


def _facts(info: ArtifactInfo) -> dict[str, Any]:
    return {
        "hash": info.hash,
        "size": info.size,
        "content_type": info.content_type,
        "stored_at": info.stored_ns / 1e9,
    }
