"""The signing key, and the signed head: a note that says how long the log was and what it hashed to.

Why it is as it is: a chain of hashes alone can be cut off at the end, or rewritten from any record on, and still be a
chain. Whoever has the signed head can tell: the log must reach its size, and hash to the same value there. The secret
is in a file that only its owner may read, outside the log's directory; cryptography is imported only when a key is
used, because the import takes a tenth of a second that most programs never need.

Guaranteed: a key file is never overwritten, and refused if others may read it. A head is replaced whole or not at all.
Not guaranteed: anything against someone who has the secret, or who can put back old copies of head and log together;
that takes witnesses.

The signature is Ed25519 (RFC 8032) over ``exo/head/v1`` and the fields in fixed width; see docs/formats/chain.md.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import Any, Final, Self

import msgspec

from weftos.chain.files import Files, RealFiles, write_all
from weftos.errors import ChainError, ConfigError

__all__ = ["KEY_NAME", "PUBLIC_NAME", "Head", "SignedHead", "Signer", "read_head", "read_public_key"]

KEY_NAME: Final = "chain.key"
PUBLIC_NAME: Final = "chain.pub"
_KEY_BYTES: Final = 32
_HEAD_TAG: Final = b"exo/head/v1"
_HEAD_FIELDS: Final = struct.Struct("<16sQ32sQ")


class Head(msgspec.Struct, frozen=True):
    """The state of a log.

    Attributes:
        seq: number of the newest record.
        hash: its hash, 32 bytes.
        t_ns: its time, nanoseconds since 1970 UTC.
    """

    seq: int
    hash: bytes
    t_ns: int


class SignedHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of ``head.json``; bytes are hex digits.

    Attributes:
        version: of the note, 1.
        log_id: names the log, 16 bytes.
        size: records in the log.
        head_hash: hash of the last of them, 32 bytes.
        t_ns: when it was signed, nanoseconds since 1970 UTC.
        public_key: of the key that signed, 32 bytes.
        signature: Ed25519, 64 bytes.
    """

    version: int
    log_id: str
    size: int
    head_hash: str
    t_ns: int
    public_key: str
    signature: str

    def message(self) -> bytes:
        """Return the signed bytes.

        Raises:
            ValueError: a field does not have its form.
        """
        try:
            return head_message(bytes.fromhex(self.log_id), self.size, bytes.fromhex(self.head_hash), self.t_ns)
        except struct.error as error:
            raise ValueError(str(error)) from error

    def is_genuine(self, public_key: bytes) -> bool:
        """Tell whether the signature is that of the given key, 32 bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            signature, message = bytes.fromhex(self.signature), self.message()
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return self.version == 1 and self.public_key == public_key.hex()


def head_message(log_id: bytes, size: int, head_hash: bytes, t_ns: int) -> bytes:
    """Return the bytes that a head's signature covers."""
    if len(log_id) != 16 or len(head_hash) != 32:
        raise ValueError("a log id has 16 bytes, a hash 32")
    return _HEAD_TAG + _HEAD_FIELDS.pack(log_id, size, head_hash, t_ns)


