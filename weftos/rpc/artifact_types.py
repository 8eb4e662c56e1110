"""Parameters and answers of the methods about artifacts."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from weftos import limits

__all__ = [
    "ArtifactContent",
    "ArtifactGcParams",
    "ArtifactGcResult",
    "ArtifactHashParams",
    "ArtifactList",
    "ArtifactListParams",
    "ArtifactPutParams",
    "ArtifactPutResult",
    "ArtifactReleased",
    "ArtifactRow",
    "ArtifactStat",
    "ArtifactStatParams",
]

ArtifactHash: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Type: TypeAlias = Annotated[str, msgspec.Meta(min_length=3, max_length=limits.ARTIFACT_TYPE_BYTES)]
_Data: TypeAlias = Annotated[bytes, msgspec.Meta(max_length=limits.ARTIFACT_INLINE_BYTES)]
_Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e10)]


class ArtifactPutParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either the content itself, or the hash of what lies in the store's folder already.

    Attributes:
        content_type: such as `text/plain`.
        data: the content, up to 512 KiB.
        hash: of content that was put into the folder, as `weaver artifact put` does with files of any size.
    """

    content_type: _Type = "application/octet-stream"
    data: _Data | None = None
    hash: ArtifactHash | None = None


class ArtifactPutResult(msgspec.Struct, frozen=True, kw_only=True):
    """The reference, and where the log says who put it.

    Attributes:
        hash: BLAKE3 of the content.
        size: bytes of the content.
        content_type: as given.
        record: number of the record.
    """

    hash: str
    size: int
    content_type: str
    record: int


class ArtifactHashParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names one artifact.

    Attributes:
        hash: BLAKE3 of its content, 64 lower-case hex digits.
    """

    hash: ArtifactHash


class ArtifactStatParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names one artifact.

    Attributes:
        hash: BLAKE3 of its content, 64 lower-case hex digits.
        check: read the content; if it is damaged, that is put on the log and the file set aside.
    """

    hash: ArtifactHash
    check: bool = False


class ArtifactRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the store says about an artifact.

    Attributes:
        hash: BLAKE3 of the content.
        size: bytes of the content.
        content_type: given with the first put; null if the file's header is damaged.
        stored_at: when it was first put; 0 if the file's header is damaged.
    """

    hash: str
    size: int
    content_type: str | None
    stored_at: float


class ArtifactStat(ArtifactRow, frozen=True, kw_only=True):
    """As a row of the list.

    Attributes:
        checked: whether the content was read, and is what was put.
    """

    checked: bool = False


class ArtifactContent(ArtifactRow, frozen=True, kw_only=True):
    """As a row of the list, with the content.

    Attributes:
        data: the content.
    """

    data: bytes


class ArtifactListParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of the list.

    Attributes:
        after: only artifacts behind this hash; empty begins at the front.
        limit: rows at most.
    """

    after: ArtifactHash | Annotated[str, msgspec.Meta(max_length=0)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=limits.ARTIFACT_ROWS)] = limits.ARTIFACT_ROWS


class ArtifactList(msgspec.Struct, frozen=True, kw_only=True):
    """Artifacts, ordered by hash.

    Attributes:
        artifacts: the rows.
        complete: whether none is left behind the last row.
    """

    artifacts: list[ArtifactRow]
    complete: bool


class ArtifactReleased(msgspec.Struct, frozen=True, kw_only=True):
    """The artifact is held by no put any more; records that name it still hold it.

    Attributes:
        hash: of the artifact.
        record: number of the record that says so.
    """

    hash: str
    record: int


class ArtifactGcParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to collect.

    Attributes:
        older_than_secs: what was put later stays; null takes the configured grace period.
        dry_run: only tell what would go.
    """

    older_than_secs: _Seconds | None = None
    dry_run: bool = False


class ArtifactGcResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection did, or would do.

    Attributes:
        removed: artifacts.
        freed_bytes: size of their files.
        hashes: of the first 500 of them.
        young: artifacts that nothing holds and that are younger than the grace period.
        held: artifacts that something holds.
        dry_run: nothing was removed.
    """

    removed: int
    freed_bytes: int
    hashes: list[str]
    young: int
    held: int
    dry_run: bool
