"""The secret key of a witness: one Ed25519 seed in a folder that only the witness may enter.

Why it is as it is: a cosignature does not cover the witness's name, so a key must serve under one name alone. The name
therefore stands in the file with the seed.

Guaranteed: a key is never overwritten, and refused if others may read it. Not guaranteed: that root, or whoever runs as
the same user, cannot read it; give each witness a user of its own.
"""

from __future__ import annotations

import os
from typing import Final

from weftos.chain.signing.cosignature import CosignatureSigner
from weftos.chain.signing.note_keys import SEED_BYTES, is_name
from weftos.disk.secret_file import RealSecretFiles, SecretFiles, create_secret, finish_replacing, read_secret
from weftos.errors import ChainError, ConfigError
from weftos.witness.folder import check_private_folder

__all__ = ["KEY_NAME", "open_key"]

KEY_NAME: Final = "witness.key"
_MAGIC: Final = b"weftos/witness.key/v1\n"
_NAME_BYTES: Final = 256


def open_key(folder: str, name: str, *, fs: SecretFiles | None = None) -> CosignatureSigner:
    """Load the key of a witness; make it if there is none.

    Args:
        folder: of the key; made if it is missing.
        name: of the witness.
        fs: file calls.

    Raises:
        ConfigError: folder or file may be used by others, or the key is that of another name.
        ChainError: a file cannot be read or written.
    """
    if not is_name(name) or len(name.encode()) > _NAME_BYTES:
        raise ConfigError(f"{name[:80]!r} cannot name a witness: no spaces or plus signs, up to {_NAME_BYTES} bytes")
    files: SecretFiles = fs or RealSecretFiles()
    path = os.path.join(os.path.abspath(folder), KEY_NAME)
    try:
        if not os.path.lexists(os.path.dirname(path)):
            files.make_dir(os.path.dirname(path))
            files.sync_dir(os.path.dirname(os.path.dirname(path)))
        check_private_folder(os.path.dirname(path))
        if not os.path.lexists(path):
            create_secret(files, path, _MAGIC + os.urandom(SEED_BYTES) + name.encode())
        finish_replacing(files, path)
        data = read_secret(path, len(_MAGIC) + SEED_BYTES + _NAME_BYTES)
        # Whoever made it may have been killed before its name was on the disk, and cosignatures will depend on it.
        files.sync_dir(os.path.dirname(path))
    except OSError as error:
        raise ChainError(f"the key of the witness in {folder} cannot be used: {error}") from error
    seed = data[len(_MAGIC) : len(_MAGIC) + SEED_BYTES]
    if not data.startswith(_MAGIC) or len(seed) != SEED_BYTES:
        raise ConfigError(f"{path} is no key of a witness")
    if data[len(_MAGIC) + SEED_BYTES :] != name.encode():
        raise ConfigError(f"{path} is the key of another witness than {name!r}; a key serves under one name")
    return CosignatureSigner(name, seed)
