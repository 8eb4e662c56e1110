"""What a witness remembers, on disk: per log one file with its keys and newest checkpoint, and the evidence against it.

Why it is as it is: a witness that forgets can be made to sign two histories, so its memory is written and synced whole
before anything is promised on it. A file is replaced by renaming; a checksum over it tells a damaged one from a true
one, because a witness that guesses is worse than one that is not there.

Guaranteed: after a crash each file is the old or the new one. A damaged file is an error, never an absent log. Only one
process holds a folder. Not guaranteed: that the folder was not put back to an older state as a whole; no file in it can
tell that. This is why there are several witnesses.

The form is in docs/formats/witness.md.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from typing import Final, TypeVar

import msgspec

from weftos import limits
from weftos.chain.signing.checkpoint import log_id_of, log_origin
from weftos.disk.files import Files, ReadFile, RealFiles, replace_file
from weftos.errors import ChainCorrupted, ChainError, ConfigError
from weftos.witness.outcomes import SplitView

__all__ = ["StoredLog", "WitnessFolder", "check_private_folder"]

_STATE: Final = b"weftos/witness.log/v1"
_SPLIT: Final = b"weftos/witness.split/v1"
_LOG_NAME: Final = re.compile(r"([0-9a-f]{32})\.log")
_SPLIT_NAME: Final = re.compile(r"([0-9a-f]{32})\.split-([0-9a-f]{16})")
#: A file is a checkpoint or two in base64, and a pair of keys.
_FILE_BYTES: Final = 3 * limits.WITNESS_NOTE_BYTES

_T = TypeVar("_T", bound=msgspec.Struct)


class StoredLog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a witness remembers of one log.

    Attributes:
        origin: of the log.
        ed25519: the log's public key, 32 bytes.
        ml_dsa_65: the log's public key, 1952 bytes.
        head: the newest cosigned checkpoint, with the signatures of the log and of the witness; empty before the first.
    """

    origin: str
    ed25519: bytes
    ml_dsa_65: bytes
    head: bytes = b""


class WitnessFolder:
    """The memory of one witness. Holds the folder's lock until closed.

    Args:
        path: of the folder; made if it is missing.
        fs: file calls.
        owner: user to whom the folder must belong, if this process is going to be that user; else its own.

    Raises:
        ConfigError: the folder may be used by others, belongs to another user, or another process holds it.
        ChainError: it cannot be read or made.
    """

    def __init__(self, path: str, *, fs: Files | None = None, owner: int | None = None) -> None:
        self.path = os.path.abspath(path)
        self._fs: Files = fs or RealFiles()
        try:
            if not os.path.lexists(self.path):
                self._fs.make_dir(self.path)
                self._fs.sync_dir(os.path.dirname(self.path))
            check_private_folder(self.path, owner)
            self._lock = self._fs.lock_dir(self.path)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                raise ConfigError(f"another witness runs in {self.path}; each needs a folder of its own") from error
            raise ChainError(f"the folder {self.path} of the witness cannot be used: {error}") from error

    def load(self) -> list[StoredLog]:
        """Return what is remembered of each log, and make sure that it is on the disk.

        Raises:
            ChainCorrupted: a file is damaged. Nobody can say then what this witness has cosigned.
            ChainError: a file cannot be read.
        """
        try:
            # Whoever wrote last may have been killed before the names were on the disk; answers depend on them now.
            self._fs.sync_dir(self.path)
            names = sorted(os.listdir(self.path))
        except OSError as error:
            raise ChainError(f"the folder {self.path} of the witness cannot be read: {error}") from error
        return [self._load_log(name, match.group(1)) for name in names if (match := _LOG_NAME.fullmatch(name))]

    def store(self, log: StoredLog) -> None:
        """Write what is remembered of a log; it is on the disk when this returns.

        Raises:
            OSError: a call failed; after a restart the old or the new state is found.
        """
        self._replace(f"{log_id_of(log.origin).hex()}.log", _STATE, log)

    def keep(self, origin: str, name: bytes, split: SplitView) -> None:
        """Keep the evidence of a split view, unless it or enough of the log's is kept already.

        Args:
            origin: of the log.
            name: 8 bytes that tell it from others.
            split: to be kept.

        Raises:
            OSError: a call failed.
        """
        file = f"{log_id_of(origin).hex()}.split-{name.hex()}"
        names = self._splits(origin)
        if file not in names and len(names) < limits.WITNESS_EVIDENCE:
            self._replace(file, _SPLIT, split)

    def evidence(self, origin: str) -> list[SplitView]:
        """Return the split views of a log, oldest first.

        Raises:
            ChainError: the folder or a file cannot be read.
        """
        try:
            paths = [os.path.join(self.path, name) for name in self._splits(origin)]
            paths.sort(key=lambda path: os.stat(path).st_mtime_ns)
        except OSError as error:
            raise ChainError(f"the folder {self.path} of the witness cannot be read: {error}") from error
        return [_read(path, _SPLIT, SplitView) for path in paths]

    def close(self) -> None:
        """Give up the lock."""
        self._fs.close(self._lock)

    def _load_log(self, name: str, log_id: str) -> StoredLog:
        path = os.path.join(self.path, name)
        log = _read(path, _STATE, StoredLog)
        if log.origin != log_origin(bytes.fromhex(log_id)):
            raise ChainCorrupted(f"{path} is about another log, {log.origin!r}", path=path)
        return log

    def _splits(self, origin: str) -> list[str]:
        wanted = log_id_of(origin).hex()
        matches = (_SPLIT_NAME.fullmatch(name) for name in sorted(os.listdir(self.path)))
        return [match.group() for match in matches if match and match.group(1) == wanted]

    def _replace(self, name: str, kind: bytes, content: msgspec.Struct) -> None:
        body = msgspec.json.encode(content) + b"\n"
        head = b"%s %s\n" % (kind, hashlib.sha256(kind + b"\n" + body).hexdigest().encode())
        replace_file(self._fs, os.path.join(self.path, name), head + body)


def check_private_folder(path: str, owner: int | None = None) -> None:
    """Check that a folder is one that only its owner may enter.

    Args:
        path: of the folder.
        owner: user to whom it must belong; this process's user if ``None``.

    Raises:
        ConfigError: it is not.
        OSError: it cannot be looked at.
    """
    state = os.lstat(path)
    if not stat.S_ISDIR(state.st_mode):
        raise ConfigError(f"{path} is no folder")
    wanted = os.geteuid() if owner is None else owner
    if state.st_uid != wanted:
        raise ConfigError(f"{path} belongs to user {state.st_uid}, not to {wanted}")
    if state.st_mode & 0o077:
        raise ConfigError(f"{path} may be used by others (mode {stat.S_IMODE(state.st_mode):04o}); run: chmod 700")


def _read(path: str, kind: bytes, form: type[_T]) -> _T:
    try:
        with ReadFile(path) as file:
            data = file.read(0, _FILE_BYTES + 1)
    except OSError as error:
        raise ChainError(f"{path} cannot be read: {error}") from error
    head, _, body = data.partition(b"\n")
    if head != b"%s %s" % (kind, hashlib.sha256(kind + b"\n" + body).hexdigest().encode()):
        raise ChainCorrupted(
            f"{path} is damaged: its checksum does not fit. What this witness has cosigned is not known any more; give "
            "it a new key and folder",
            path=path,
        )
    try:
        return msgspec.json.decode(body, type=form)
    except msgspec.DecodeError as error:
        raise ChainCorrupted(f"{path} is damaged: {error}", path=path) from error
