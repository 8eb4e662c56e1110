"""Lists of what may be used, and the profile an agent is confined by: data, and the pure comparisons over it.

A list has two halves: what is allowed (nothing named: everything) and what is denied, and a denial always wins. A name
in it is whole (``fs.read``), the beginning of names (``fs.*``), or a path, which stands for itself and all below it.
Nothing more, so that "is this list within that one" has one answer that needs no search.

Guaranteed: ``within`` never says yes to a list that lets something through that the other does not, and what ``meet``
returns is within both. Not guaranteed: that ``within`` says yes to every list that happens to let no more through;
what a denial takes away and a narrower name would not have given is not worked out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

import msgspec

from weftos import limits

__all__ = ["PRIVATE_SPACES", "PROFILES", "SHELL_TOOLS", "Access", "Profile", "SandboxPolicy", "ToolPermissions"]

Profile: TypeAlias = Literal["trusted", "standard", "strict"]
#: From the weakest confinement to the strongest.
PROFILES: Final[tuple[Profile, ...]] = ("trusted", "standard", "strict")
#: Tools that hand a whole command line to a shell, and so can do whatever the process can.
SHELL_TOOLS: Final = frozenset(("shell_exec", "exec_shell", "bash", "command", "run_command"))

#: Memory spaces below it belong to one agent each, by its scope.
PRIVATE_SPACES: Final = "agent/"

_Names: TypeAlias = tuple[str, ...]


def _covers_name(pattern: str, other: str) -> bool:
    """Whether all names that ``other`` stands for are among those of ``pattern``."""
    if pattern.endswith("*"):
        return other.startswith(pattern[:-1])
    return pattern == other


def _covers_path(pattern: str, other: str) -> bool:
    return pattern in ("/", other) or other.startswith(pattern + "/")


class Access:
    """One kind of list: how its entries cover each other.

    Args:
        covers: whether the first entry stands for all that the second stands for.
        everything: an entry that covers all others.
    """

    def __init__(self, covers: Callable[[str, str], bool], everything: str) -> None:
        self._covers = covers
        self.everything = everything

    def lets(self, allow: _Names, deny: _Names, name: str) -> bool:
        """Whether a list lets a name through."""
        covers = self._covers
        if deny and any(covers(pattern, name) for pattern in deny):
            return False
        return not allow or any(covers(pattern, name) for pattern in allow)

    def covered(self, name: str, by: Iterable[str]) -> bool:
        """Whether one of several entries covers an entry."""
        return any(self._covers(pattern, name) for pattern in by)

    def beyond(self, allow: _Names, deny: _Names, above_allow: _Names, above_deny: _Names) -> list[str]:
        """Return what a list names that the one above it does not let through; nothing if it is within it."""
        if self.covered(self.everything, deny):
            return []
        wanted = allow or (self.everything,)
        found = [] if not above_allow else [
            name for name in wanted if not self.covered(name, above_allow) and not self.covered(name, deny)
        ]  # fmt: skip
        for refused in above_deny:
            if self.covered(refused, deny):
                continue
            found += [
                refused if self._covers(name, refused) else name
                for name in wanted
                if (self._covers(name, refused) or self._covers(refused, name)) and not self.covered(name, deny)
            ]
        return list(dict.fromkeys(found))

    def meet(self, allow: _Names, deny: _Names, above_allow: _Names, above_deny: _Names) -> tuple[_Names, _Names]:
        """Return the largest list within both, as allowed and denied names."""
        refused = self._shortest((*deny, *above_deny))
        if len(refused) > limits.RIGHTS_LIST_MAX:
            # Too long to be kept as it is. Less is always within both.
            return (), (self.everything,)
        if not allow or not above_allow:
            return self._shortest(allow or above_allow), refused
        both = [one for one in allow if self.covered(one, above_allow)]
        both += [one for one in above_allow if self.covered(one, allow)]
        if not both:
            # An empty list would allow everything.
            return (), (self.everything,)
        return self._shortest(both)[: limits.RIGHTS_LIST_MAX], refused

    def _shortest(self, names: Iterable[str]) -> _Names:
        kept = sorted(set(names))
        return tuple(one for one in kept if not any(one != other and self._covers(other, one) for other in kept))


_BY_NAME: Final = Access(_covers_name, "*")
_BY_PATH: Final = Access(_covers_path, "/")


def _check_names(what: str, names: _Names) -> None:
    if len(names) > limits.RIGHTS_LIST_MAX:
        raise ValueError(f"{what} has {len(names)} entries; {limits.RIGHTS_LIST_MAX} are allowed")
    for name in names:
        if not name or len(name) > limits.RIGHTS_NAME_CHARS or not name.isprintable() or "*" in name[:-1]:
            raise ValueError(
                f"{what}: {name[:40]!r} is no name of 1 to {limits.RIGHTS_NAME_CHARS} printable characters with a '*' "
                "at its end at most"
            )


def _check_paths(what: str, paths: _Names) -> None:
    if len(paths) > limits.RIGHTS_LIST_MAX:
        raise ValueError(f"{what} has {len(paths)} entries; {limits.RIGHTS_LIST_MAX} are allowed")
    for path in paths:
        parts = path.split("/")[1:]
        plain = path == "/" or not any(part in ("", ".", "..") for part in parts)
        if not path.startswith("/") or not plain or not path.isprintable() or len(path) > limits.RIGHTS_PATH_CHARS:
            raise ValueError(
                f"{what}: {path[:80]!r} is no absolute path without '.', '..', doubled and closing slashes, of at most "
                f"{limits.RIGHTS_PATH_CHARS} printable characters"
            )


class ToolPermissions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which tools, services and files an agent may use. An empty list of what is allowed allows all; a denial wins.

    Attributes:
        allow: tools, whole names or beginnings (``fs.*``).
        deny: tools.
        service_access: services that it may call.
        service_deny: services.
        file_access: paths that its tools may use, each with all below it.
        file_deny: paths.
        memory_access: memory spaces that it may use. Where none is named, not the private ones of other agents.
        memory_deny: memory spaces.
    """

    allow: _Names = ()
    deny: _Names = ()
    service_access: _Names = ()
    service_deny: _Names = ()
    file_access: _Names = ()
    file_deny: _Names = ()
    memory_access: _Names = ()
    memory_deny: _Names = ()

    def __post_init__(self) -> None:
        for kind, allow, deny in _LISTS:
            check = _check_paths if kind is _BY_PATH else _check_names
            check(allow, getattr(self, allow))
            check(deny, getattr(self, deny))

    def lets_tool(self, name: str) -> bool:
        """Whether a tool may be run."""
        return _BY_NAME.lets(self.allow, self.deny, name)

    def lets_service(self, name: str) -> bool:
        """Whether a service may be called."""
        return _BY_NAME.lets(self.service_access, self.service_deny, name)

    def lets_file(self, path: str) -> bool:
        """Whether a tool may use a path. It must be absolute and hold no ``..``, or it is refused."""
        clean = path.startswith("/") and not {"..", "."} & set(path.split("/"))
        return clean and _BY_PATH.lets(self.file_access, self.file_deny, path.rstrip("/") or "/")

    def lets_memory(self, space: str, scope: str) -> bool:
        """Whether a memory space may be used.

        Args:
            space: its name.
            scope: of the agent; what begins with ``agent/`` and a scope is that agent's own.
        """
        if not _BY_NAME.lets(self.memory_access, self.memory_deny, space):
            return False
        if self.memory_access or not space.startswith(PRIVATE_SPACES):
            return True
        return f"{space}/".startswith(f"{PRIVATE_SPACES}{scope}/")

    def beyond(self, above: ToolPermissions) -> list[str]:
        """Return what these lists let through and the other ones do not, each with the name of its list."""
        found = []
        for kind, allow, deny in _LISTS:
            names = kind.beyond(*(getattr(one, name) for one in (self, above) for name in (allow, deny)))
            found += [f"{allow} {name}" for name in names]
        return found

    def meet(self, above: ToolPermissions) -> ToolPermissions:
        """Return the largest lists within both."""
        values: dict[str, _Names] = {}
        for kind, allow, deny in _LISTS:
            pair = kind.meet(*(getattr(one, name) for one in (self, above) for name in (allow, deny)))
            values |= dict(zip((allow, deny), pair, strict=True))
        return ToolPermissions(**values)


