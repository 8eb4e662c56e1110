"""Requests about tokens, credentials and configuration; part of ``protocol.Request``.

A secret travels in a box (``auth.sealing``) only: to the vault from ``weaver``, and from the vault to an agent.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

__all__ = [
    "AccessRequest",
    "AddCredential",
    "ListBelow",
    "NoteChange",
    "RemoveCredential",
    "RotateCredential",
    "UseCredential",
    "VaultIntake",
]


class NoteChange(msgspec.Struct, array_like=True, tag=70):
    """Record a change of tokens or settings, with the change of the tree that it is. Only the kernel may.

    ``delta_kind`` and ``delta`` are kind and payload of the tree's record, see ``tree.deltas``.
    """

    kind: str
    payload: dict[str, Any]
    delta_kind: str
    delta: dict[str, Any]


class VaultIntake(msgspec.Struct, array_like=True, tag=71):
    """Ask to which public key secrets for the vault are sealed. Only the kernel may; likewise the next three."""


class AddCredential(msgspec.Struct, array_like=True, tag=72):
    """Keep a credential, for the agents that are named."""

    name: str
    kind: str
    agents: list[str]
    box: bytes
    by: str


class RotateCredential(msgspec.Struct, array_like=True, tag=73):
    """Give a credential another secret."""

    name: str
    box: bytes
    by: str


class RemoveCredential(msgspec.Struct, array_like=True, tag=74):
    """Destroy a credential."""

    name: str
    reason: str
    by: str


class UseCredential(msgspec.Struct, array_like=True, tag=75):
    """Ask for the secret of a credential, sealed to a public key of the asker's. Only agents may."""

    name: str
    public_key: bytes


class ListBelow(msgspec.Struct, array_like=True, tag=76):
    """Ask for the nodes below ``path`` behind the name ``after``, with their metadata, as many as fit an answer. Only
    the kernel may.
    """

    path: str
    after: str = ""


AccessRequest: TypeAlias = (
    ListBelow | NoteChange | VaultIntake | AddCredential | RotateCredential | RemoveCredential | UseCredential
)
