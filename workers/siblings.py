"""Whom an agent of the job listens to: the other agents of the same job.

Every agent of an instance can send to every other unless its scope says otherwise, so entries from just anybody would
make a record that says what somebody else wanted.
"""

from __future__ import annotations

from weftos.agent.context import Context
from weftos.errors import WeftError

__all__ = ["Siblings"]


class Siblings:
    """Tells whether a sender has the same parent; the kernel is asked once for each."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._known: dict[int, bool] = {}

    def __contains__(self, pid: object) -> bool:
        if not isinstance(pid, int) or pid <= 0:
            return False
        if pid not in self._known:
            try:
                self._known[pid] = self._ctx.describe(pid).get("parent") == self._ctx.parent
            except WeftError as error:
                self._ctx.log(f"a message from agent {pid} is ignored: {error}", level="warn")
                return False
        return self._known[pid]
