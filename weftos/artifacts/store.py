"""The artifact store: a folder of immutable files, each named by the hash of its content.

Why it is as it is: what is too large for a message or a record travels as a reference, and a reference that is a hash
can be checked by whoever holds it. The folder is the index, so there is none that a crash could leave behind the files.
A file gets its name when all of it is on the disk, and one lock makes naming, removing and setting aside happen one
after the other; see ``folder``.

Guaranteed: after ``put`` the content is on the disk under its hash, whole, and stays while it is referenced or young;
after a failure or a crash nothing half is under a hash. What is read was hashed. Any number of processes may use one
folder. Memory: one block. Not guaranteed: exact quotas, since processes count each other's puts only now and then; any
protection against the folder's owner.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress

import msgspec
from blake3 import blake3

from weftos import limits
from weftos.artifacts.collecting import Loose, Removed, find_loose, remove
from weftos.artifacts.files import ArtifactFiles, RealArtifactFiles
from weftos.artifacts.folder import Folder, identity_of
from weftos.artifacts.form import (
    HEADER_BYTES,
    ArtifactInfo,
    ArtifactRef,
    check_content_type,
    check_hash,
    encode_header,
)
from weftos.artifacts.reading import ArtifactFile, ArtifactStream
from weftos.artifacts.sources import Source, blocks_of, bytes_of, grace_border_ns, storage
from weftos.disk.files import write_all
from weftos.errors import (
    ArtifactCorrupted,
    ArtifactNotFound,
    ArtifactQuotaReached,
    ArtifactStorageFailed,
)

__all__ = ["ArtifactStore", "Collected"]


class Collected(msgspec.Struct, frozen=True):
    """What a collection did.

    Attributes:
        removed: hashes of the artifacts that were removed.
        freed_bytes: size of their files.
        young: artifacts without a reference that are too young to be removed.
        swept: leftovers of crashed processes that were removed.
    """

    removed: list[str]
    freed_bytes: int
    young: int
    swept: int


class ArtifactStore:
    """A folder of artifacts. Needs no closing; a forked child may go on using it.

    Args:
        directory: the folder; it is made if it is missing, its parent is not.
        fs: file calls.
        quota_bytes: size of all files together; 0 is unlimited.
        clock_ns: wall clock, nanoseconds since 1970 UTC.
        on_damage: called with each damage found, before the file is set aside; what it raises keeps the file where it
            is and comes out of the call that found it.

    Raises:
        ArtifactStorageFailed: the folder cannot be made or used.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        fs: ArtifactFiles | None = None,
        *,
        quota_bytes: int = limits.ARTIFACT_STORE_BYTES,
        clock_ns: Callable[[], int] = time.time_ns,
        on_damage: Callable[[ArtifactCorrupted], object] = lambda _damage: None,
    ) -> None:
        self.directory = os.path.abspath(directory)
        self._fs = fs or RealArtifactFiles()
        self._quota, self._clock_ns, self._on_damage = quota_bytes, clock_ns, on_damage
        self._used, self._counted_at = 0, -math.inf
        with storage(f"the artifact store {self.directory} cannot be opened"):
            self._folder = Folder(self.directory, self._fs)
            self._folder.sweep()

    # --- putting ------------------------------------------------------------------------------------------------------

    def put(self, source: bytes | bytearray | memoryview | Source, content_type: str) -> ArtifactRef:
        """Store content. Content that is there already is kept with its first type and time, and counts as young again.

        Args:
            source: the content, or a file to read it from, from where it stands to its end.
            content_type: see ``form.check_content_type``.

        Returns:
            The reference. When this returns, the content is on the disk.

        Raises:
            InvalidRequest: the content type is malformed, or the source gives something else than bytes.
            ArtifactStorageFailed: the disk is full or failed, or the source did; ``ArtifactQuotaReached``: there is no
                room under the quota. Nothing half is there.
            Exception: whatever else the source raises; nothing was stored.
        """
        check_content_type(content_type)
        with storage("the artifact cannot be stored"):
            if not isinstance(source, bytes | bytearray | memoryview):
                digest, size = self._put_blocks(blocks_of(source), content_type)
                return ArtifactRef(digest, size, content_type)
            with memoryview(source) as given, bytes_of(given) as view:
                digest, size = blake3(view).hexdigest(), len(view)
                if not self._renew(digest):
                    step = limits.ARTIFACT_CHUNK_BYTES
                    self._put_blocks((view[at : at + step] for at in range(0, size, step)), content_type)
            return ArtifactRef(digest, size, content_type)

    def renew(self, digest: str) -> ArtifactInfo:
        """Read and check an artifact that is there, and count it as put now.

        Args:
            digest: its hash, 64 lower-case hex digits.

        Raises:
            InvalidRequest: this is no hash.
            ArtifactNotFound: there is no such artifact, or it is damaged and was set aside.
            ArtifactStorageFailed: it cannot be read.
        """
        with storage(f"the artifact {digest!r:.80} cannot be read"):
            if not self._renew(digest):
                raise ArtifactNotFound(f"there is no artifact {digest}")
        return self.stat(digest)

    def _put_blocks(self, blocks: Iterable[bytes | memoryview], content_type: str) -> tuple[str, int]:
        temporary, fd = self._folder.begin()
        try:
            hasher, size = blake3(), 0
            self._reserve(0, HEADER_BYTES)
            write_all(self._fs, fd, encode_header(content_type, self._clock_ns()))
            for block in blocks:
                self._reserve(HEADER_BYTES + size, len(block))
                hasher.update(block)
                write_all(self._fs, fd, block)
                size += len(block)
            self._fs.sync_file(fd)
            digest = hasher.hexdigest()
            if self._publish(temporary, digest):
                self._used += HEADER_BYTES + size
            return digest, size
        except BaseException:
            # On a disk that has just failed this may fail as well; the file is unlocked then, and swept by the next.
            with suppress(OSError):
                self._fs.unlink(temporary)
            raise
        finally:
            self._fs.close(fd)

    def _publish(self, temporary: str, digest: str) -> bool:
        """Give a complete file its name; tell whether it was needed."""
        path = self._folder.path_of(digest)
        self._folder.make_shard(path)
        if self._renew(digest):
            self._fs.unlink(temporary)
            return False
        with self._folder.locked():
            # If another process put the same in the meantime, this replaces it: both are whole.
            now = self._clock_ns()
            self._fs.touch(temporary, now)
            self._fs.rename(temporary, path)
        self._fs.sync_dir(os.path.dirname(path))
        return True

    def _renew(self, digest: str) -> bool:
        """Make an artifact that is there young again; set it aside if it is damaged. Tell whether it is there."""
        path = self._folder.path_of(digest)
        try:
            with ArtifactFile(path, digest) as file:
                file.check()
                identity = file.identity
        except FileNotFoundError:
            return False
        except ArtifactCorrupted as damage:
            self._set_aside(damage)
            return False
        with self._folder.locked():
            if identity_of(path) != identity:
                return False  # removed, or replaced by another put, since it was examined
            self._fs.touch(path, self._clock_ns())
        # Whoever gave the file its name may have been killed before the name was on the disk.
        self._folder.make_shard(path)
        self._fs.sync_dir(os.path.dirname(path))
        return True

    def _reserve(self, written: int, more: int) -> None:
        """Refuse to write more of a file if there is no room for it under the quota; sizes in bytes."""
        if not self._quota:
            return
        now = time.monotonic()
        if now - self._counted_at > limits.ARTIFACT_RECOUNT_S or self._used + written + more > self._quota:
            self._used, self._counted_at = self._folder.size() - written, now
        if self._used + written + more > self._quota:
            raise ArtifactQuotaReached(
                f"the artifact store holds {self._used + written} of {self._quota} bytes, there is no room for another "
                f"{more}; collect garbage or raise the quota"
            )

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, digest: str) -> bytes:
        """Return an artifact's content, all of it in memory.

        Args:
            digest: its hash, 64 lower-case hex digits.

        Raises:
            InvalidRequest: this is no hash.
            ArtifactNotFound: there is no such artifact.
            ArtifactCorrupted: the file has other content; it was set aside.
            ArtifactStorageFailed: it cannot be read.
        """
        with self._reading(digest) as path, ArtifactFile(path, digest) as file:
            return file.read_content()

    def open_stream(self, digest: str) -> ArtifactStream:
        """Open an artifact to read it bit by bit; the whole file is hashed before this returns.

        Args:
            digest: its hash, 64 lower-case hex digits.

        Raises:
            InvalidRequest: this is no hash.
            ArtifactNotFound: there is no such artifact.
            ArtifactCorrupted: the file has other content; it was set aside.
            ArtifactStorageFailed: it cannot be read.
        """
        with self._reading(digest) as path:
            file = ArtifactFile(path, digest)
            try:
                file.check()
                return ArtifactStream(file, file.header()[0], self._corrupted)
            except BaseException:
                file.close()
                raise

    def open_checked(self, digest: str) -> ArtifactFile:
        """Open an artifact whose content was just read and checked; the caller closes it.

        Args:
            digest: its hash, 64 lower-case hex digits.

        Raises:
            InvalidRequest, ArtifactNotFound, ArtifactCorrupted, ArtifactStorageFailed: as for ``open_stream``.
        """
        with self._reading(digest) as path:
            file = ArtifactFile(path, digest)
            try:
                file.check()
            except BaseException:
                file.close()
                raise
            return file

    def size_of(self, digest: str) -> int | None:
        """Return the size of an artifact's content in bytes, ``None`` if there is none; one call, nothing is read.

        Raises:
            InvalidRequest: this is no hash.
            ArtifactStorageFailed: the folder cannot be asked.
        """
        with storage("an artifact cannot be looked for"):
            try:
                state = os.lstat(self._folder.path_of(digest))
            except FileNotFoundError:
                return None
        return state.st_size - HEADER_BYTES

    def stat(self, digest: str) -> ArtifactInfo:
        """Return size, type and time of an artifact. Its content is not read.

        Args:
            digest: its hash, 64 lower-case hex digits.

        Raises:
            InvalidRequest: this is no hash.
            ArtifactNotFound: there is no such artifact.
            ArtifactCorrupted: the file's header is damaged; it was set aside.
            ArtifactStorageFailed: it cannot be read.
        """
        with self._reading(digest) as path, ArtifactFile(path, digest) as file:
            return ArtifactInfo(digest, file.size, *file.header())

    def list(self) -> list[ArtifactInfo]:
        """Return all artifacts, ordered by hash. Contents are not read; a damaged header shows as a missing type.

        Raises:
            ArtifactStorageFailed: the folder cannot be read.
        """
        found = []
        with storage("the artifacts cannot be listed"):
            for digest, path in self._folder.names():
                size = 0
                try:
                    with ArtifactFile(path, digest) as file:
                        size = max(file.size, 0)
                        found.append(ArtifactInfo(digest, size, *file.header()))
                except FileNotFoundError:
                    continue  # collected since its name was read
                except ArtifactCorrupted:
                    found.append(ArtifactInfo(digest, size, None, 0))
        return found

    # --- removing -----------------------------------------------------------------------------------------------------

    def collect_garbage(
        self, referenced: AbstractSet[str], older_than_s: float = limits.ARTIFACT_GRACE_S, now: float | None = None
    ) -> Collected:
        """Remove artifacts that nothing refers to and that were last put some time ago, and leftovers of crashes.

        Args:
            referenced: hashes of all artifacts that must stay, as they were at some time after ``now - older_than_s``.
            older_than_s: the grace period, in seconds: longer than it takes from a put to its reference.
            now: seconds since 1970 UTC; the clock's time if ``None``.

        Raises:
            InvalidRequest: something in ``referenced`` is no hash, so it may be a mistake; or the period is negative.
            ArtifactStorageFailed: a file call failed; some artifacts may have been removed.
        """
        for digest in referenced:
            check_hash(digest)
        before_ns = grace_border_ns(self._clock_ns() / 1e9 if now is None else now, older_than_s)
        with storage("garbage cannot be collected"):
            swept = self._folder.sweep()
            loose = find_loose(self._folder, referenced, before_ns)
        done = self.remove([digest for digest, _ in loose.found], before_ns)
        return Collected(done.hashes, done.freed_bytes, loose.young + done.young, swept)

    def find_loose(self, referenced: AbstractSet[str], before_ns: int) -> Loose:
        """Return what a collection would take; see ``collecting.find_loose``. Leftovers of crashes are removed.

        Raises:
            ArtifactStorageFailed: the folder cannot be read.
        """
        with storage("garbage cannot be looked for"):
            self._folder.sweep()
            return find_loose(self._folder, referenced, before_ns)

    def remove(self, digests: Iterable[str], before_ns: int) -> Removed:
        """Remove artifacts that were not put later than a time; see ``collecting.remove``.

        Raises:
            InvalidRequest: one of them is no hash.
            ArtifactStorageFailed: a file call failed; some may have been removed.
        """
        try:
            with storage("artifacts cannot be removed"):
                return remove(self._folder, self._fs, digests, before_ns)
        finally:
            self._counted_at = -math.inf

    # --- inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self, digest: str) -> Iterator[str]:
        path = self._folder.path_of(digest)
        try:
            yield path
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"there is no artifact {digest}") from error
        except ArtifactCorrupted as damage:
            raise self._corrupted(damage) from damage
        except OSError as error:
            raise ArtifactStorageFailed(f"the artifact {digest} cannot be read: {error}") from error

    def _set_aside(self, damage: ArtifactCorrupted) -> str:
        self._on_damage(damage)
        return self._folder.set_aside(damage)

    def _corrupted(self, damage: ArtifactCorrupted) -> ArtifactCorrupted:
        """Set a damaged file aside and return the error that says so."""
        name = os.path.basename(damage.path)
        try:
            aside = self._set_aside(damage)
        except OSError as error:
            text = f"the artifact {name} is damaged: {damage}; it cannot be set aside: {error}"
            return ArtifactCorrupted(text, path=damage.path, identity=damage.identity)
        text = f"the artifact {name} is damaged: {damage}; what is left of it is {aside or 'gone'}"
        return ArtifactCorrupted(text, path=aside, identity=damage.identity)
