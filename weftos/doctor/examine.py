"""All checks, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from weftos.doctor import confinement, extras, instance, machine
from weftos.doctor.findings import Check, Finding, Report
from weftos.home import Home

__all__ = ["AREAS", "CHECKS", "examine"]

#: What an examination is about, and its checks.
CHECKS: Final[dict[str, tuple[Check, ...]]] = {
    "machine": (
        machine.python,
        machine.packages,
        machine.cpus,
        machine.memory,
        machine.shared_memory,
        machine.semaphores,
        machine.processes,
        machine.descriptors,
        machine.disk,
    ),
    "sandbox": (confinement.confinement,),
    "instance": (instance.folder, instance.configuration, instance.keys, instance.log, instance.kernel),
    "extras": (extras.extras,),
}
AREAS: Final = tuple(CHECKS)


def examine(home: Home, areas: Collection[str] = AREAS) -> Report:
    """Look at the machine and the instance. Nothing is changed.

    Args:
        home: the instance.
        areas: which ones; all by default.

    Returns:
        What was found, check by check.
    """
    return Report(str(home.root), list(_findings(home, areas)))


def _findings(home: Home, areas: Collection[str]) -> Iterator[Finding]:
    for area, checks in CHECKS.items():
        if area in areas:
            for check in checks:
                yield from check(home)
