"""Credentials in the service process: the only place where their secrets are ever in the clear.

Why it is as it is: the record on the log is what makes a change happen. The new file is on the disk before it and the
old one is destroyed after it; whatever a kill leaves of that is destroyed when the service starts, by what the tree
says. An agent is known by its ring, and gets a secret only if the gate permits it and the credential names it.

Guaranteed: no secret is recorded, logged or sent but in a box for who may have it; each use is on the disk before the
secret leaves. Not guaranteed: that an agent that got a secret keeps it to itself.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from weftos import limits
from weftos.auth import places
from weftos.auth.scope import check_scope_name
from weftos.auth.sealing import seal_box
from weftos.auth.vault import CREDENTIAL_TYPES, Vault, about_credential, check_name
from weftos.auth.vault_key import FileKey, KeyringKey, KeySource
from weftos.errors import (
    CredentialRefused,
    GateDeferred,
    GovernanceDenied,
    InvalidRequest,
    MessageTooLarge,
    VaultDamaged,
    WeftError,
)
from weftos.governance.gate import Defer, Permit
from weftos.service import access_protocol as q
from weftos.service import protocol as p
from weftos.service.clients import Caller, only_kernel
from weftos.tree.deltas import from_payload
from weftos.tree.paths import ResourcePath

if TYPE_CHECKING:
    from weftos.service.handlers import Desk, Handler
    from weftos.service.journal import Journal

__all__ = ["ACCESS_HANDLERS", "CredentialDesk", "VaultSettings"]

log = logging.getLogger(__name__)

_REASON_CHARS: Final = 500
#: Bytes of an answer around a secret.
_FRAME_BYTES: Final = 256
_ACTION: Final = "auth.credential.use"
#: What the kernel may record with a change of the tree, and where that change is.
_NOTES: Final = {
    "auth.token.issue": f"{places.TOKENS}/",
    "auth.token.revoke": f"{places.TOKENS}/",
    "config.set": str(places.SETTINGS),
    "config.done": str(places.SETTINGS),
    "config.undone": str(places.SETTINGS),
    "config.edited": str(places.SETTINGS),
}


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """Where credentials are kept.

    Attributes:
        directory: of the files; none are kept without one.
        key: ``file`` or ``keyring``.
        key_path: of the key, if it is a file.
        account: under which a keyring has it.
    """

    directory: str = ""
    key: Literal["file", "keyring"] = "file"
    key_path: str = ""
    account: str = ""

    def source(self) -> KeySource:
        """Return where the key is."""
        return FileKey(self.key_path) if self.key == "file" else KeyringKey(self.account)


class CredentialDesk:
    """Keeps credentials. The vault is made when the first one comes.

    Args:
        journal: takes records, and has the tree.
        settings: where the vault is.
    """

    def __init__(self, journal: Journal, settings: VaultSettings) -> None:
        self._journal = journal
        self._settings = settings
        self._vault: Vault | None = None
        for delta in places.groundwork(journal.tree.tree):
            journal.change_by_itself(delta)
        if os.path.isdir(settings.directory):
            try:
                self.open()
            except WeftError as error:
                # Everything else goes on; who asks for a credential is told.
                log.error("credentials cannot be used: %s", error)

    def open(self) -> Vault:
        """Return the vault, without leftovers.

        Raises:
            ConfigError, StorageFailed, VaultDamaged: it cannot be used.
        """
        if self._vault is None:
            if not self._settings.directory:
                raise VaultDamaged("this instance keeps no credentials: it has no folder for them")
            vault = Vault(self._settings.directory, self._settings.source())
            gone = vault.clean({(name, values["version"]) for name, values in self._all().items()})
            if gone:
                log.info("leftovers of changes that did not happen, or were not finished, are destroyed: %s", gone)
            self._vault = vault
        return self._vault

    def _all(self) -> dict[str, dict[str, Any]]:
        tree = self._journal.tree.tree
        return {node.path.name: node.metadata for node in tree.children(places.CREDENTIALS)}

    def _one(self, name: str) -> dict[str, Any]:
        check_name(name)
        path = places.CREDENTIALS.child(name)
        tree = self._journal.tree.tree
        if path not in tree:
            raise CredentialRefused(
                f"there is no credential {name!r}; `weaver auth credential list` shows those there are"
            )
        return tree.get(path).metadata

    # --- the operator -------------------------------------------------------------------------------------------------

    def add(self, caller: Caller, position: int, request: q.AddCredential) -> dict[str, Any]:
        """Keep a credential; errors as for ``Vault``."""
        name, kind, agents = request.name, request.kind, list(request.agents)
        check_name(name)
        if kind not in CREDENTIAL_TYPES:
            raise InvalidRequest(f"a credential is one of {', '.join(CREDENTIAL_TYPES)}, not {kind!r:.40}")
        if len(agents) > limits.AUTH_SCOPE_NAMES or len(set(agents)) != len(agents):
            raise InvalidRequest(f"a credential names at most {limits.AUTH_SCOPE_NAMES} agents, each once")
        for agent in agents:
            check_scope_name(agent)
        there = self._all()
        if name in there:
            raise CredentialRefused(
                f"there is a credential {name!r}; `weaver auth credential rotate {name}` changes it"
            )
        if len(there) >= limits.AUTH_CREDENTIALS:
            raise CredentialRefused(f"there are {limits.AUTH_CREDENTIALS} credentials; remove one first")
        vault = self.open()
        digest = vault.store(name, kind, 1, vault.unseal(request.box, name, kind, "add"))
        payload = {"name": name, "type": kind, "agents": agents, "version": 1, "digest": digest, "by": request.by}
        delta = places.credential_added(name, kind, agents, digest, time.time_ns())
        return {
            "name": name,
            "version": 1,
            "record": self._journal.change_tree(caller, position, "auth.credential.add", payload, delta),
        }

    def rotate(self, caller: Caller, position: int, request: q.RotateCredential) -> dict[str, Any]:
        """Give a credential another secret, and destroy the one before; errors as for ``Vault``."""
        name, known = request.name, self._one(request.name)
        vault, version = self.open(), known["version"] + 1
        secret = vault.unseal(request.box, name, known["type"], "rotate")
        digest = vault.store(name, known["type"], version, secret)
        payload = {"name": name, "version": version, "digest": digest, "by": request.by}
        delta = places.credential_rotated(name, version, digest, time.time_ns())
        record = self._journal.change_tree(caller, position, "auth.credential.rotate", payload, delta)
        self._destroy(vault, name, version - 1)
        return {"name": name, "version": version, "record": record}

    def remove(self, caller: Caller, position: int, request: q.RemoveCredential) -> dict[str, Any]:
        """Destroy a credential; errors as for ``Vault``."""
        name, version = request.name, self._one(request.name)["version"]
        if not 0 < len(request.reason) <= _REASON_CHARS or not request.reason.isprintable():
            raise InvalidRequest(f"removing a credential needs a reason, 1 to {_REASON_CHARS} printable characters")
        payload = {"name": name, "version": version, "reason": request.reason, "by": request.by}
        delta = places.credential_removed(name)
        record = self._journal.change_tree(caller, position, "auth.credential.remove", payload, delta)
        try:
            self._destroy(self.open(), name, version)
        except WeftError as error:
            log.error("the secret of %s is not destroyed yet: %s", name, error)
        return {"name": name, "version": version, "record": record}

    @staticmethod
    def _destroy(vault: Vault, name: str, version: int) -> None:
        try:
            vault.remove(name, version)
        except WeftError as error:
            # What was asked for has happened; the next start tries again.
            log.error("%s", error)

    # --- agents -------------------------------------------------------------------------------------------------------

    def use(self, caller: Caller, position: int, request: q.UseCredential) -> dict[str, Any]:
        """Seal a secret for an agent that the credential names; the use is on the disk when this returns.

        Raises:
            CredentialRefused: there is none of this name for this agent.
            VaultDamaged: it cannot be decrypted.
        """
        name = request.name
        check_name(name)
        known = self._all().get(name)
        if known is None or caller.scope not in known["agents"]:
            # The same in both cases: what there is for others is nobody's business.
            raise CredentialRefused(f"there is no credential {name!r} for {caller.scope}")
        secret = self.open().load(name, known["type"], known["version"], known["digest"])
        box = seal_box(secret, request.public_key, about_credential(name, known["type"], "use"))
        if len(box) + _FRAME_BYTES > caller.reply_bytes:
            raise MessageTooLarge(
                f"the secret of {name!r} does not fit an answer to this agent", size=len(box), limit=caller.reply_bytes
            )
        payload = {"name": name, "version": known["version"], "pid": int(caller.agent_id), "scope": caller.scope}
        self._journal.append(caller, position, _ACTION, payload, subject=caller.source)
        self._journal.sync()
        return {"box": box, "type": known["type"], "version": known["version"]}


def _note_change(desk: Desk, caller: Caller, position: int, request: q.NoteChange) -> p.Reply:
    only_kernel(caller)
    delta = from_payload(request.delta_kind, request.delta)
    place = _NOTES.get(request.kind)
    if place is None or not (str(delta.path) == place or (place[-1] == "/" and str(delta.path).startswith(place))):
        raise InvalidRequest(f"{request.kind[:60]} does not change {str(delta.path)[:100]}")
    seq = desk.journal.change_tree(caller, position, request.kind, request.payload, delta)
    return p.Done({"record": seq})


def _list_below(desk: Desk, caller: Caller, _position: int, request: q.ListBelow) -> p.Reply:
    only_kernel(caller)
    room = caller.reply_bytes // 2
    rows: list[tuple[str, dict[str, Any]]] = []
    for node in desk.journal.tree.tree.children(ResourcePath(request.path)):
        if node.path.name <= request.after:
            continue
        row = (node.path.name, node.metadata)
        room -= len(desk.encoder.encode(row))
        if rows and room < 0:
            return p.Done({"rows": rows, "complete": False})
        rows.append(row)
    return p.Done({"rows": rows, "complete": True})


def _intake(desk: Desk, caller: Caller, _position: int, _request: q.VaultIntake) -> p.Reply:
    only_kernel(caller)
    return p.Done({"public_key": desk.journal.credentials.open().public_key})


def _add(desk: Desk, caller: Caller, position: int, request: q.AddCredential) -> p.Reply:
    only_kernel(caller)
    return p.Done(desk.journal.credentials.add(caller, position, request))


def _rotate(desk: Desk, caller: Caller, position: int, request: q.RotateCredential) -> p.Reply:
    only_kernel(caller)
    return p.Done(desk.journal.credentials.rotate(caller, position, request))


def _remove(desk: Desk, caller: Caller, position: int, request: q.RemoveCredential) -> p.Reply:
    only_kernel(caller)
    return p.Done(desk.journal.credentials.remove(caller, position, request))


def _use(desk: Desk, caller: Caller, position: int, request: q.UseCredential) -> p.Reply:
    if caller.kernel:
        raise CredentialRefused("a secret goes to an agent that its credential names, and to nobody else")
    try:
        _permitted(desk, caller, request.name)
        return p.Done(desk.journal.credentials.use(caller, position, request))
    except (GovernanceDenied, GateDeferred, CredentialRefused, InvalidRequest) as error:
        payload = {"action": _ACTION, "pid": int(caller.agent_id), "reason": str(error)[:_REASON_CHARS]}
        desk.journal.append(caller, position, "capability.deny", payload, subject=caller.source)
        raise


def _permitted(desk: Desk, caller: Caller, name: str) -> None:
    decision = desk.gate.check(caller.agent_id, _ACTION, {"name": name, "scope": caller.scope})
    if isinstance(decision, Permit):
        return
    kind = GateDeferred if isinstance(decision, Defer) else GovernanceDenied
    raise kind(f"{_ACTION}: {decision.reason}")


ACCESS_HANDLERS: Final[dict[type, Handler]] = {
    q.NoteChange: _note_change,
    q.ListBelow: _list_below,
    q.VaultIntake: _intake,
    q.AddCredential: _add,
    q.RotateCredential: _rotate,
    q.RemoveCredential: _remove,
    q.UseCredential: _use,
}
