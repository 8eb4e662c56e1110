"""What an examination finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec

from weftos.home import Home

__all__ = ["Check", "Finding", "Report", "State"]

#: ``ok``; ``limited``: it works, with less than elsewhere; ``absent``: not there, and needed only for what ``means``
#: says; ``failed``: something that the kernel needs does not work.
State: TypeAlias = Literal["ok", "limited", "absent", "failed"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one check found.

    Attributes:
        name: of the check.
        area: what it belongs to.
        state: how it is.
        detail: what was measured.
        means: what follows from it, for whoever runs agents here; empty when all is well.
        next_step: what can be done about it; empty if nothing has to be.
    """

    name: str
    area: str
    state: State
    detail: str
    means: str = ""
    next_step: str = ""


class Report(msgspec.Struct, frozen=True):
    """All that an examination found.

    Attributes:
        home: folder of the instance.
        findings: in the order of the checks.
    """

    home: str
    findings: list[Finding]

    @property
    def failed(self) -> list[Finding]:
        """What has to be mended before a kernel runs well here."""
        return [one for one in self.findings if one.state == "failed"]


#: Looks at one thing and leaves it as it was.
Check: TypeAlias = Callable[[Home], Sequence[Finding]]
