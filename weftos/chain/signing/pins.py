"""Pinned public keys: what somebody outside remembers of the logs he has trusted before.

Why it is as it is: a log that brings its own keys proves only that it agrees with itself. Whoever replaces log and keys
together is found out by somebody who remembers the keys. So they are written down, on first use, in a file that belongs
outside the log's folder, best on another machine. It is text, one verifier key a line with the log's origin as its
name: it can be read, compared and sent by hand. Empty lines and lines that begin with ``#`` are kept.

Guaranteed: a pin is never replaced by other keys, except by ``renew`` along changes of keys that hold from the pinned
ones on. The file is replaced whole or not at all, and of two programs that pin at once, one wins and the other is told.
Not guaranteed: that the keys were right the first time; compare them over another way. And whoever can write the file
can replace a pin; others than the owner are refused write permission on the file, while its folder is not looked at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from weftos import limits
from weftos.chain.signing.keyring import locked_folder
from weftos.chain.signing.note_keys import ED25519, ML_DSA_65, VerifierKey
from weftos.chain.signing.rotation import PublicKeys, Rotation, follow_rotations
from weftos.disk.files import Files, RealFiles, replace_file
from weftos.errors import ChainError, ConfigError, SignatureInvalid

__all__ = ["PINS_NAME", "Pins"]

PINS_NAME: Final = "known_logs"


class Pins:
    """A file of pinned keys.

    Args:
        path: of the file, outside the data folder; it need not exist yet.
        fs: file calls.
    """

    def __init__(self, path: str, *, fs: Files | None = None) -> None:
        self.path = os.path.abspath(path)
        self._fs: Files = fs or RealFiles()

    def get(self, origin: str) -> PublicKeys | None:
        """Return the keys that are pinned for a log; ``None`` if there are none.

        Raises:
            ConfigError: the file is malformed, others may write it, or it belongs to another user.
            ChainError: it cannot be read.
        """
        with self._translated():
            return _pinned(self._lines(), origin, self.path)

    def pin(self, origin: str, keys: PublicKeys) -> bool:
        """Remember the keys of a log that has no pins yet: trust on first use.

        Returns:
            Whether they were new; if not, they are pinned already.

        Raises:
            SignatureInvalid: other keys are pinned for this log.
            ConfigError: the file is refused, or the origin cannot name a key.
            ChainError: it cannot be written, or another process holds it.
        """
        new = _written(origin, keys)
        with self._translated(), self._changing():
            lines = self._lines()
            pinned = _pinned(lines, origin, self.path)
            if pinned is None:
                self._write([*lines, *new])
            elif pinned != keys:
                raise _differ(origin, pinned, keys, self.path)
            return pinned is None

    def check(self, origin: str, keys: PublicKeys, rotations: Sequence[Rotation] = ()) -> None:
        """Check that a log still has the keys that are pinned, or has come from them by changes that hold.

        Args:
            origin: of the log.
            keys: that the log has now.
            rotations: all changes of keys in the log, oldest first.

        Raises:
            SignatureInvalid: the keys are others, or a change of keys does not hold.
            ConfigError: nothing is pinned for this log, or the file is refused.
            ChainError: it cannot be read.
        """
        with self._translated():
            self._follow(self._lines(), origin, keys, rotations)

    def renew(self, origin: str, keys: PublicKeys, rotations: Sequence[Rotation]) -> None:
        """Check, and then pin the present keys in place of the older ones.

        Do this soon after a change of keys: as long as old keys are pinned, whoever stole their secrets can hand over
        to keys of his own.

        Raises:
            SignatureInvalid, ConfigError, ChainError: as for ``check`` and ``pin``; the pins stay as they are.
        """
        new = _written(origin, keys)
        with self._translated(), self._changing():
            lines = self._lines()
            if self._follow(lines, origin, keys, rotations) != keys:
                self._write([*(line for line in lines if not _is_about(line, origin)), *new])

    def _follow(self, lines: Iterable[str], origin: str, keys: PublicKeys, rotations: Sequence[Rotation]) -> PublicKeys:
        pinned = _pinned(lines, origin, self.path)
        if pinned is None:
            raise ConfigError(f"{self.path} has no keys of the log {origin!r}; compare its keys, then pin them")
        if follow_rotations(origin, pinned, rotations) != keys:
            raise _differ(origin, pinned, keys, self.path)
        return pinned

    def _lines(self) -> list[str]:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return []
        with open(fd, "rb") as file:
            state = os.fstat(fd)
            if not stat.S_ISREG(state.st_mode) or state.st_size > limits.KEY_PINS_BYTES:
                raise ConfigError(f"{self.path} is no regular file of up to {limits.KEY_PINS_BYTES} bytes")
            if state.st_mode & 0o022:
                raise ConfigError(
                    f"{self.path} may be written by others (mode {stat.S_IMODE(state.st_mode):04o}); compare the keys "
                    "in it over another way, then run: chmod 600"
                )
            if state.st_uid != os.geteuid():
                raise ConfigError(f"{self.path} belongs to user {state.st_uid}, not to {os.geteuid()}")
            data = file.read(limits.KEY_PINS_BYTES + 1)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.path} is not UTF-8: {error}") from error
        if text and not text.endswith("\n"):
            raise ConfigError(f"{self.path} ends in the middle of a line; it was cut off")
        return text.split("\n")[:-1]

    def _write(self, lines: Iterable[str]) -> None:
        data = "".join(f"{line}\n" for line in lines).encode()
        if len(data) > limits.KEY_PINS_BYTES:
            raise ConfigError(f"{self.path} would have {len(data)} bytes; the limit is {limits.KEY_PINS_BYTES}")
        replace_file(self._fs, self.path, data)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        folder = os.path.dirname(self.path)
        if not os.path.lexists(folder):
            with suppress(FileExistsError):  # another program was faster
                self._fs.make_dir(folder)
            self._fs.sync_dir(os.path.dirname(folder))
        with locked_folder(self._fs, folder):
            if os.path.lexists(f"{self.path}.tmp"):
                self._fs.unlink(f"{self.path}.tmp")  # left by a change that was interrupted
            yield

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ChainError(f"the pinned keys in {self.path} cannot be used: {error}") from error


def _written(origin: str, keys: PublicKeys) -> list[str]:
    if origin.startswith("#"):
        raise ConfigError(f"the log {origin!r} cannot be pinned: its lines would read as comments")
    return [key.format() for key in keys.verifier_keys(origin)]


def _is_about(line: str, origin: str) -> bool:
    return not line.startswith("#") and line.partition("+")[0] == origin


def _pinned(lines: Iterable[str], origin: str, path: str) -> PublicKeys | None:
    """Return one log's keys. Every line is read, so that a damaged one is noticed and never taken for an absent pin."""
    found: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        try:
            key = VerifierKey.parse(line)
        except ConfigError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from error
        if key.name != origin:
            continue
        if key.algorithm not in (ED25519, ML_DSA_65) or key.algorithm in found:
            raise ConfigError(f"{path}, line {number}: a second or foreign {key.algorithm} key of the log {origin!r}")
        found[key.algorithm] = key.public_key
    if not found:
        return None
    if ED25519 not in found:
        raise ConfigError(f"{path}: the Ed25519 key of the log {origin!r} is missing; one of its lines was removed")
    return PublicKeys(found[ED25519], found.get(ML_DSA_65, b""))


def _differ(origin: str, pinned: PublicKeys, keys: PublicKeys, path: str) -> SignatureInvalid:
    return SignatureInvalid(
        f"the log {origin!r} has the keys {keys.pair_id}, but {pinned.pair_id} are pinned in {path}, and no change of "
        "keys leads from these to those: the log was replaced, or its keys were"
    )
