"""The secret keys of a log: pairs of Ed25519 and ML-DSA-65 in a folder that only their owner may enter.

Why it is as it is: both secrets of a pair are in one file, because a pair must be there whole or not at all. The file
is named after the public keys, so a replaced content does not pass. Which pair is in force is not written here: the
log's own records say that, and a second answer could contradict them after a crash.

Guaranteed: a key file is never overwritten by another key, and refused if others may read it or it belongs to another
user; the same holds for the folder. After a kill or a loss of power a pair is there or not, never half of it. Leftovers
with secret bytes are overwritten and removed by the next change of the ring.
Not guaranteed: that a retired secret is gone from the medium. It is overwritten in place and its name removed, but a
file system that copies on write, a journal, an SSD and every backup can keep older blocks. And the memory of a Python
program cannot be cleared; a secret is in it until its process ends.

A bare Ed25519 seed in ``chain.key`` becomes the first Ed25519 key of the ring. It stays where it is until the pair that
has it is retired, so that programs that know only that file can still be used until then.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from weftos import limits
from weftos.chain.signing.bare_key import KEY_NAME, PUBLIC_NAME, read_public_key
from weftos.chain.signing.note_keys import SEED_BYTES, Ed25519NoteSigner, MLDSA65NoteSigner, NoteSigner
from weftos.chain.signing.rotation import (
    ACCEPT_TAG,
    ENDORSE_TAG,
    ROTATION_CONTEXT,
    PublicKeys,
    Rotation,
    is_pair_id,
    rotation_message,
)
from weftos.disk.files import Files
from weftos.disk.secret_file import RealSecretFiles, SecretFiles, create_secret, finish_replacing, read_secret, wipe
from weftos.errors import ChainError, ConfigError

__all__ = ["KeyPair", "KeyRing", "hand_over", "locked_folder"]

_MAGIC: Final = b"weftos/pair/v1\n"
_PAIR_BYTES: Final = len(_MAGIC) + 2 * SEED_BYTES
#: ``pair-ID.key``, or what a change that was interrupted left of it.
_NAME: Final = re.compile(r"pair-([0-9a-f]{16})\.key(\..+)?")
_RETIRED: Final = ".retired"


class KeyPair:
    """The secrets of one pair. They are not shown when it is printed.

    Args:
        ed25519_seed: 32 secret bytes.
        ml_dsa_65_seed: 32 secret bytes.

    Attributes:
        public: the public halves.

    Raises:
        ConfigError: a seed has another length, or this build of ``cryptography`` has no ML-DSA.
    """

    def __init__(self, ed25519_seed: bytes, ml_dsa_65_seed: bytes) -> None:
        self._seeds = (ed25519_seed, ml_dsa_65_seed)
        classic, lattice = self.signers("x")
        self.public = PublicKeys(classic.verifier.public_key, lattice.verifier.public_key)

    def __repr__(self) -> str:
        return f"KeyPair({self.pair_id})"

    @property
    def pair_id(self) -> str:
        """Sixteen hex digits that name the pair."""
        return self.public.pair_id

    def signers(self, origin: str) -> tuple[NoteSigner, NoteSigner]:
        """Return signers of notes under the name of a log, Ed25519 first.

        Raises:
            ConfigError: the origin cannot name a key.
        """
        return Ed25519NoteSigner(origin, self._seeds[0]), MLDSA65NoteSigner(origin, self._seeds[1])

    def encode(self) -> bytes:
        """Return the content of the pair's file. It is secret."""
        return _MAGIC + b"".join(self._seeds)

    def sign_statement(self, message: bytes) -> bytes:
        """Sign a statement with Ed25519. Its tag must keep it apart from notes and from changes of keys."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._seeds[0]).sign(message)

    def prove(self, message: bytes) -> tuple[bytes, bytes]:
        """Sign a statement about a change of keys; the Ed25519 signature first."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

        classic = Ed25519PrivateKey.from_private_bytes(self._seeds[0]).sign(message)
        return classic, MLDSA65PrivateKey.from_seed_bytes(self._seeds[1]).sign(message, ROTATION_CONTEXT)


