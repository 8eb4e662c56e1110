"""Requests about artifacts. They come from the kernel alone, in a frame of their own (``protocol.ArtifactFrame``) that
says for whom.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from weftos import limits

__all__ = [
    "ArtifactRequest",
    "CollectArtifacts",
    "ListArtifacts",
    "OpenArtifact",
    "ReleaseArtifact",
    "StatArtifact",
    "StoreArtifact",
]


class StoreArtifact(msgspec.Struct, array_like=True, tag=20):
    """Store the content behind the descriptor beside it (see ``artifacts.sealed``); or take note of ``hash``, which was
    put into the folder already, by weaver.
    """

    content_type: str
    hash: str = ""


class OpenArtifact(msgspec.Struct, array_like=True, tag=21):
    """Check an artifact, and answer with a descriptor of its file, open for reading."""

    hash: str


class StatArtifact(msgspec.Struct, array_like=True, tag=22):
    """Ask what is known of an artifact; with ``check`` its content is read."""

    hash: str
    check: bool = False


class ListArtifacts(msgspec.Struct, array_like=True, tag=23):
    """Ask for artifacts behind a hash, in order."""

    after: str = ""
    limit: int = limits.ARTIFACT_ROWS


class ReleaseArtifact(msgspec.Struct, array_like=True, tag=24):
    """Who put an artifact needs it no more; from the operator: nobody does."""

    hash: str


class CollectArtifacts(msgspec.Struct, array_like=True, tag=25):
    """Remove what nothing holds and what was last put ``older_than_s`` seconds ago or longer; or only tell what."""

    older_than_s: float = limits.ARTIFACT_GRACE_S
    dry_run: bool = False


ArtifactRequest: TypeAlias = (
    StoreArtifact | OpenArtifact | StatArtifact | ListArtifacts | ReleaseArtifact | CollectArtifacts
)
