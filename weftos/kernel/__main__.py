"""``python -m weftos.kernel``: the kernel in the foreground, on the instance that WEFTOS_HOME names. ``weaver`` starts
it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weftos.errors import WeftError
from weftos.home import find_home
from weftos.kernel.daemon import run_foreground


def main() -> int:
    """Run a kernel until it is shut down; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m weftos.kernel", description=__doc__)
    parser.add_argument("--config", type=Path, help="configuration file instead of the instance's weftos.toml")
    arguments = parser.parse_args()
    try:
        return run_foreground(find_home(), arguments.config)
    except WeftError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
