"""What can be added: packages that are not needed, and what they are for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from functools import partial
from typing import Final

from weftos.doctor.findings import Finding
from weftos.home import Home

__all__ = ["extras"]

_found = partial(Finding, area="extras")

#: Extra, the module that it brings, its distribution, and what is not there without it.
_EXTRAS: Final = (
    ("cedar", "cedarpy", "cedarpy", "policies in Cedar cannot be used at the gate"),
    ("keyring", "keyring", "keyring", "the key of the vault lies in a file that only its owner may read"),
)


def extras(home: Home) -> Sequence[Finding]:
    """The extras, and whether the instance asks for one that is not there."""
    findings = []
    for extra, module, distribution, means in _EXTRAS:
        name = f"extra {extra}"
        if importlib.util.find_spec(module) is not None:
            detail = f"{distribution} {importlib.metadata.version(distribution)}"
            findings.append(_found(name=name, state="ok", detail=detail))
            continue
        wanted = extra == "cedar" and home.cedar_policies.exists()
        findings.append(
            _found(
                name=name,
                state="failed" if wanted else "absent",
                detail=f"{home.cedar_policies} is there, and {distribution} is not" if wanted else "not installed",
                means=means,
                next_step=f"pip install 'weftos[{extra}]'",
            )
        )
    return findings
