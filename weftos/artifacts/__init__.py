"""The artifact store: content too large for a message or a record, kept under the hash of it.

A pure library: no process, no socket, no ring. Any number of processes may use one store.
"""

from weftos.artifacts.files import ArtifactFiles, RealArtifactFiles
from weftos.artifacts.form import HEADER_BYTES, ArtifactInfo, ArtifactRef
from weftos.artifacts.reading import ArtifactStream
from weftos.artifacts.sources import Source
from weftos.artifacts.store import ArtifactStore, Collected

__all__ = [
    "HEADER_BYTES",
    "ArtifactFiles",
    "ArtifactInfo",
    "ArtifactRef",
    "ArtifactStore",
    "ArtifactStream",
    "Collected",
    "RealArtifactFiles",
    "Source",
]
