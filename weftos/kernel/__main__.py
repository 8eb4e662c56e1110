"""``python -m weftos.kernel``: the kernel in the foreground, on the instance that WEFTOS_HOME names. ``weaver`` starts
it.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn


def main() -> int:
    """Run a kernel until it is shut down; returns its exit status."""
    # What is imported stays until the end: the collector would go through it again and again and find nothing, which is
    # a seventh of what a start takes. ``run_foreground`` lets it begin when all is there.
    gc.disable()
    from weftos.errors import WeftError
    from weftos.home import find_home
    from weftos.kernel.daemon import run_foreground

    parser = argparse.ArgumentParser(prog="python -m weftos.kernel", description=__doc__)
    parser.add_argument("--config", type=Path, help="configuration file instead of the instance's weftos.toml")
    arguments = parser.parse_args()
    try:
        return run_foreground(find_home(), arguments.config)
    except WeftError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code


def _leave(status: int) -> NoReturn:
    """End at once. What had to be undone is undone by now; that the interpreter takes itself apart, module by module,
    would only keep those waiting who wait for the end of this process.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _leave(main())