class KeyRing:
    """The pairs in one folder.

    Args:
        folder: where they are; made by ``create_genesis`` if it is missing.
        fs: file calls.
    """

    def __init__(self, folder: str, *, fs: SecretFiles | None = None) -> None:
        self.folder = os.path.abspath(folder)
        self._fs: SecretFiles = fs or RealSecretFiles()

    def ids(self) -> list[str]:
        """Return the ids of the pairs, sorted; none if there is no folder yet.

        Raises:
            ConfigError: the folder may be used by others or belongs to another user.
            ChainError: it cannot be read.
        """
        with self._translated():
            if not os.path.lexists(self.folder):
                return []
            self._check_folder()
            return self._ids()

    def load(self, pair_id: str) -> KeyPair:
        """Read a pair.

        Raises:
            ConfigError: there is no such pair, others may read it, or its content is not that pair.
            ChainError: it cannot be read.
        """
        with self._translated():
            self._check_folder()
            pair = self._read(pair_id)
            # Whoever made it may have been killed before its name was on the disk, and a log will depend on it now.
            self._fs.sync_dir(self.folder)
            return pair

    def create_genesis(self) -> KeyPair:
        """Make the first pair. If there is a ``chain.key``, its key becomes the Ed25519 key of the pair.

        Raises:
            ConfigError: there is a pair already, a file is refused, or only the public half of a key is there.
            ChainError: the pair cannot be written, or another process changes the ring.
        """
        with self._translated():
            if not os.path.lexists(self.folder):
                self._fs.make_dir(self.folder)
                self._fs.sync_dir(os.path.dirname(self.folder))
            with self._changing():
                if found := self._ids():
                    raise ConfigError(f"{self.folder} has keys already (pair {found[0]}); use these, or rotate them")
                return self._create(KeyPair(self._adopted_seed() or os.urandom(SEED_BYTES), os.urandom(SEED_BYTES)))

    def rotate(self, origin: str, old_id: str | None = None) -> tuple[KeyPair, Rotation]:
        """Make a new pair and the statement by which the old one hands over to it.

        The new pair is not in force before the statement is in the log; only then retire the old one.

        Args:
            origin: of the log.
            old_id: the pair in force; may be left out if there is only one.

        Raises:
            ConfigError: there is no such pair or more than one to choose from, or a file is refused.
            ChainError: the pair cannot be written, or another process changes the ring.
        """
        with self._translated(), self._changing():
            ids = self._ids()
            if old_id is None and len(ids) != 1:
                raise ConfigError(f"{self.folder} has the pairs {ids}: say which of them is in force in the log")
            old = self._read(old_id if old_id is not None else ids[0])
            new = KeyPair(os.urandom(SEED_BYTES), os.urandom(SEED_BYTES))
            rotation = hand_over(origin, old, old.public, new)
            return self._create(new), rotation

    def upgrade(self, origin: str, pair_id: str) -> Rotation:
        """Make the statement by which a log that began with Ed25519 alone gains the ML-DSA-65 key of a pair.

        Args:
            origin: of the log.
            pair_id: the pair that has the log's Ed25519 key; see ``create_genesis``.

        Raises:
            ConfigError: there is no such pair, or it is refused.
            ChainError: it cannot be read.
        """
        pair = self.load(pair_id)
        return hand_over(origin, pair, PublicKeys(pair.public.ed25519), pair)

    def retire(self, pair_id: str) -> None:
        """Erase the secrets of a pair, and ``chain.key`` if it holds one of them.

        Call it when the change to the next pair is in the log and on the disk. Once begun, it is finished by the next
        change of the ring at the latest. See the head of this module for what erasing cannot do.

        Raises:
            ConfigError: there is no such pair, or it is the last one.
            ChainError: it cannot be erased, or another process changes the ring.
        """
        with self._translated(), self._changing():
            ids = self._ids()
            if ids == [pair_id]:
                raise ConfigError(f"{pair_id} is the only pair in {self.folder}; rotate first, then retire it")
            pair, path = self._read(pair_id), self._path(pair_id)
            bare = os.path.join(self.folder, KEY_NAME)
            if os.path.lexists(bare) and read_secret(bare, SEED_BYTES) == pair.encode()[len(_MAGIC) : -SEED_BYTES]:
                # The bare seed first: if this is interrupted, the pair is still there, and retiring it again goes on.
                self._discard(bare, f"{path}.bare{_RETIRED}")
            self._discard(path, path + _RETIRED)

    def _create(self, pair: KeyPair) -> KeyPair:
        create_secret(self._fs, self._path(pair.pair_id), pair.encode())
        return pair

    def _adopted_seed(self) -> bytes | None:
        secret, public = os.path.join(self.folder, KEY_NAME), os.path.join(self.folder, PUBLIC_NAME)
        if not os.path.lexists(secret):
            if os.path.lexists(public):
                raise ConfigError(
                    f"{secret} is missing, but {public} is there: put the secret key back from its copy, or move the "
                    "public key away to begin with a new one"
                )
            return None
        seed = read_secret(secret, SEED_BYTES)
        if len(seed) != SEED_BYTES:
            raise ConfigError(f"{secret} does not hold a key of {SEED_BYTES} bytes; put it back from its copy")
        found = Ed25519NoteSigner("x", seed).verifier.public_key
        if os.path.lexists(public) and read_public_key(self.folder) != found:
            raise ConfigError(f"{public} does not belong to {secret}; one of them was replaced")
        return seed

    def _read(self, pair_id: str) -> KeyPair:
        path = self._path(pair_id)
        try:
            data = read_secret(path, _PAIR_BYTES)
        except FileNotFoundError:
            raise ConfigError(f"{path} is missing: put the pair of keys back from its copy") from None
        if len(data) != _PAIR_BYTES or not data.startswith(_MAGIC):
            raise ConfigError(f"{path} does not hold a pair of keys; put it back from its copy")
        pair = KeyPair(data[len(_MAGIC) : -SEED_BYTES], data[-SEED_BYTES:])
        if pair.pair_id != pair_id:
            raise ConfigError(f"{path} holds the pair {pair.pair_id}; it was replaced or damaged")
        return pair

    def _path(self, pair_id: str) -> str:
        if not is_pair_id(pair_id):
            raise ConfigError(f"{pair_id!r} is no id of a pair of keys, which has sixteen hex digits")
        return os.path.join(self.folder, f"pair-{pair_id}.key")

    def _ids(self) -> list[str]:
        found = (_NAME.fullmatch(name) for name in os.listdir(self.folder))
        return sorted(match.group(1) for match in found if match and not match.group(2))

    def _check_folder(self) -> None:
        state = os.lstat(self.folder)
        if not stat.S_ISDIR(state.st_mode):
            raise ConfigError(f"{self.folder} is no folder")
        if state.st_mode & 0o077:
            raise ConfigError(
                f"{self.folder} may be used by others (mode {stat.S_IMODE(state.st_mode):04o}); consider the keys in "
                "it known to them, and if they are not, run: chmod 700"
            )
        if state.st_uid != os.geteuid():
            raise ConfigError(f"{self.folder} belongs to user {state.st_uid}, not to {os.geteuid()}")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the folder's lock, and first finish what an interrupted change began."""
        self._check_folder()
        with locked_folder(self._fs, self.folder):
            for name in sorted(os.listdir(self.folder)):
                match = _NAME.fullmatch(name)
                if match and match.group(2) and match.group(2).endswith(_RETIRED):
                    self._erase(os.path.join(self.folder, name))
                elif match and match.group(2):
                    finish_replacing(self._fs, self._path(match.group(1)))
            yield

    def _discard(self, path: str, name: str) -> None:
        """Erase a file, under another name first, so that a half-erased file never looks like a key."""
        self._fs.rename(path, name)
        self._fs.sync_dir(self.folder)
        self._erase(name)

    def _erase(self, path: str) -> None:
        wipe(self._fs, path)
        self._fs.sync_dir(self.folder)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ChainError(f"the keys in {self.folder} cannot be used: {error}") from error


