"""The kinds of events that the log knows, and the syntax of kinds, sources and the other names in a record.

Why it is as it is: a kind is what an auditor searches for, so the kernel's own kinds are a closed table, one line each.
Who may append which kind is policy and belongs to the service; here only the shape is checked, plus one rule: a kind
outside ``app.`` must be in the table, because a misspelt kind of the kernel would be an event that nobody finds.

Guaranteed: an accepted name holds no space, control character or separator of another field, and keeps its limit.
"""

from __future__ import annotations

import re
from typing import Final

from weftos import limits
from weftos.errors import AppendRefused

__all__ = ["APP_PREFIX", "KINDS", "check_kind", "check_source", "check_text"]

#: Kinds below this prefix belong to agents and need no entry in the table.
APP_PREFIX: Final = "app."

#: Every kind outside ``app.``, with what it says.
KINDS: Final[dict[str, str]] = {
    "genesis": "the log begins",
    "chain.recovered": "bytes of an unfinished write were set aside when the log was opened",
    "key.genesis": "the first signing key of the log, by its public half",
    "tree.create": "a resource appeared",
    "tree.remove": "a resource went away",
    "tree.update-meta": "what is known of a resource changed",
    "tree.update-scoring": "the figures of a resource changed",
    "tree.snapshot": "the hash of the resource tree, and of its snapshot",
    "acl.set": "a rule was put on a resource",
    "acl.remove": "a rule was taken from a resource",
    "key.rotate": "the log's keys were handed over to a new pair",
    "chain.redacted": "the payload of a record was taken away for good",
    "chain.archived": "a segment was copied to the archive",
    "chain.pruned": "the oldest segments are removed from the log's folder",
    "log.seal": "a seal of everything before it, by a key that exists no more",
    "lineage.derivation": "something was derived from something that is on the log",
    "custody.attestation": "who holds what, signed",
    "boot.init": "a kernel begins to start",
    "boot.config": "the configuration it found",
    "boot.services": "the services it started",
    "boot.ready": "the kernel serves",
    "boot.failed": "a required step of the start failed",
    "kernel.unclean_shutdown": "the kernel before this one did not end in order",
    "shutdown": "the kernel ends in order",
    "agent.spawn": "an agent is about to be started",
    "agent.ready": "an agent reported that it is ready",
    "agent.exit": "an agent's process ended; with its exit record",
    "agent.restart": "an agent is about to be started again",
    "agent.stop": "an agent was asked to stop",
    "agent.force_stop": "an agent was killed",
    "agent.suspend": "an agent was halted",
    "agent.resume": "a halted agent goes on",
    "agent.escalate": "an agent failed too often and is not started again",
    "agent.attach": "a person or a program was connected to an agent",
    "ipc.grant": "a channel between two agents was granted",
    "ipc.deny": "a channel was refused",
    "ipc.revoke": "a channel was closed by the kernel",
    "ipc.window": "one end of a ring commits to the bytes that passed",
    "ipc.dead_letter": "a message nobody will handle was put aside",
    "ipc.subscribe": "an agent subscribed to a topic",
    "ipc.unsubscribe": "an agent left a topic",
    "ipc.topic.deny": "a topic was refused",
    "capability.deny": "a process tried what its capabilities do not include",
    "resource.warning": "a process came close to a limit",
    "resource.breach": "a process exceeded a limit",
    "service.start": "a service was started",
    "service.exit": "a service ended",
    "service.register": "an agent offers a service under a name",
    "service.unregister": "a service name was given up",
    "gate.permit": "the gate allowed an action",
    "gate.defer": "the gate put an action off until somebody decides",
    "gate.deny": "the gate refused an action",
    "rpc.refused": "a request on the control socket was refused",
    "log.info": "a note for the reader",
}

# fullmatch, because "$" would accept a line feed behind the end.
_KIND = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9][a-z0-9_-]*)*")
_SOURCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/#+-]*")


def check_kind(kind: str) -> None:
    """Refuse what is no kind: lower-case words joined by dots, in the table or below ``app.``.

    Raises:
        AppendRefused: it is malformed, too long or unknown.
    """
    if type(kind) is not str or len(kind) > limits.CHAIN_KIND_BYTES or _KIND.fullmatch(kind) is None:
        raise AppendRefused(
            f"a kind is lower-case words joined by dots, at most {limits.CHAIN_KIND_BYTES} bytes, not {_short(kind)}"
        )
    if kind not in KINDS and not kind.startswith(APP_PREFIX):
        raise AppendRefused(f"unknown kind {kind!r}; kinds outside {APP_PREFIX!r} are listed in weftos.chain.KINDS")


def check_source(source: str) -> None:
    """Refuse what is no source: letters, digits and ``_ . : @ / # + -``, beginning with a letter, digit or ``_``.

    Raises:
        AppendRefused: it is malformed or too long.
    """
    if type(source) is not str or len(source) > limits.CHAIN_SOURCE_BYTES or _SOURCE.fullmatch(source) is None:
        raise AppendRefused(
            f"a source is letters, digits and _.:@/#+-, at most {limits.CHAIN_SOURCE_BYTES} bytes, not {_short(source)}"
        )


def check_text(name: str, text: object, most: int) -> None:
    """Refuse a free text that is not printable UTF-8 within its limit.

    Args:
        name: the field, for the message.
        text: what was given.
        most: its limit in bytes of UTF-8.

    Raises:
        AppendRefused: it is no string, empty, too long or holds characters that cannot be shown.
    """
    if type(text) is not str or not text or not text.isprintable() or len(text.encode(errors="replace")) > most:
        raise AppendRefused(f"{name} is 1 to {most} bytes of printable text, not {_short(text)}")


def _short(value: object) -> str:
    return repr(value[:80] if isinstance(value, str) else value)[:100]
