"""What the system's audit tells of Landlock's refusals, read from its records. Pure.

A refusal is two records at the first time, and one later: what was refused in which domain, and whose domain that is::

    audit(1729738800.268:30): domain=195ba459b blockers=fs.read_file path="/etc/shadow" dev="vda2" ino=351
    audit(1729738800.268:30): domain=195ba459b status=allocated mode=enforcing pid=300 uid=0 exe="…" comm="…"
    audit(1729738800.301:41): domain=195ba459b status=deallocated denials=3

Not guaranteed: that every refusal is told. The audit has rules of its own, a bound on what waits, and is off on many
systems.

Source: linux/audit.h, Documentation/admin-guide/LSM/landlock.rst; Linux 6.15, Landlock ABI 7.
"""

from __future__ import annotations

import re
import sys
from typing import Final

import msgspec

from weftos.sandbox.bpf import Instruction
from weftos.sandbox.refusals import RefusalOf

__all__ = ["ACCESS", "DOMAIN", "Denial", "DomainGone", "DomainMade", "parse", "type_filter"]

#: AUDIT_LANDLOCK_ACCESS, AUDIT_LANDLOCK_DOMAIN.
ACCESS: Final = 1423
DOMAIN: Final = 1424

_HEAD: Final = re.compile(r"audit\((\d{1,12})\.(\d{3}):\d+\): ")
#: Values are quoted, in hexadecimal if they have spaces or the like, or plain words.
_FIELD: Final = re.compile(r'(\w+)=("[^"]*"|\S*)')
_WHAT: Final[dict[str, RefusalOf]] = {
    "fs": "path",
    "net": "net",
    "ptrace": "ptrace",
    "scope.signal": "signal",
    "scope.abstract_unix_socket": "net",
}
_LOAD_HALF: Final = 0x28  # BPF_LD | BPF_H | BPF_ABS
_JUMP_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_TYPE_AT: Final = 4
_WHOLE: Final = 0xFFFFFFFF
_LITTLE: Final = sys.byteorder == "little"


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """Something that Landlock refused.

    Attributes:
        domain: in which.
        at_ms: when, by the system's coarse clock, in milliseconds since 1970.
        what: kind of thing.
        name: the rights that were lacking, as Landlock names them, with commas between.
        about: the path, port or process; empty when it is not told.
    """

    domain: int
    at_ms: int
    what: RefusalOf
    name: str
    about: str = ""


class DomainMade(msgspec.Struct, frozen=True, kw_only=True):
    """The process that put a domain in force; told at its first refusal."""

    domain: int
    os_pid: int


class DomainGone(msgspec.Struct, frozen=True, kw_only=True):
    """A domain that refused something has ended with its last process."""

    domain: int


def parse(kind: int, text: str) -> Denial | DomainMade | DomainGone | None:
    """Read a record.

    Args:
        kind: number of its type.
        text: the whole of it, from ``audit(`` on.

    Returns:
        What it says; ``None`` if it is of another type or form.
    """
    head = _HEAD.match(text)
    if head is None:
        return None
    fields = {name: _plain(name, value) for name, value in _FIELD.findall(text[head.end() :])}
    try:
        domain = int(fields["domain"], 16)
        if kind == ACCESS:
            at_ms = int(head[1]) * 1000 + int(head[2])
            return _denial(domain, at_ms, fields)
        if kind == DOMAIN and fields["status"] == "allocated":
            return DomainMade(domain=domain, os_pid=int(fields["pid"]))
        if kind == DOMAIN and fields["status"] == "deallocated":
            return DomainGone(domain=domain)
    except (KeyError, ValueError):
        return None
    return None


def _denial(domain: int, at_ms: int, fields: dict[str, str]) -> Denial | None:
    name = fields["blockers"]
    first = name.partition(",")[0]
    what = _WHAT.get(first) or _WHAT.get(first.partition(".")[0])
    return Denial(domain=domain, at_ms=at_ms, what=what, name=name, about=_about(fields)) if what else None


def _about(fields: dict[str, str]) -> str:
    for name in ("path", "name"):
        if name in fields:
            return fields[name]
    if "opid" in fields:
        return f"process {fields['opid']} ({fields.get('ocomm', '')})"
    port = fields.get("dest") or fields.get("src")
    if port is None:
        return ""
    address = fields.get("daddr") or fields.get("saddr")
    return f"{address} port {port}" if address else f"port {port}"


def _plain(name: str, value: str) -> str:
    if value.startswith('"'):
        return value[1:-1]
    if name in ("path", "name", "ocomm"):
        try:
            return bytes.fromhex(value).decode("utf-8", "replace")
        except ValueError:
            return value  # ``(null)`` and the like
    return value


def type_filter() -> list[Instruction]:
    """Return a program for a netlink socket that lets no records pass but those of Landlock.

    Without it each record of a busy audit would wake the reader. Such a program sees numbers in the order of the
    network, and the header of a netlink message has them in that of the machine.
    """
    seen = [int.from_bytes(kind.to_bytes(2, "little"), "big") if _LITTLE else kind for kind in (ACCESS, DOMAIN)]
    return [
        Instruction(_LOAD_HALF, 0, 0, _TYPE_AT),
        Instruction(_JUMP_EQUAL, 1, 0, seen[0]),
        Instruction(_JUMP_EQUAL, 0, 1, seen[1]),
        Instruction(_RETURN, 0, 0, _WHOLE),
        Instruction(_RETURN, 0, 0, 0),
    ]
