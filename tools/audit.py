"""Ask the public vulnerability service about every installed dependency.

A wrapper around ``pip-audit``, because its exit status is 0 also when the service knew none of the packages: a mirror
that lacks this service answers "not found" to everything, and that is no clean bill of health.

Exit status: 0 all known packages are free of known vulnerabilities, 1 some are not, 77 nothing could be asked; the last
line says why.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

#: What `tools/gate.sh` takes for "skipped".
SKIPPED = 77
#: Share of the packages that has to be known for the answer to mean something.
ENOUGH = 0.9
TIMEOUT_S = 300


def judge(dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Read the answer.

    Args:
        dependencies: as ``pip-audit --format json`` lists them, without the packages that are ours.

    Returns:
        Exit status, and lines to print.
    """
    known = [entry for entry in dependencies if "skip_reason" not in entry]
    lines = [f"{entry['name']}: {entry['skip_reason']}" for entry in dependencies if "skip_reason" in entry]
    for entry in known:
        for found in entry["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            lines.append(f"{entry['name']} {entry['version']}: {found['id']}, fixed in {fixed}")
    lines.append(f"{len(known)} of {len(dependencies)} packages audited")
    if any(entry["vulns"] for entry in known):
        return 1, lines
    if len(known) < ENOUGH * len(dependencies) or not known:
        return SKIPPED, [
            *lines,
            f"the vulnerability service knows {len(known)} of {len(dependencies)} packages from here",
        ]
    return 0, lines


def main() -> int:
    """Run pip-audit and judge its answer."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--timeout", "30"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        print(f"the vulnerability service did not answer within {TIMEOUT_S} s")
        return SKIPPED
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(done.stdout, done.stderr, sep="\n")
        if "No module named pip_audit" in done.stderr:
            print("pip-audit is not installed")
            return SKIPPED
        if any(
            word in done.stderr for word in ("ConnectionError", "Connection", "resolve", "ServiceError", "HTTPError")
        ):
            print("the vulnerability service cannot be reached from here")
            return SKIPPED
        return 1
    code, lines = judge([entry for entry in dependencies if entry["name"] != "weftos"])
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
