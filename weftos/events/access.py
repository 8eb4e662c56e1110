"""Events of who may do what on the control socket: refusals, acts of operators, tokens, credentials, configuration.

No payload here holds a secret: tokens are known by the hash of their public half, credentials by that of their file.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from weftos.events.event import Bytes32, Event, Natural, Pid


class AccessDeny(Event, frozen=True, kw_only=True):
    """Somebody asked on the control socket what he may not; ``count`` such refusals share the record."""

    kind: ClassVar[str] = "access.deny"
    by: str
    uid: int
    os_pid: Natural
    method: str
    reason: str
    count: Natural = 1


class AccessAct(Event, frozen=True, kw_only=True):
    """Somebody asked for something that changes the kernel itself, and may; what came of it follows."""

    kind: ClassVar[str] = "access.act"
    by: str
    method: str
    access: str
    target: str = ""


class TokenIssue(Event, frozen=True, kw_only=True):
    """A token counts from here on, within its scope and until it expires."""

    kind: ClassVar[str] = "auth.token.issue"
    id: str
    name: str
    fingerprint: Bytes32
    access: str
    methods: list[str]
    agents: list[str]
    uids: list[int]
    expires_ns: Natural
    by: str


class TokenRevoke(Event, frozen=True, kw_only=True):
    """A token counts no more."""

    kind: ClassVar[str] = "auth.token.revoke"
    id: str
    name: str
    reason: str
    by: str


class TokenUse(Event, frozen=True, kw_only=True):
    """Somebody logged in with a token."""

    kind: ClassVar[str] = "auth.token.use"
    id: str
    name: str
    uid: int
    os_pid: Natural
    by: str


class CredentialAdd(Event, frozen=True, kw_only=True):
    """A credential is there, encrypted; ``digest`` is that of its file."""

    kind: ClassVar[str] = "auth.credential.add"
    name: str
    type: str
    agents: list[str]
    version: Natural
    digest: Bytes32
    by: str


class CredentialRotate(Event, frozen=True, kw_only=True):
    """A credential has another secret; the one before is destroyed."""

    kind: ClassVar[str] = "auth.credential.rotate"
    name: str
    version: Natural
    digest: Bytes32
    by: str


class CredentialRemove(Event, frozen=True, kw_only=True):
    """A credential is gone, and its secret is destroyed."""

    kind: ClassVar[str] = "auth.credential.remove"
    name: str
    version: Natural
    reason: str
    by: str


class CredentialUse(Event, frozen=True, kw_only=True):
    """An agent got the secret of a credential."""

    kind: ClassVar[str] = "auth.credential.use"
    name: str
    version: Natural
    pid: Pid
    scope: str


class _Setting(Event, frozen=True, kw_only=True):
    """Which setting; ``null`` stands for its default."""

    key: str
    old: Any = None
    new: Any = None
    by: str


class ConfigSet(_Setting, frozen=True, kw_only=True):
    """Somebody changes a setting; the record that it is done, or undone, follows."""

    kind: ClassVar[str] = "config.set"


class ConfigDone(_Setting, frozen=True, kw_only=True):
    """The setting stands in the file, and holds from ``effect`` on."""

    kind: ClassVar[str] = "config.done"
    effect: Literal["now", "new-agents", "next-start"]


class ConfigUndone(_Setting, frozen=True, kw_only=True):
    """The change did not get into the file; the old value holds."""

    kind: ClassVar[str] = "config.undone"
    reason: str


class ConfigEdited(_Setting, frozen=True, kw_only=True):
    """The file was found to have another value: somebody edited it by hand."""

    kind: ClassVar[str] = "config.edited"
