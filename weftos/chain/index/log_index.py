"""An index beside the log, for questions that the log answers only when all of it is read.

    key ──▶ record          which record was appended under this key, and with what content
    child ─▶ record, hash   where something with a lineage was first recorded
    mark ──▶ record, value  the newest seal, the newest head of a foreign log, ...

Why it is as it is: an agent may repeat "append this under key order-17" after a week and a restart, so no window of
recent keys is enough, and a filter in memory would answer "perhaps". A file keeps every key there ever was; memory
stays small, and the disk that it takes is a fraction of the log's own. It is SQLite, because an index on disk that
survives a crash is a solved problem. It holds nothing that the log did not say: remove it, and it is made again, unless
the log's beginning was pruned.

The file may be behind the log, never ahead of it. It notes up to which record it is complete, by number and hash;
``open`` forgets what lies behind and reads the log from there. If the log does not have that record, the index is of
another log, or of an older copy, and is made anew.

A repeated key must come with the same content. What is compared is a BLAKE3 hash under a random salt of the index's
own. When a payload is taken away, its hash here goes with it; from then on whatever comes under the key counts as the
same.

Guaranteed: what ``take`` was told is answered at once, and after any crash if the log still has it. After a failure
every call fails: an index that may lack a key must not say that the key is new. Not guaranteed: anything against
whoever can write the file; it is trusted as far as its folder is closed.
Single-threaded; owned by the process that writes the log.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple, Self

import msgspec
from blake3 import blake3

from weftos.chain.folder.reader import read, tail
from weftos.chain.index.index_facts import APPROVAL_MARKS, FACTS, ChildFact, ErasureFact, MarkFact
from weftos.chain.index.index_origin import check_whole, knows
from weftos.chain.records.canonical import encode_payload
from weftos.chain.records.record import KEY_PREFIX, Head, NewEvent, Record
from weftos.errors import ChainCorrupted, StorageFailed

__all__ = ["Child", "Keyed", "LogIndex", "Mark"]

_NAME: Final = "log.db"
_VERSION: Final = 1
_SALT_BYTES: Final = 16
#: Up to so many records are read fastest from the end of the log.
_FEW: Final = 20_000
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS state (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER, log_id BLOB, size INTEGER,
    head BLOB);
CREATE TABLE IF NOT EXISTS keyed (key TEXT PRIMARY KEY, seq INTEGER, hash BLOB, salt BLOB, content BLOB) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keyed_seq ON keyed (seq);
CREATE TABLE IF NOT EXISTS children (child TEXT, parent TEXT, seq INTEGER, hash BLOB, type TEXT,
    PRIMARY KEY (child, parent)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS children_seq ON children (seq);
CREATE TABLE IF NOT EXISTS marks (kind TEXT, name TEXT, seq INTEGER, value BLOB, PRIMARY KEY (kind, name, seq))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS marks_seq ON marks (kind, seq);
"""
#: Survives the end of the process at once, the end of the machine up to a moment before, and is whole in both cases.
_SETTINGS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA secure_delete = ON",
    "PRAGMA cache_size = -4096",
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Keyed(NamedTuple):
    """What was appended under a key.

    Attributes:
        seq: number of the record.
        hash: of the record, 32 bytes.
        same: whether its content is that of the event which was asked about.
    """

    seq: int
    hash: bytes
    same: bool


class Child(NamedTuple):
    """A thing with a lineage, as it was first recorded.

    Attributes:
        seq: number of the record.
        hash: of the thing, 32 bytes.
        type: of the derivation.
    """

    seq: int
    hash: bytes
    type: str


class Mark(NamedTuple):
    """The newest record of a sort.

    Attributes:
        seq: number of the record.
        name: which of its sort.
        value: what was kept of it.
    """

    seq: int
    name: str
    value: dict[str, Any]


