"""What travels in a throughput measurement, and the loops that send and count it: the same for every competitor.

Why it is as it is: each loop body is written out for its kind of payload, so that no competitor pays for a choice made
per message. A structured message is built anew each time, as a program would; packages that carry bytes get it encoded
by msgspec, those that carry objects encode it themselves.

Guaranteed: receivers of one measurement count in the same span of time, and what they count has been decoded.
Not guaranteed: that a receiver looks at all of the data; of an array it reads the first and the last element.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import repeat
from typing import Any, Final, Literal

import msgspec
import numpy as np

__all__ = ["BATCH", "RECORDS", "RECORD_TYPE", "Load", "burst_of", "chunk_of", "count_until"]

#: Messages in a batch, and records in a numpy batch.
BATCH: Final = 256
RECORDS: Final = 1024
#: A fixed-width record of 64 bytes.
RECORD_TYPE: Final = np.dtype([("seq", "<u8"), ("time", "<u8"), ("op", "S16"), ("data", "S32")])
#: Bytes of a structured message besides its text: keys, ``op`` and number, as MessagePack.
_OVERHEAD: Final = 24
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Load(msgspec.Struct, frozen=True):
    """What travels.

    Attributes:
        kind: ``message`` (structured), ``raw`` (bytes), ``records`` (numpy, fixed width) or ``array`` (float32).
        size: bytes of one message or record, or of the array.
        batch: messages handed over at once; 1 is one at a time.
    """

    kind: Literal["message", "raw", "records", "array"]
    size: int
    batch: int = 1

    @property
    def stride(self) -> int:
        """Hand-overs between two looks at the clock: at least a hundred microseconds of work."""
        return max(2, min(128, (256 * 1024) // (self.size * self.batch)))

    @property
    def text(self) -> str:
        """The text in a structured message of about ``size`` bytes."""
        return "x" * max(self.size - _OVERHEAD, 1)

    def messages(self) -> list[bytes]:
        """A batch of raw messages: distinct objects, or pickle would send one and a list of references to it."""
        return [b"%0*d" % (self.size, number) for number in range(self.batch)]

    def array(self) -> np.ndarray[Any, Any]:
        """The array, or the block of records."""
        if self.kind == "records":
            return np.zeros(self.batch, RECORD_TYPE)
        return np.ones(self.size // 4, np.float32)


def burst_of(put: Callable[[Any], Any], load: Load, *, takes_objects: bool = False) -> Callable[[], None]:
    """Build the sender's loop body: ``stride`` hand-overs.

    Args:
        put: hands over one object: bytes (or a contiguous array), or anything if ``takes_objects``.
        load: what to send.
        takes_objects: whether ``put`` encodes by itself.
    """
    turns, text, size = range(load.stride), load.text, range(load.batch)
    wire: Callable[[Any], Any] = (lambda value: value) if takes_objects else _encode
    if load.kind == "message" and load.batch > 1:

        def burst() -> None:
            for _ in turns:
                put(wire([{"seq": i, "op": "append", "data": text} for i in size]))

        return burst
    if load.kind == "message" and takes_objects:

        def burst() -> None:
            for n in turns:
                put({"seq": n, "op": "append", "data": text})
    elif load.kind == "message":

        def burst() -> None:
            for n in turns:
                put(_encode({"seq": n, "op": "append", "data": text}))
    else:
        burst = _raw_burst(put, load, takes_objects=takes_objects)
    return burst


def _raw_burst(put: Callable[[Any], Any], load: Load, *, takes_objects: bool) -> Callable[[], None]:
    turns, one = range(load.stride), b"m" * load.size
    join, many = b"".join, load.messages()
    if load.kind == "raw" and load.batch > 1 and not takes_objects:

        def burst_joined() -> None:
            for _ in turns:
                put(join(many))

        return burst_joined
    whole: Any = load.array() if load.kind in ("array", "records") else one if load.batch == 1 else many

    def burst() -> None:
        for _ in turns:
            put(whole)

    return burst


def chunk_of(get: Callable[[], Any], load: Load, *, gives_objects: bool = False) -> Callable[[], int]:
    """Build the receiver's loop body: ``stride`` hand-overs, decoded; returns how many messages they held.

    Args:
        get: waits for one object and returns it.
        load: what is received.
        gives_objects: whether ``get`` decodes by itself.
    """
    stride, batch, size = load.stride, load.batch, load.size
    if load.kind == "message" and not gives_objects:

        def chunk() -> int:
            for _ in repeat(None, stride):
                _decode(get())
            return stride * batch
    elif load.kind == "raw" and batch > 1 and not gives_objects:
        starts = range(0, size * batch, size)

        def chunk() -> int:
            for _ in repeat(None, stride):
                data = get()
                [data[i : i + size] for i in starts]
            return stride * batch
    elif load.kind in ("array", "records"):
        dtype = RECORD_TYPE if load.kind == "records" else np.dtype(np.float32)

        def chunk() -> int:
            for _ in repeat(None, stride):
                data = get()
                array = data if gives_objects else np.frombuffer(data, dtype)
                array[0], array[-1]
            return stride * batch
    else:

        def chunk() -> int:
            for _ in repeat(None, stride):
                get()
            return stride * batch

    return chunk


def count_until(chunk: Callable[[], int], begin: float, seconds: float) -> float:
    """Receive from now on, count from ``begin`` for ``seconds``.

    Args:
        chunk: receives some messages and returns how many.
        begin: ``time.monotonic()`` at which counting begins; what comes before warms up.
        seconds: how long to count, in seconds.

    Returns:
        Messages per second.
    """
    now = time.monotonic
    chunk()
    while now() < begin:
        chunk()
    count, started = 0, now()
    end = started + seconds
    while True:
        count += chunk()
        at = now()
        if at >= end:
            return count / (at - started)
