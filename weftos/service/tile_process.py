"""The log's Merkle tree and tiles in a process of their own, so that they do not share an interpreter with the loop.

    service's loop ── entries, orders ──▶ pipe ──▶ tile process ──▶ tile files
                   ◀── root, or what failed ── pipe ──┘

Why it is as it is: hashing each record's leaf and nodes and writing two files for every 256 records takes a third of
what an append costs, and none of it is needed before the next checkpoint. Orders are carried out one after the other,
so whoever asks for the root gets it after everything that was handed over before.

Guaranteed: when the root is here, every tile of that size is written. The process ends when the service does, however
that ends, and holds the log's lock for as long as it lives, so that no other writer touches the tiles meanwhile. When
the pipe is full the service waits. Not guaranteed: that a failure to write a tile is told at once; it is told with a
later order, and before any checkpoint that needs the tile.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from weftos import limits
from weftos.chain.tiles.tile_paths import decode_bundle, encode_bundle
from weftos.chain.writing.checkpointing import Tiles
from weftos.errors import TileProcessLost

__all__ = ["TileProcess"]

log = logging.getLogger(__name__)

#: In front of each order and answer: what it is, how many bytes follow, and a number: of entries, a size, or that of
#: an error.
_HEAD: Final = struct.Struct("<cIQ")

_ENTRIES: Final = b"E"
_PUBLISH: Final = b"P"
_FORGET: Final = b"F"
_KEEP: Final = b"K"
_ROOT: Final = b"R"
_FAILED: Final = b"X"


class TileProcess:
    """The writer's end; one thread hands over, and one may wait for a root meanwhile. Made while there is one thread.

    Args:
        tiles: what made the tiles so far; the process goes on with a copy of it, and it must not be used any more.
        lock: descriptor of the log's lock; stays the caller's.

    Raises:
        TileProcessLost: the system refuses a process or a pipe.
    """

    def __init__(self, tiles: Tiles, lock: int) -> None:
        self._size = tiles.size
        self._orders = self._answers = self._os_pid = -1
        try:
            orders, self._orders = os.pipe()
            self._answers, answers = os.pipe()
            self._os_pid = os.fork()
        except OSError as error:
            self.close()
            raise TileProcessLost(f"no process for the tiles of the log: {error.strerror}") from error
        if self._os_pid == 0:
            _run(tiles, orders, answers, lock)
        os.close(orders)
        os.close(answers)
        _enlarge(self._orders)

    @property
    def size(self) -> int:
        """Leaves handed over so far."""
        return self._size

    def extend(self, entries: Sequence[bytes]) -> None:
        """Hand over entries.

        Raises:
            OSError: a tile could not be written.
            TileProcessLost: the process has ended otherwise.
        """
        if entries:
            self._size += len(entries)
            self._order(_ENTRIES, len(entries), encode_bundle(entries))

    def publish(self) -> Callable[[], bytes]:
        """Order the tiles at the right edge; errors as for ``extend``, of the function that is returned too."""
        self._order(_PUBLISH)
        return partial(self._root, self._size)

    def forget_old(self) -> None:
        """Order that old partial tiles are removed; errors as for ``extend``."""
        self._order(_FORGET)

    def keep_edge(self, size: int) -> None:
        """Order that partial tiles stay; errors as for ``extend``."""
        self._order(_KEEP, size)

    def close(self) -> None:
        """Wait until everything is carried out and the process has ended. Idempotent."""
        for name in ("_orders", "_answers"):
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)
            if name == "_orders" and self._os_pid > 0:
                os_pid, self._os_pid = self._os_pid, -1
                _, status = os.waitpid(os_pid, 0)
                if status:
                    log.warning("the process of the tiles ended with status %d", os.waitstatus_to_exitcode(status))

    def _order(self, what: bytes, number: int = 0, body: bytes = b"") -> None:
        data = memoryview(_HEAD.pack(what, len(body), number) + body)
        try:
            while data:
                data = data[os.write(self._orders, data) :]
        except BrokenPipeError:
            self._answer()
            raise TileProcessLost(_ENDED) from None

    def _root(self, size: int) -> bytes:
        while True:
            of, root = self._answer()
            if of == size:  # else nobody waited for it
                return root

    def _answer(self) -> tuple[int, bytes]:
        what, length, number = _HEAD.unpack(self._read(_HEAD.size))
        body = self._read(length)
        if what == _FAILED:
            raise OSError(number, body.decode())
        return number, body

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = os.read(self._answers, length - len(data))
            if not part:
                raise TileProcessLost(_ENDED)
            data += part
        return data


_ENDED: Final = "the process that writes the tiles of the log has ended; the service starts anew and goes on"


def _enlarge(pipe: int) -> None:
    """Let the pipe hold some thousand records, so that the loop does not wait for every file. Linux only."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, limits.TILE_PIPE_BYTES)
        except OSError as error:
            log.info("the pipe to the process of the tiles stays as it is: %s", error)


def _run(tiles: Tiles, orders: int, answers: int, lock: int) -> None:
    """Be the process; does not return."""
    code = 1
    try:
        gc.freeze()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends when the service has closed the pipe
        _keep_only(orders, answers, lock)
        code = _serve(tiles, orders, answers)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _keep_only(*kept: int) -> None:
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _serve(tiles: Tiles, orders: int, answers: int) -> int:
    acts: dict[bytes, Callable[[int, bytes], bytes | None]] = {
        _ENTRIES: lambda count, body: tiles.extend(decode_bundle(body, count)),
        _PUBLISH: lambda _number, _body: tiles.publish()(),
        _FORGET: lambda _number, _body: tiles.forget_old(),
        _KEEP: lambda size, _body: tiles.keep_edge(size),
    }
    with open(orders, "rb", limits.TILE_PIPE_BYTES) as source:
        while head := source.read(_HEAD.size):
            if len(head) < _HEAD.size:
                break  # killed in the middle of an order
            what, length, number = _HEAD.unpack(head)
            body = source.read(length)
            if len(body) < length:
                break
            try:
                root = acts[what](number, body)
                if root is not None:
                    _tell(answers, _ROOT, tiles.size, root)
            except BrokenPipeError:
                break
            except OSError as error:
                _tell(answers, _FAILED, error.errno or 0, (error.strerror or str(error)).encode())
                return 1
    return 0


def _tell(answers: int, what: bytes, number: int, body: bytes) -> None:
    # Less than PIPE_BUF, so it is written whole.
    os.write(answers, _HEAD.pack(what, len(body), number) + body)
