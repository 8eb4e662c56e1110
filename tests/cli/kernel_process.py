"""A process that plays the kernel for ``weaver kernel stop``: ``kernel_process.py SOCKET LOCK MANNER``.

Manners: ``orderly`` ends when asked, ``deaf`` answers and stays, ``mute`` has the lock but no socket and ends on
SIGTERM.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "rpc"))

from fake_kernel import FakeKernel

from weftos.rpc.kernel_types import ShutdownResult


def main() -> None:
    socket_path, lock_path, manner = sys.argv[1:]
    os.makedirs(os.path.dirname(lock_path), exist_ok=True)
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.lockf(lock, fcntl.LOCK_EX)
    os.write(lock, b"%d\n" % os.getpid())
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())

    def shutdown(_params: object) -> ShutdownResult:
        if manner == "orderly":
            threading.Timer(0.05, done.set).start()
        return ShutdownResult(state="shutting_down")

    kernel = FakeKernel(socket_path, {"kernel.shutdown": shutdown}) if manner != "mute" else None
    if kernel:
        kernel.__enter__()
    print("up", flush=True)
    done.wait()
    if kernel:
        kernel.close()


main()