@contextmanager
def locked_folder(fs: Files, folder: str) -> Iterator[None]:
    """Hold a folder's lock while the body runs.

    Raises:
        ChainError: another process held it for ``limits.KEY_LOCK_WAIT_S`` seconds.
        OSError: the folder cannot be opened.
    """
    deadline = time.monotonic() + limits.KEY_LOCK_WAIT_S
    while True:
        try:
            fd = fs.lock_dir(folder)
            break
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            if time.monotonic() >= deadline:
                raise ChainError(
                    f"another process has held the lock on {folder} for {limits.KEY_LOCK_WAIT_S:g} s; try again later"
                ) from error
            time.sleep(limits.KEY_LOCK_POLL_S)
    try:
        yield
    finally:
        fs.close(fd)


def hand_over(origin: str, signer: KeyPair, old: PublicKeys, new: KeyPair) -> Rotation:
    """Make the statement by which one pair hands over to another, with the proofs of both.

    Args:
        origin: of the log.
        signer: the pair that hands over.
        old: its public halves as the log knows them.
        new: the pair that takes over.
    """
    endorse = signer.prove(rotation_message(ENDORSE_TAG, origin, old, new.public))
    accept = new.prove(rotation_message(ACCEPT_TAG, origin, old, new.public))
    return Rotation(
        origin=origin,
        old_ed25519=old.ed25519,
        old_ml_dsa_65=old.ml_dsa_65,
        new_ed25519=new.public.ed25519,
        new_ml_dsa_65=new.public.ml_dsa_65,
        endorse_ed25519=endorse[0],
        endorse_ml_dsa_65=endorse[1] if old.is_complete else b"",
        accept_ed25519=accept[0],
        accept_ml_dsa_65=accept[1],
    )
