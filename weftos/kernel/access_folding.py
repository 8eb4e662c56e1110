"""Tokens and settings, added up from the log: over all boots, for they outlive the kernel.

Why it is as it is: what counts is what the resource tree says, whose changes are records of their own, in one group
with the record that says who wanted them. So the records of the tree are added up here, by rules written a second time.

Guaranteed: the result depends on nothing but the records. A log whose beginning was pruned does not tell, and then
neither does this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from weftos.auth.places import PENDING, SETTINGS, TOKENS, token_of
from weftos.auth.scope import TokenScope
from weftos.chain import Record
from weftos.errors import DeltaInvalid
from weftos.rpc.state_types import SettingHeld, TokenHeld
from weftos.tree.deltas import Created, MetadataSet, Removed, from_payload

__all__ = ["AccessFold", "settings_held", "token_held"]

_TREE: Final = "tree"
_KINDS: Final = frozenset(("tree.create", "tree.remove", "tree.update-meta"))


class AccessFold:
    """The sum over the records so far."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._tokens: dict[str, TokenScope] = {}
        self._settings: dict[str, Any] = {}

    def take(self, record: Record) -> None:
        """Add a record; they come in their order."""
        if self._first is None:
            self._first = record.seq
        if record.source != _TREE or record.kind not in _KINDS:
            return
        try:
            delta = from_payload(record.kind, record.payload)
        except (DeltaInvalid, msgspec.DecodeError):
            return  # forged, and in no tree
        if isinstance(delta, Created) and delta.path.parent == TOKENS:
            self._tokens[delta.path.name] = token_of(delta.path.name, delta.values)
        elif isinstance(delta, Removed) and delta.path.parent == TOKENS:
            self._tokens.pop(delta.path.name, None)
        elif isinstance(delta, MetadataSet) and delta.path == SETTINGS:
            self._settings |= delta.values

    def tokens(self) -> list[TokenHeld] | None:
        """Tokens that count, by id; ``None`` if the records do not tell."""
        if self._first:
            return None
        return [token_held(self._tokens[one]) for one in sorted(self._tokens)]

    def settings(self) -> list[SettingHeld] | None:
        """What the file sets, by key; ``None`` if the records do not tell."""
        return None if self._first else settings_held(self._settings)


def token_held(scope: TokenScope) -> TokenHeld:
    """Return a token as the kernel shows it."""
    return TokenHeld(**msgspec.structs.asdict(scope) | {"fingerprint": scope.fingerprint.hex()})


def settings_held(values: Mapping[str, Any]) -> list[SettingHeld]:
    """Return what the file sets as the kernel shows it."""
    return [
        SettingHeld(key=key, value=msgspec.json.encode(values[key]).decode())
        for key in sorted(values)
        if key != PENDING and values[key] is not None
    ]
