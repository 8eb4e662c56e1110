"""Roles: what an agent of a role may do if nobody says otherwise, and whom it may start.

A role is given at the spawn and stays. It is a bound, never a source: a role's capabilities are cut down to the
parent's, and an agent without a role is bound by its capabilities alone.
"""

from __future__ import annotations

from typing import Final

import msgspec

from weftos import limits
from weftos.errors import CapabilityDenied, InvalidRequest
from weftos.governance.capability import AgentCapabilities, SandboxPolicy, ScopeParentOnly

__all__ = ["CUSTOM", "ROLES", "Agency", "Role", "check_agency", "role_named"]

#: Begins the name of a role of one's own, such as ``custom:auditor``.
CUSTOM: Final = "custom:"


class Agency(msgspec.Struct, frozen=True):
    """Whom an agent may start.

    Attributes:
        roles: of its children.
        max_children: live at once; ``None`` is unlimited.
    """

    roles: tuple[str, ...] = ()
    max_children: int | None = 0


class Role(msgspec.Struct, frozen=True):
    """One role.

    Attributes:
        about: one sentence.
        capabilities: of an agent of this role, if nothing else is asked for.
        agency: whom it may start.
    """

    about: str
    capabilities: AgentCapabilities
    agency: Agency


_WORKER: Final = AgentCapabilities(can_spawn=False, ipc_scope=ScopeParentOnly())

#: Every role but those of one's own.
ROLES: Final[dict[str, Role]] = {
    "root": Role(
        "the top of a family, by the operator alone: everything, and any agents but others of its role",
        AgentCapabilities(can_network=True, sandbox=SandboxPolicy(profile="trusted", network=True, allow_shell=True)),
        Agency(("supervisor", "service", "worker", "user"), None),
    ),
    "supervisor": Role(
        "starts and watches others",
        AgentCapabilities(),
        Agency(("service", "worker"), limits.AGENCY_SUPERVISOR_CHILDREN),
    ),
    "service": Role(
        "serves others, with workers of its own",
        AgentCapabilities(),
        Agency(("worker",), limits.AGENCY_SERVICE_CHILDREN),
    ),
    "worker": Role("does what its parent asks, and messages nobody else", _WORKER, Agency()),
    "user": Role(
        "acts for a person: messages, and neither agents nor tools",
        AgentCapabilities(can_spawn=False, can_exec_tools=False),
        Agency(),
    ),
}


def role_named(name: str) -> Role | None:
    """Return a role; one of somebody's own starts nobody, and ``""`` is none.

    Raises:
        InvalidRequest: there is no such role.
    """
    if not name:
        return None
    known = ROLES.get(name)
    if known is not None:
        return known
    own = name.removeprefix(CUSTOM)
    if own != name and own.isascii() and own.isprintable() and 0 < len(own) <= 40 and " " not in own:
        return Role(f"a role of one's own, {own}", AgentCapabilities(), Agency())
    raise InvalidRequest(f"there is no role {name[:60]!r}; there are {', '.join(ROLES)} and {CUSTOM}NAME")


def check_agency(parent: int, parent_role: str, live_children: int, child_role: str) -> None:
    """Refuse a child that the parent's role does not allow.

    Args:
        parent: pid; 0 is the kernel with its operator, which may start any.
        parent_role: its role, ``""`` for none.
        live_children: of it, without the new one.
        child_role: of the new one, ``""`` for none.

    Raises:
        CapabilityDenied: the role is not listed, or there are as many children as are allowed.
        InvalidRequest: there is no such role.
    """
    role_named(child_role)
    if not parent:
        return
    if child_role == "root":
        raise CapabilityDenied(f"agent {parent} may not start an agent of the role root: only the operator may")
    role = role_named(parent_role)
    if role is None:
        return
    if child_role not in role.agency.roles:
        allowed = ", ".join(role.agency.roles) or "none"
        wanted = f"of the role {child_role}" if child_role else "without a role"
        raise CapabilityDenied(
            f"agent {parent}, a {parent_role}, may not start an agent {wanted}; its roles: {allowed}"
        )
    most = role.agency.max_children
    if most is not None and live_children >= most:
        raise CapabilityDenied(f"agent {parent}, a {parent_role}, has {live_children} children, and {most} are allowed")
