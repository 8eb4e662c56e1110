"""Where tokens, credentials and configured values are nodes of the resource tree, and the changes that put them there.

Why it is as it is: the tree is the sum over the log, has a snapshot that outlives pruned records, and shows agents
nothing that no rule lets them see. So what is in force stands there; there is no second list that could lag behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from weftos.auth.scope import TokenScope
from weftos.tree.deltas import Created, MetadataSet, Removed
from weftos.tree.names import Kind
from weftos.tree.paths import ResourcePath
from weftos.tree.tree import ResourceTree

__all__ = [
    "CREDENTIALS",
    "PENDING",
    "SETTINGS",
    "TOKENS",
    "credential_added",
    "credential_removed",
    "credential_rotated",
    "groundwork",
    "settings_written",
    "token_issued",
    "token_of",
    "token_revoked",
]

_AUTH: Final = ResourcePath("/kernel/auth")
TOKENS: Final = ResourcePath("/kernel/auth/tokens")
CREDENTIALS: Final = ResourcePath("/kernel/auth/credentials")
SETTINGS: Final = ResourcePath("/kernel/settings")
#: Key of the node of settings that holds a change which is announced and not yet done.
PENDING: Final = "pending"

_NAMESPACE: Final = Kind("namespace")
_TOKEN: Final = Kind("custom:token")
_CREDENTIAL: Final = Kind("custom:credential")


def groundwork(tree: ResourceTree) -> list[Created]:
    """Return the changes that make these places, as far as they are missing, parents first."""
    places = (_AUTH, TOKENS, CREDENTIALS, SETTINGS)
    return [Created(path=path, kind=_NAMESPACE) for path in places if path not in tree]


def token_issued(scope: TokenScope) -> Created:
    """Return the change by which a token counts."""
    values = {name: getattr(scope, name) for name in TokenScope.__struct_fields__ if name != "id"}
    return Created(path=TOKENS.child(scope.id), kind=_TOKEN, values=values)


def token_of(name: str, values: dict[str, Any]) -> TokenScope:
    """Return the token of a node: the name of the node, and its metadata."""
    known = {key: value for key, value in values.items() if key in TokenScope.__struct_fields__}
    return TokenScope(id=name, **known)


def token_revoked(token: str) -> Removed:
    """Return the change by which it counts no more."""
    return Removed(path=TOKENS.child(token))


def credential_added(name: str, kind: str, agents: Iterable[str], digest: bytes, now_ns: int) -> Created:
    """Return the change by which a credential is there, in its first version."""
    values = {"type": kind, "agents": list(agents), "version": 1, "digest": digest, "rotated_ns": now_ns}
    return Created(path=CREDENTIALS.child(name), kind=_CREDENTIAL, values=values)


def credential_rotated(name: str, version: int, digest: bytes, now_ns: int) -> MetadataSet:
    """Return the change by which a credential has another secret."""
    values = {"version": version, "digest": digest, "rotated_ns": now_ns}
    return MetadataSet(path=CREDENTIALS.child(name), values=values)


def credential_removed(name: str) -> Removed:
    """Return the change by which it is gone."""
    return Removed(path=CREDENTIALS.child(name))


def settings_written(values: dict[str, Any]) -> MetadataSet:
    """Return the change by which settings, or the pending change of one, have these values; ``None`` is the default."""
    return MetadataSet(path=SETTINGS, values=values)
