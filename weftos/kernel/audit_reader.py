"""The system's audit in the kernel's event loop: refusals by Landlock, each with the process whose domain it was.

Whose a domain is, the audit tells right after the first refusal in it; until then that one waits here. Refusals in
domains of other programs of the machine are dropped. When the audit is told more than is read, the system drops
records, and so does this: then the log has fewer refusals than there were.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from weftos import limits
from weftos.sandbox.audit import Denial, DomainGone, DomainMade, parse

__all__ = ["AuditReader"]

log = logging.getLogger(__name__)

A = TypeVar("A")

_HEAD: Final = struct.Struct("=IHHII")
#: The audit's own bound on a record is 8970 bytes (MAX_AUDIT_MESSAGE_LENGTH).
_RECORD_BYTES: Final = 16 * 1024


class AuditReader(Generic[A]):
    """Reads refusals.

    Args:
        agent_of: returns the agent to whom a process belongs, by its OS pid; ``None`` for all others.
        on_denied: called with the agent in whose domain something was refused.
    """

    def __init__(self, agent_of: Callable[[int], A | None], on_denied: Callable[[A, Denial], None]) -> None:
        self._agent_of = agent_of
        self._on_denied = on_denied
        self._records: socket.socket | None = None
        #: Domains of agents that are known; each goes when the system says that it is gone.
        self._owners: dict[int, A] = {}
        self._waiting: OrderedDict[int, list[Denial]] = OrderedDict()
        #: Why nothing is read; empty while it is.
        self.closed = "the kernel has not begun to read the audit"
        #: How often the system has dropped records, because they came faster than they were read.
        self.overruns = 0

    @property
    def open(self) -> bool:
        """Whether records are awaited."""
        return self._records is not None

    def begin(self, records: socket.socket | None, closed: str) -> None:
        """Begin to read.

        Args:
            records: from ``audit_state.open_records``, owned by the reader from here on; ``None`` to read nothing.
            closed: why nothing is to be expected; empty if it is.
        """
        self._records, self.closed = records, closed
        if records is not None:
            asyncio.get_running_loop().add_reader(records.fileno(), self._readable)

    def end(self) -> None:
        """Read no more."""
        if self._records is not None:
            asyncio.get_running_loop().remove_reader(self._records.fileno())
            self._records.close()
            self._records = None

    def _readable(self) -> None:
        for _ in range(limits.AUDIT_PER_TURN):
            assert self._records is not None
            try:
                data, (sender, _groups) = self._records.recvfrom(_RECORD_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self.overruns += 1
                    continue
                self.end()
                self.closed = f"reading the system's audit failed: {error.strerror}"
                log.warning("%s", self.closed)
                return
            # Any process may write to a netlink socket; the system is sender 0.
            if sender == 0 and len(data) >= _HEAD.size:
                kind = _HEAD.unpack_from(data)[1]
                self.take(kind, data[_HEAD.size :].rstrip(b"\0").decode("utf-8", "replace"))

    def take(self, kind: int, text: str) -> None:
        """Take one record; see ``audit.parse``."""
        said = parse(kind, text)
        if isinstance(said, Denial):
            self._denial(said)
        elif isinstance(said, DomainMade):
            waiting = self._waiting.pop(said.domain, ())
            agent = self._agent_of(said.os_pid)
            if agent is not None:
                self._owners[said.domain] = agent
                for one in waiting:
                    self._on_denied(agent, one)
        elif isinstance(said, DomainGone):
            self._owners.pop(said.domain, None)
            self._waiting.pop(said.domain, None)

    def _denial(self, said: Denial) -> None:
        agent = self._owners.get(said.domain)
        if agent is not None:
            self._on_denied(agent, said)
            return
        # Those of other programs stay until newer ones take their place.
        waiting = self._waiting.setdefault(said.domain, [])
        if len(waiting) < limits.AUDIT_WAITING_MAX:
            waiting.append(said)
        while len(self._waiting) > limits.AUDIT_WAITING_MAX:
            self._waiting.popitem(last=False)
