"""Has segments of the vector index built by a process of their own, and takes them in when they are done.

Why it is as it is: building a graph over a hundred thousand vectors takes a core for seconds; in this process everybody
would wait for the interpreter or the processor. A new interpreter is started for each segment, which costs half a
second: a fork would copy the locks that other threads hold.

Guaranteed: one segment is built at a time; one that fails leaves the index as it is, and is tried again later, less
often each time. The builder ends when this process does.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from typing import Final

import msgspec

from weftos.ecc.vectors.orders import Sealed, SealOrder
from weftos.ecc.vectors.store import VectorStore
from weftos.errors import SealFailed, WeftError
from weftos.service.side_work import Job, SideWork

__all__ = ["Sealing"]

log = logging.getLogger(__name__)

_RETRY_MAX_S: Final = 600.0


class Sealing:
    """See the head of this file. All methods are the loop's.

    Args:
        work: carries out the waiting.
    """

    def __init__(self, work: SideWork) -> None:
        self._work = work
        self._process: subprocess.Popen[bytes] | None = None
        self._busy = False
        self._not_before = 0.0
        self._pause_s = 1.0
        self.built = self.failures = 0

    @property
    def busy(self) -> bool:
        """Whether a segment is being built."""
        return self._busy

    def turn(self, store: VectorStore) -> None:
        """Take in what is done, and have built what is wanted.

        Raises:
            EccError: the store failed.
        """
        self._work.turn()
        if self._busy or self._work.closing or time.monotonic() < self._not_before:
            return
        order = store.wanted()
        if order is not None:
            self._busy = True
            self._work.begin(self._job(store, order), self._done)

    def close(self) -> None:
        """End the builder and wait for it."""
        self._work.closing = True
        if self._process is not None:
            self._process.kill()
        self._work.close()

    def _job(self, store: VectorStore, order: SealOrder) -> Job:
        try:
            sealed = yield lambda: self._build(order)
            loaded = yield lambda: store.load(sealed)
        except WeftError:
            store.give_up(order)
            raise
        store.adopt(sealed, loaded)

    def _done(self, _result: object, error: WeftError | None) -> None:
        self._busy = False
        if error is None:
            self.built += 1
            self._pause_s = 1.0
            return
        self.failures += 1
        if not self._work.closing:
            log.warning("a segment of the vector index was not built: %s; tried again in %.0f s", error, self._pause_s)
        self._not_before = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _RETRY_MAX_S)

    def _build(self, order: SealOrder) -> Sealed:
        """In a thread: run the builder to its end."""
        command = [sys.executable, "-m", "weftos.service.ecc_builder", str(os.getpid())]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None)  # noqa: S603
        except OSError as error:
            raise SealFailed(f"no process to build a segment: {error.strerror}") from error
        self._process = process
        try:
            if self._work.closing:
                process.kill()
            answer, _ = process.communicate(msgspec.msgpack.encode(order))
        finally:
            self._process = None
        if process.returncode != 0:
            raise SealFailed(
                f"the builder of a segment ended with status {process.returncode}: "
                f"{answer.decode(errors='replace')[-300:]}"
            )
        try:
            return msgspec.msgpack.decode(answer, type=Sealed)
        except msgspec.MsgspecError as error:
            raise SealFailed(f"the builder of a segment answered what is none: {error}") from error