class LogIndex:
    """See the head of this file. Made by ``open``.

    Attributes:
        rebuilt: why the index was made anew when it was opened; empty if it was not.
        read_records: records of the log that were read when it was opened.
    """

    def __init__(self, base: sqlite3.Connection, path: str, log_id: bytes) -> None:
        self._base = base
        self._path = path
        self._log_id = log_id
        self._broken = ""
        self.rebuilt = ""
        self.read_records = 0

    @classmethod
    def open(cls, folder: str, directory: str, log_id: bytes, size: int) -> Self:
        """Open the index, or make it, and bring it up to the end of the log.

        Args:
            folder: for the index, for nothing else; made (mode 0700) if it is missing.
            directory: of the log. All of its records can be read from its files.
            log_id: of the log, 16 bytes.
            size: records in the log.

        Raises:
            StorageFailed: the index cannot be written.
            RecordPruned: it would have to be made from records that were pruned.
            ChainError: the log cannot be read.
        """
        path = os.path.join(folder, _NAME)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            index, problem = cls._usable(path, directory, log_id, size)
            if index is None:
                check_whole(path, directory, problem or "it is not there")
                for name in (path, f"{path}-wal", f"{path}-shm"):
                    with suppress(FileNotFoundError):
                        os.unlink(name)
                index = cls(_connect(path), path, log_id)
                index.rebuilt = problem
        except (OSError, sqlite3.Error) as error:
            raise StorageFailed(f"the index of the log, {path}, cannot be made: {error}") from error
        try:
            index._follow(directory, size)
        except BaseException:
            index.close()
            raise
        return index

    @classmethod
    def _usable(cls, path: str, directory: str, log_id: bytes, size: int) -> tuple[Self | None, str]:
        """Return the index that lies there if it is one of this log; else why it is none."""
        if not os.path.exists(path):
            return None, ""
        base = None
        try:
            base = _connect(path)
            row = base.execute("SELECT version, log_id, size, head FROM state").fetchone()
            if row is None or (row[0], row[1]) != (_VERSION, log_id):
                problem = "it is of another log or version"
            elif row[2] > size or (row[2] and not knows(directory, row[2] - 1, row[3])):
                problem = f"the log does not have the {row[2]} records that it was made from"
            else:
                return cls(base, path, log_id), ""
        except (sqlite3.Error, ChainCorrupted) as error:
            problem = str(error)
        if base is not None:
            base.close()
        return None, problem

    def _size(self) -> int:
        row = self._base.execute("SELECT size FROM state").fetchone()
        return int(row[0]) if row else 0

    def _follow(self, directory: str, size: int) -> None:
        with self._guarded():
            start = self._size()
            for table in ("keyed", "children", "marks"):
                self._base.execute(f"DELETE FROM {table} WHERE seq >= ?", (start,))  # noqa: S608 - one of three names
        self.read_records = max(size - start, 0)
        head = None
        for record in tail(directory, size - start) if size - start < _FEW else read(directory, start=start, stop=size):
            self._take_record(record)
            head = Head(record.seq, record.hash, record.t_ns)
        if head is not None:
            self.commit(head)

    # --- learning -----------------------------------------------------------------------------------------------------

    def take(self, event: NewEvent, seq: int, digest: bytes) -> None:
        """Learn of a record that was appended.

        Args:
            event: what it was made of.
            seq: its number.
            digest: its hash, 32 bytes.

        Raises:
            StorageFailed: the index cannot be written.
        """
        with self._guarded():
            if event.key is not None:
                self._add_key(event.key, seq, digest, _content(event, encode_payload(event.payload)))
            self._add_facts(event.kind, event.source, event.payload, seq)

    def _take_record(self, record: Record) -> None:
        header = record.header
        is_keyed = type(header.producer) is str and header.producer.startswith(KEY_PREFIX)
        if not is_keyed and header.kind not in FACTS:
            return
        with self._guarded():
            if is_keyed:
                key = str(header.producer)[len(KEY_PREFIX) :]
                event = NewEvent(header.source, header.kind, {}, header.subject, header.cause)
                content = None if record.withheld else _content(event, record.payload_bytes)
                self._add_key(key, record.seq, record.hash, content)
            if not record.withheld:
                try:
                    payload = record.payload
                except msgspec.DecodeError:
                    return
                self._add_facts(header.kind, header.source, payload, record.seq)

    def _add_key(self, key: str, seq: int, digest: bytes, content: bytes | None) -> None:
        salt = os.urandom(_SALT_BYTES)
        hashed = None if content is None else blake3(salt + content).digest()
        self._base.execute("INSERT OR IGNORE INTO keyed VALUES (?, ?, ?, ?, ?)", (key, seq, digest, salt, hashed))

    def _add_facts(self, kind: str, source: str, payload: dict[str, Any], seq: int) -> None:
        facts = FACTS.get(kind)
        for fact in facts(source, payload) if facts is not None else ():
            match fact:
                case ChildFact(child, parent, child_hash, how):
                    row = (child, parent or "", seq, child_hash, how)
                    self._base.execute("INSERT OR IGNORE INTO children VALUES (?, ?, ?, ?, ?)", row)
                case MarkFact(sort, name, value):
                    self._base.execute(
                        "INSERT OR IGNORE INTO marks VALUES (?, ?, ?, ?)", (sort, name, seq, _encode(value))
                    )
                case ErasureFact(erased):
                    self._base.execute("UPDATE keyed SET content = NULL WHERE seq = ?", (erased,))
                    self._base.execute("DELETE FROM marks WHERE kind = ? AND seq = ?", (APPROVAL_MARKS, erased))

    def commit(self, head: Head) -> None:
        """Note that the index is complete up to a record that is on the disk.

        Raises:
            StorageFailed: the index cannot be written.
        """
        with self._guarded():
            row = (_VERSION, self._log_id, head.seq + 1, head.hash)
            self._base.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?)", row)
            self._base.commit()

    def secure(self) -> int:
        """Bring onto the disk what was committed, and return the number of records that it is complete for.

        Raises:
            StorageFailed: the index cannot be written.
        """
        with self._guarded():
            self._base.commit()
            busy = self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            return 0 if busy else self._size()

    def forget_erased(self) -> None:
        """Bring what was taken away out of the index's files too.

        Raises:
            StorageFailed: the index cannot be written.
        """
        with self._guarded():
            self._base.commit()
            self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Give it up; what was not committed is read from the log the next time."""
        self._base.close()

    # --- asking -------------------------------------------------------------------------------------------------------

    def find_key(self, event: NewEvent) -> Keyed | None:
        """Return what was appended under an event's key; ``None`` if nothing was.

        Raises:
            AppendRefused: the payload is not acceptable.
            StorageFailed: the index cannot be read.
        """
        content = _content(event, encode_payload(event.payload))
        with self._guarded():
            row = self._base.execute(
                "SELECT seq, hash, salt, content FROM keyed WHERE key = ?", (event.key,)
            ).fetchone()
        if row is None:
            return None
        return Keyed(row[0], row[1], row[3] is None or blake3(row[2] + content).digest() == row[3])

    def child(self, name: str) -> Child | None:
        """Return how a thing was first recorded; ``None`` if it was not."""
        with self._guarded():
            row = self._base.execute(
                "SELECT seq, hash, type FROM children WHERE child = ? ORDER BY seq LIMIT 1", (name,)
            ).fetchone()
        return None if row is None else Child(*row)

    def has_edge(self, child: str, parent: str | None) -> bool:
        """Whether this very derivation is recorded."""
        with self._guarded():
            row = self._base.execute(
                "SELECT 1 FROM children WHERE child = ? AND parent = ?", (child, parent or "")
            ).fetchone()
        return row is not None

    def newest(self, kind: str, name: str | None = None) -> Mark | None:
        """Return the newest mark of a sort, of one name if it is given; ``None`` if there is none."""
        which = "" if name is None else "AND name = ? "
        values = (kind,) if name is None else (kind, name)
        with self._guarded():
            row = self._base.execute(
                f"SELECT seq, name, value FROM marks WHERE kind = ? {which}ORDER BY seq DESC LIMIT 1",  # noqa: S608 - fixed
                values,
            ).fetchone()
        return None if row is None else Mark(row[0], row[1], _decode(row[2]))

    def marks(self, kind: str) -> Iterator[Mark]:
        """Yield the marks of a sort, the newest first."""
        with self._guarded():
            rows = self._base.execute("SELECT seq, name, value FROM marks WHERE kind = ? ORDER BY seq DESC", (kind,))
            for row in rows:
                yield Mark(row[0], row[1], _decode(row[2]))

    def names(self, kind: str, limit: int) -> list[str]:
        """Return the names under which there are marks of a sort, in order."""
        with self._guarded():
            rows = self._base.execute(
                "SELECT DISTINCT name FROM marks WHERE kind = ? ORDER BY name LIMIT ?", (kind, limit)
            )
            return [row[0] for row in rows]

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._broken:
            raise StorageFailed(self._broken)
        try:
            yield
        except sqlite3.Error as error:
            self._broken = (
                f"the index of the log, {self._path}, cannot be used: {error}; restart the service, and if that does "
                "not help remove the index while no kernel runs: the log makes it again"
            )
            raise StorageFailed(self._broken) from error


def _connect(path: str) -> sqlite3.Connection:
    # SQLite takes the mode of the file that is there, for its own other files too.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    base = sqlite3.connect(path)
    try:
        for setting in _SETTINGS:
            base.execute(setting).fetchall()
        base.executescript(_TABLES)
    except BaseException:
        base.close()
        raise
    return base


def _content(event: NewEvent, data: bytes) -> bytes:
    """What must be equal when a key is used again, in one unmistakable form."""
    return _encode((event.kind, event.subject, event.cause, data))
