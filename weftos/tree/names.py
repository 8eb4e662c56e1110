"""Names from a closed list, or ``custom:`` and a name of one's own: kinds of nodes, roles, actions, subjects of a rule.

Why it is as it is: a name that a user chose must never be mistaken for one that has a meaning here, now or in a later
version, so it carries a prefix. And it must not be possible to misspell a known one, so the list is closed: ``agnet``
is refused and not a new kind that no rule ever matches.

Guaranteed: a name is equal to another if and only if both are of one class and have the same text.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final, Self

from weftos import limits
from weftos.errors import NodeInvalid

__all__ = ["Action", "Kind", "Name", "Role", "check_label"]

_CUSTOM: Final = "custom:"
_OWN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Name:
    """Base of the names. Immutable and hashable.

    Args:
        text: one of ``KNOWN``, or ``custom:`` and letters, digits, ``_``, ``.`` and ``-``.

    Raises:
        NodeInvalid: it is neither.
    """

    #: What a name of this class is called in messages.
    WHAT: ClassVar[str] = "name"
    #: The names that have a meaning here.
    KNOWN: ClassVar[frozenset[str]] = frozenset()
    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if type(text) is not str or not (text in self.KNOWN or _is_custom(text)):
            known = ", ".join(sorted(self.KNOWN))
            raise NodeInvalid(f"{text!r} is no {self.WHAT}; there are: {known}, and custom:NAME")
        self._text = text

    @classmethod
    def custom(cls, name: str) -> Self:
        """Return ``custom:NAME``.

        Raises:
            NodeInvalid: the name has other characters, or more than ``limits.TREE_NAME_BYTES`` bytes.
        """
        return cls(_CUSTOM + name)

    @property
    def is_custom(self) -> bool:
        """Whether a user chose this name."""
        return self._text.startswith(_CUSTOM)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._text == other._text

    def __lt__(self, other: Self) -> bool:
        return self._text < other._text

    def __hash__(self) -> int:
        return hash((type(self), self._text))


class Kind(Name):
    """What a node stands for."""

    WHAT = "kind of a node"
    KNOWN = frozenset(
        ("namespace", "service", "agent", "device", "topic", "container", "app", "tool", "environment"),
    )
    __slots__ = ()


class Role(Name):
    """In what capacity somebody acts. No role includes another; policies say what each may do."""

    WHAT = "role"
    KNOWN = frozenset(("owner", "admin", "operator", "viewer"))
    __slots__ = ()


class Action(Name):
    """What somebody wants to do with a resource. No action includes another."""

    WHAT = "action"
    KNOWN = frozenset(("read", "write", "execute", "admin", "create", "delete"))
    __slots__ = ()


def check_label(text: str, what: str) -> str:
    """Return the name of a principal, the identifier of a policy or the like, if it can be one.

    Args:
        text: not empty, at most ``limits.TREE_PRINCIPAL_BYTES`` bytes of UTF-8, nothing but printable characters.
        what: how it is called in the message.

    Raises:
        NodeInvalid: it is none.
    """
    if type(text) is not str or not text or not text.isprintable():
        raise NodeInvalid(f"{what} is printable text, not {text!r}")
    if len(text.encode()) > limits.TREE_PRINCIPAL_BYTES:
        raise NodeInvalid(f"{what} has at most {limits.TREE_PRINCIPAL_BYTES} bytes, this one {len(text.encode())}")
    return text


def _is_custom(text: str) -> bool:
    name = text.removeprefix(_CUSTOM)
    return name != text and len(name) <= limits.TREE_NAME_BYTES and _OWN_NAME.fullmatch(name) is not None
