"""A box that only the holder of an X25519 key opens: how secrets travel between ``weaver``, the vault and an agent.

Why it is as it is: between the two ends lie the kernel, whose memory every agent inherits a copy of when it is forked,
and rings, which are shared memory. Neither may hold a secret in the clear, not even for a moment. The sender makes a
key for one box, agrees with the receiver's on a shared one and encrypts with ChaCha20-Poly1305; what the box is about
is bound to it, so that it cannot be passed off as another.

    box = sender's public key (32) | ciphertext and tag (length of the secret + 16)

Guaranteed: a box that was altered, or is opened for something else, does not open. Not guaranteed: who sent it.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from weftos.errors import CredentialRefused

__all__ = ["OVERHEAD", "open_box", "seal_box"]

_INFO: Final = b"weftos sealed box 1"
#: Each box has a key of its own, which encrypts once; so one nonce does for all.
_NONCE: Final = bytes(12)
_KEY_BYTES: Final = 32
#: Bytes of a box beyond the secret.
OVERHEAD: Final = _KEY_BYTES + 16


def seal_box(secret: bytes, public_key: bytes, about: bytes) -> bytes:
    """Put a secret into a box.

    Args:
        secret: any bytes.
        public_key: of the receiver, 32 bytes.
        about: what the box is for; must be given again to open it.

    Raises:
        CredentialRefused: the key is none.
    """
    own = X25519PrivateKey.generate()
    mine = own.public_key().public_bytes_raw()
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:
        raise CredentialRefused("the public key to seal a secret for is none: 32 bytes of X25519") from error
    return mine + ChaCha20Poly1305(_derive(shared, mine, public_key)).encrypt(_NONCE, secret, about)


def open_box(box: bytes, key: X25519PrivateKey, about: bytes) -> bytes:
    """Return the secret in a box.

    Raises:
        CredentialRefused: it was altered, is for somebody else or about something else.
    """
    public = key.public_key().public_bytes_raw()
    try:
        shared = key.exchange(X25519PublicKey.from_public_bytes(box[:_KEY_BYTES]))
        cipher = ChaCha20Poly1305(_derive(shared, box[:_KEY_BYTES], public))
        return cipher.decrypt(_NONCE, box[_KEY_BYTES:], about)
    except (InvalidTag, ValueError) as error:
        raise CredentialRefused("a sealed secret does not open: it was altered, or is for another purpose") from error


def _derive(shared: bytes, sender: bytes, receiver: bytes) -> bytes:
    return HKDF(SHA256(), _KEY_BYTES, salt=sender + receiver, info=_INFO).derive(shared)
