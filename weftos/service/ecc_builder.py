"""The process that builds one segment of the vector index: ``python -m weftos.service.ecc_builder PID``.

The order comes on standard input, what came of it goes to standard output; both are MessagePack. It reads and writes
files in the folder of the index alone, and ends with whoever started it, the process ``PID``.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

import msgspec

from weftos import limits
from weftos.disk.files import RealFiles
from weftos.ecc.vectors.sealing import SealOrder, seal
from weftos.errors import EccError
from weftos.sandbox.libc import prctl

__all__ = ["main"]

_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> int:
    """Build; returns the exit status, with the reason on standard output if it is not 0."""
    if sys.platform == "linux":
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if len(arguments) != 1 or os.getppid() != int(arguments[0]):
        return 1  # who wanted it is gone already
    os.nice(limits.ECC_BUILDER_NICE)
    try:
        order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=SealOrder)
        sealed = seal(order, RealFiles(), os.cpu_count() or 1)
    except (EccError, OSError, msgspec.MsgspecError, MemoryError) as error:
        sys.stdout.write(str(error) or repr(error))
        return 1
    sys.stdout.buffer.write(msgspec.msgpack.encode(sealed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