_LISTS: Final = (
    (_BY_NAME, "allow", "deny"),
    (_BY_NAME, "service_access", "service_deny"),
    (_BY_PATH, "file_access", "file_deny"),
    (_BY_NAME, "memory_access", "memory_deny"),
)


class SandboxPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """By what an agent's process is confined. Data alone: what is applied, and how, is decided where it starts.

    Attributes:
        profile: ``trusted``, ``standard`` or ``strict``.
        readable: paths that it may read besides those of the profile, each with all below it.
        writable: paths that it may read and write besides those of the profile.
        network: whether it may use the network; it takes ``can_network`` as well.
        allow_shell: whether it may run tools that start a shell.
    """

    profile: Profile = "standard"
    readable: _Names = ()
    writable: _Names = ()
    network: bool = False
    allow_shell: bool = False

    def __post_init__(self) -> None:
        _check_paths("readable", self.readable)
        _check_paths("writable", self.writable)

    def beyond(self, above: SandboxPolicy) -> list[str]:
        """Return what this policy allows and the other one does not."""
        found = []
        if PROFILES.index(self.profile) < PROFILES.index(above.profile):
            found.append(f"profile {self.profile}")
        if above.profile != "trusted":
            reach = (*above.readable, *above.writable)
            found += [f"readable {path}" for path in self.readable if not _BY_PATH.covered(path, reach)]
            found += [f"writable {path}" for path in self.writable if not _BY_PATH.covered(path, above.writable)]
        found += [name for name in ("network", "allow_shell") if getattr(self, name) and not getattr(above, name)]
        return found

    def meet(self, above: SandboxPolicy) -> SandboxPolicy:
        """Return the weakest confinement within both."""
        readable, writable = self.readable, self.writable
        if above.profile != "trusted":
            reach = (*above.readable, *above.writable)
            readable = _both(readable, reach)
            if self.writable != (kept := _both(writable, above.writable)):
                # What it may not write any more it may still read where the one above may.
                rest = (path for path in _both(writable, reach) if path not in kept)
                readable = tuple(sorted({*readable, *rest}))[: limits.RIGHTS_LIST_MAX]
                writable = kept
        return SandboxPolicy(
            profile=max(self.profile, above.profile, key=PROFILES.index),
            readable=readable,
            writable=writable,
            network=self.network and above.network,
            allow_shell=self.allow_shell and above.allow_shell,
        )


def _both(ours: _Names, theirs: _Names) -> _Names:
    inside = {path for path in ours if _BY_PATH.covered(path, theirs)}
    return tuple(sorted(inside | {path for path in theirs if _BY_PATH.covered(path, ours)}))[: limits.RIGHTS_LIST_MAX]
