"""``iceoryx2`` as a channel: publish and subscribe over shared memory, with an event to sleep on, or spinning.

Why it is as it is: it keeps a handful of files for each process, so all of a run carry a prefix and a folder of our own
and are removed afterwards; its processes end by themselves, because killed ones would leave files of half a state. A
sender that finds the buffers full tries again after a short pause, for the package has no call that waits for room.
A subscriber sleeps on the event only when it found nothing.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

from weftos.bench.channels import Channel
from weftos.bench.loops import Load, burst_of, chunk_of
from weftos.errors import BenchFailed

__all__ = ["Iceoryx", "SpinningIceoryx"]

_PATIENCE_S: Final = 20.0
_PAUSE_S: Final = 20e-6
_BUFFER_BYTES: Final = 16 * 1024 * 1024


class _Over(Exception):  # noqa: N818  not an error
    """The measurement is over while this end waits."""


class Iceoryx(Channel):
    """Publish and subscribe with events."""

    who = "iceoryx2"
    graceful = True

    def __init__(self, senders: int, receivers: int, load: Load) -> None:
        super().__init__(senders, receivers, load)
        import iceoryx2

        iceoryx2.set_log_level(iceoryx2.LogLevel.Fatal)
        self._prefix = f"wb{os.getpid()}_{os.urandom(3).hex()}_"
        self._folder = Path(tempfile.mkdtemp(prefix="weftos-bench-"))
        self._bytes = load.size * load.batch + 4096
        self._depth = max(4, min(256, _BUFFER_BYTES // self._bytes))
        self._kept: list[Any] = []

    def _open(self, name: str) -> tuple[Any, Any]:
        import iceoryx2 as iox

        config = iox.config.default()
        config.global_cfg.prefix = iox.FileName.new(self._prefix)
        config.global_cfg.root_path = iox.Path.new(str(self._folder))
        node = iox.NodeBuilder.new().config(config).create(iox.ServiceType.Ipc)
        data = (
            node.service_builder(iox.ServiceName.new(name))
            .publish_subscribe(iox.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(self._depth)
            .max_publishers(4)
            .open_or_create()
        )
        event = node.service_builder(iox.ServiceName.new(name)).event().open_or_create()
        self._kept += [node, data, event]
        return data, event

    def _put(self, name: str) -> Callable[[Any], None]:
        import iceoryx2 as iox

        data, event = self._open(name)
        publisher = (
            data.publisher_builder()
            .initial_max_slice_len(self._bytes)
            .backpressure_strategy(iox.BackpressureStrategy.DiscardData)
            .create()
        )
        notify = event.notifier_builder().create().notify
        loan, move = publisher.loan_slice_uninit, ctypes.memmove
        pause, over = time.sleep, self.over

        def put(value: Any) -> None:
            if type(value) is bytes:
                n, source = len(value), value
            else:
                n, source = value.nbytes, value.ctypes.data
            while True:
                sample = loan(n)
                move(sample.payload_ptr, source, n)
                if sample.assume_init().send():
                    notify()
                    return
                if over():
                    raise _Over
                pause(_PAUSE_S)

        self._kept.append(publisher)
        return put

    def _get(self, name: str, *, spin: bool = False) -> Callable[[], bytes]:
        import iceoryx2 as iox

        data, event = self._open(name)
        subscriber = data.subscriber_builder().create()
        listener = event.listener_builder().create()
        receive, wait, now, over = subscriber.receive, listener.timed_wait, time.monotonic, self.over
        second, string_at = iox.Duration.from_millis(100), ctypes.string_at
        self._kept += [subscriber, listener]

        def get() -> bytes:
            sample = receive()
            if sample is None:
                until = now() + _PATIENCE_S
                while (sample := receive()) is None:
                    if now() > until:
                        raise BenchFailed("nothing came")
                    if over():
                        raise _Over
                    if not spin:
                        wait(second)
            data = string_at(sample.payload_ptr, sample.payload().number_of_elements)
            sample.delete()
            return data

        return get

    def sender(self, number: int) -> Callable[[], Any]:  # noqa: ARG002
        """Open the sending end."""
        bodies = [burst_of(self._put(f"to{i}"), self.load) for i in range(self.receivers)]

        def burst() -> None:
            try:
                for body in bodies:
                    body()
            except _Over:
                return

        return burst

    def receiver(self, number: int) -> Callable[[], int]:
        """Open the receiving end."""
        return chunk_of(self._get(f"to{number}"), self.load)

    def asker(self) -> Callable[[bytes], bytes]:
        """Open the asking end."""
        put, get = self._put("there"), self._get("back", spin=self.spins)

        def ask(data: bytes) -> bytes:
            put(data)
            return get()

        return ask

    def answerer(self) -> Callable[[], None]:
        """Open the answering end."""
        get, put = self._get("there", spin=self.spins), self._put("back")
        return lambda: put(get())

    def close(self) -> None:
        """Remove the files of this measurement."""
        rmtree(self._folder, ignore_errors=True)
        for path in Path("/dev/shm").glob(f"{self._prefix}*"):
            path.unlink(missing_ok=True)


class SpinningIceoryx(Iceoryx):
    """As ``Iceoryx``, but the ends of a round trip look again and again instead of sleeping."""

    spins = True
