"""Check that a wheel holds every module of the checkout, and nothing else: the list of packages is kept by hand.

Usage: python tools/check_wheel.py WHEEL CHECKOUT. Exit status 1 names what differs.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

#: Where each package lies in the checkout.
PACKAGES = {"weftos": "weftos", "weftos_workers": "workers"}


def expected(root: Path) -> set[str]:
    """Names that the wheel must hold, from the files of the checkout."""
    names = set()
    for package, folder in PACKAGES.items():
        for path in (root / folder).rglob("*"):
            if path.suffix == ".py" or path.name == "py.typed":
                names.add(f"{package}/{path.relative_to(root / folder).as_posix()}")
    return names


def held(wheel: Path) -> set[str]:
    """Names that it does hold, without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def main() -> int:
    """Compare, and say what differs."""
    wheel, root = Path(sys.argv[1]), Path(sys.argv[2])
    wanted, found = expected(root), held(wheel)
    for name in sorted(wanted - found):
        print(f"{wheel.name} lacks {name}", file=sys.stderr)
    for name in sorted(found - wanted):
        print(f"{wheel.name} holds {name}, which is not in the checkout", file=sys.stderr)
    return int(wanted != found)


if __name__ == "__main__":
    sys.exit(main())
