"""The public keys of the witnesses of an instance: one line each, believed when they are first met.

A key that changes is not replaced: whoever restores a witness from nothing has to remove its line, and by that says
that its memory is lost.
"""

from __future__ import annotations

import os

from weftos.chain.signing.note_keys import COSIGNATURE, VerifierKey
from weftos.disk.files import RealFiles, replace_file
from weftos.errors import ChainError, ConfigError, SignatureInvalid

__all__ = ["known_witnesses", "meet_witness"]


def known_witnesses(path: str) -> tuple[VerifierKey, ...]:
    """Return the keys in a file; none if there is no file.

    Raises:
        ConfigError: a line is no key of a witness, or a name is there twice.
        ChainError: the file cannot be read.
    """
    try:
        with open(path, encoding="ascii") as file:
            lines = [line.strip() for line in file]
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise ChainError(f"{path} cannot be read: {error}") from error
    keys: dict[str, VerifierKey] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        key = VerifierKey.parse(line)
        if key.algorithm != COSIGNATURE or key.name in keys:
            raise ConfigError(f"{path}, line {number}: a second or foreign key of the witness {key.name!r}")
        keys[key.name] = key
    return tuple(keys.values())


def meet_witness(path: str, key: VerifierKey) -> None:
    """Remember a witness, or check that it is the one that is remembered.

    Raises:
        SignatureInvalid: another key is remembered under its name.
        ConfigError, ChainError: as for ``known_witnesses``, or the file cannot be written.
    """
    known = known_witnesses(path)
    for other in known:
        if other.name == key.name:
            if other != key:
                raise SignatureInvalid(
                    f"the witness {key.name} has another key than the one in {path}; if its memory was lost, remove "
                    "its line there"
                )
            return
    data = "".join(f"{one.format()}\n" for one in (*known, key)).encode()
    try:
        replace_file(RealFiles(), os.path.abspath(path), data)
    except OSError as error:
        raise ChainError(f"{path} cannot be written: {error}") from error
