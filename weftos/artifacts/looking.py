"""A store looked at from its folder alone: nothing is made, locked, renamed or removed.

For readers beside the service, and for when no kernel runs. Whatever is damaged stays where it is; the service sets it
aside, and says so on the log first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress

from weftos.artifacts.form import ArtifactInfo, check_hash, is_hash
from weftos.artifacts.reading import ArtifactFile, ArtifactStream
from weftos.errors import ArtifactCorrupted, ArtifactNotFound, ArtifactStorageFailed

__all__ = ["list_artifacts", "open_artifact", "open_file", "set_aside_files"]

_SHARD = re.compile(r"[0-9a-f]{2}")


def list_artifacts(directory: str | os.PathLike[str], after: str = "") -> Iterator[ArtifactInfo]:
    """Give all artifacts, ordered by hash. Contents are not read; a damaged header shows as a missing type.

    Args:
        directory: of the store; one that does not exist holds nothing.
        after: only those behind this hash.

    Raises:
        ArtifactStorageFailed: the folder cannot be read.
    """
    for digest, path in _names(os.path.abspath(directory), after):
        size = 0
        try:
            with ArtifactFile(path, digest) as file:
                size = max(file.size, 0)
                yield ArtifactInfo(digest, size, *file.header())
        except FileNotFoundError:
            continue  # collected since its name was read
        except ArtifactCorrupted:
            yield ArtifactInfo(digest, size, None, 0)
        except OSError as error:
            raise ArtifactStorageFailed(f"the artifact {digest} cannot be read: {error}") from error


def _names(directory: str, after: str) -> Iterator[tuple[str, str]]:
    try:
        for shard in sorted(filter(_SHARD.fullmatch, os.listdir(directory))):
            if shard < after[:2]:
                continue
            for name in sorted(os.listdir(os.path.join(directory, shard))):
                if is_hash(name) and name.startswith(shard) and name > after:
                    yield name, os.path.join(directory, shard, name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ArtifactStorageFailed(f"the artifacts cannot be listed: {error}") from error


def set_aside_files(directory: str | os.PathLike[str], digest: str) -> list[str]:
    """Return the paths of files that had this name and were found with other content.

    Raises:
        InvalidRequest: this is no hash.
        ArtifactStorageFailed: the folder cannot be read.
    """
    folder = os.path.join(os.path.abspath(directory), check_hash(digest)[:2])
    found: list[str] = []
    try:
        with suppress(FileNotFoundError):
            found = [os.path.join(folder, name) for name in os.listdir(folder) if name.startswith(f"{digest}.damaged-")]
    except OSError as error:
        raise ArtifactStorageFailed(f"the artifacts cannot be listed: {error}") from error
    return sorted(found)


def open_file(directory: str | os.PathLike[str], digest: str) -> ArtifactFile:
    """Open an artifact's file, unread; the caller closes it.

    Raises:
        InvalidRequest: this is no hash.
        ArtifactNotFound: there is no such artifact.
        ArtifactCorrupted: there is something else than a file under its name.
        ArtifactStorageFailed: it cannot be read.
    """
    path = os.path.join(os.path.abspath(directory), check_hash(digest)[:2], digest)
    try:
        return ArtifactFile(path, digest)
    except FileNotFoundError as error:
        raise ArtifactNotFound(f"there is no artifact {digest} in {directory}") from error
    except OSError as error:
        raise ArtifactStorageFailed(f"the artifact {digest} cannot be read: {error}") from error


def open_artifact(directory: str | os.PathLike[str], digest: str) -> ArtifactStream:
    """Open an artifact whose whole content has been checked; the caller closes it.

    Raises:
        InvalidRequest, ArtifactNotFound, ArtifactStorageFailed: as for ``open_file``.
        ArtifactCorrupted: header or content are not what was put.
    """
    file = open_file(directory, digest)
    try:
        file.check()
        return ArtifactStream(file, file.header()[0], _tell)
    except ArtifactCorrupted as damage:
        file.close()
        raise _tell(damage) from damage
    except OSError as error:
        file.close()
        raise ArtifactStorageFailed(f"the artifact {digest} cannot be read: {error}") from error
    except BaseException:
        file.close()
        raise


def _tell(damage: ArtifactCorrupted) -> ArtifactCorrupted:
    text = f"the artifact {os.path.basename(damage.path)} is damaged: {damage}; the file stays as it is: {damage.path}"
    return ArtifactCorrupted(text, path=damage.path, identity=damage.identity)