class Signer:
    """An Ed25519 key that signs heads.

    Args:
        seed: the 32 secret bytes.

    Attributes:
        public_key: 32 bytes.
    """

    def __init__(self, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()

    @classmethod
    def open(cls, directory: str, *, fs: Files | None = None) -> Self:
        """Load the key from a directory; make directory and key if they are missing.

        Args:
            directory: holds ``chain.key`` (32 secret bytes, mode 0600) and ``chain.pub`` (hex digits, for others).
            fs: file calls.

        Raises:
            ConfigError: the key has a wrong length, may be read by others, belongs to another user, or does not fit
                to the public key beside it.
            ChainError: the key cannot be read or written.
        """
        fs = fs or RealFiles()
        secret, public = os.path.join(directory, KEY_NAME), os.path.join(directory, PUBLIC_NAME)
        try:
            if not os.path.isdir(directory):
                fs.make_dir(directory)
                fs.sync_dir(os.path.dirname(os.path.abspath(directory)))
            try:
                signer = cls(_load_secret(secret))
            except FileNotFoundError:
                if os.path.exists(public):
                    raise ConfigError(
                        f"{secret} is missing, but {public} is there: put the secret key back from its copy, or move "
                        "the public key away to begin with a new one"
                    ) from None
                signer = cls(_make_secret(secret, fs))
            text = signer.public_key.hex() + "\n"
            if not os.path.exists(public):
                _create(public, text.encode(), fs)
            elif read_public_key(directory) != signer.public_key:
                raise ConfigError(f"{public} does not belong to {secret}; one of them was replaced")
            # Whoever made the key may have been killed before its name was on the disk, and logs will depend on it.
            fs.sync_dir(directory)
        except OSError as error:
            raise ChainError(f"the signing key in {directory} cannot be used: {error}") from error
        return signer

    def sign(self, log_id: bytes, size: int, head_hash: bytes, t_ns: int) -> SignedHead:
        """Return the signed head of a log of ``size`` records."""
        signature = self._key.sign(head_message(log_id, size, head_hash, t_ns))
        return SignedHead(1, log_id.hex(), size, head_hash.hex(), t_ns, self.public_key.hex(), signature.hex())


def read_public_key(directory: str) -> bytes:
    """Return the public key beside a secret one, 32 bytes.

    Raises:
        ConfigError: the file does not hold 64 hex digits.
        OSError: it cannot be read.
    """
    path = os.path.join(directory, PUBLIC_NAME)
    with open(path, "rb") as file:
        data = file.read(1024)
    try:
        key = bytes.fromhex(data.decode("ascii"))
    except ValueError as error:
        raise ConfigError(f"{path} does not hold a public key of 64 hex digits: {error}") from error
    if len(key) != _KEY_BYTES:
        raise ConfigError(f"{path} holds {len(key)} bytes, a public key has {_KEY_BYTES}")
    return key


def read_head(path: str) -> SignedHead:
    """Read a signed head. Its signature is not checked here.

    Raises:
        msgspec.DecodeError: it does not have the form.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return msgspec.json.decode(file.read(64 * 1024), type=SignedHead)


def encode_head(head: SignedHead) -> bytes:
    """Return the content of ``head.json``."""
    data: Any = msgspec.json.format(msgspec.json.encode(head), indent=2)
    return bytes(data) + b"\n"


def _load_secret(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise ConfigError(f"{path} is no regular file")
        if state.st_mode & 0o077:
            raise ConfigError(
                f"{path} may be read by others (mode {stat.S_IMODE(state.st_mode):04o}); consider the key "
                "known to them, and if it is not, run: chmod 600"
            )
        if state.st_uid != os.geteuid():
            raise ConfigError(f"{path} belongs to user {state.st_uid}, not to {os.geteuid()}")
        seed = os.read(fd, _KEY_BYTES + 1)
    finally:
        os.close(fd)
    if len(seed) != _KEY_BYTES:
        raise ConfigError(f"{path} does not hold a key of {_KEY_BYTES} bytes; put it back from its copy")
    return seed


def _make_secret(path: str, fs: Files) -> bytes:
    seed = os.urandom(_KEY_BYTES)
    _create(path, seed, fs)
    return seed


def _create(path: str, data: bytes, fs: Files) -> None:
    """Make a file that must not exist yet, whole or not at all.

    The content is complete under another name before it gets its own, so a crash leaves no half a key behind.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = fs.create(temporary)
    try:
        try:
            write_all(fs, fd, data)
            fs.sync_file(fd)
        finally:
            fs.close(fd)
        os.link(temporary, path)  # unlike a rename, it fails if the name is taken
    finally:
        fs.unlink(temporary)
    fs.sync_dir(os.path.dirname(os.path.abspath(path)))
