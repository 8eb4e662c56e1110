"""Other packages as channels: each used the way its own documentation does, as far as it is installed.

Fair means: structured messages travel encoded by msgspec where a package carries bytes, and are pickled where it
pickles (``multiprocessing.Queue``); a batch is one hand-over of 256 messages, in the package's own batch call if it has
one; arrays travel as buffers where the package takes them. Queues are bounded to some MiB, so that what is measured is
passing on and not storing.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import msgspec

from weftos.bench.channels import Channel
from weftos.bench.loops import Load, burst_of, chunk_of
from weftos.bench.model import Collector
from weftos.errors import BenchFailed

__all__ = ["FasterFifo", "Pipe", "Queue", "ZeroMq", "available"]

_QUEUE_BYTES: Final = 64 * 1024 * 1024
#: multiprocessing counts with a semaphore, whose value has this bound on every system.
_QUEUE_MAX: Final = 32767
_FIFO_BYTES: Final = 4 * 1024 * 1024
_PATIENCE_S: Final = 20.0
_PATIENCE_MS: Final = 20_000


def available(collector: Collector) -> list[type[Channel]]:
    """Return the packages that are installed; the others are noted as skipped."""
    found: list[type[Channel]] = [Queue, Pipe]
    for package, module, kind in (("faster-fifo", "faster_fifo", FasterFifo), ("pyzmq", "zmq", ZeroMq)):
        if importlib.util.find_spec(module) is None:
            collector.skip(package, "not installed; the extra `bench` has it")
        else:
            found.append(kind)
    if importlib.util.find_spec("iceoryx2") is None:
        collector.skip("iceoryx2", "not installed; the extra `bench` has it")
    else:
        from weftos.bench.iceoryx_channel import Iceoryx

        found.append(Iceoryx)
    return found


def in_turn(bodies: list[Callable[[], Any]]) -> Callable[[], Any]:
    """Serve several receivers one after the other."""
    return bodies[0] if len(bodies) == 1 else lambda: [body() for body in bodies]


class Queue(Channel):
    """``multiprocessing.Queue``: shared by all senders; one for each receiver."""

    who = "multiprocessing.Queue"

    def __init__(self, senders: int, receivers: int, load: Load) -> None:
        super().__init__(senders, receivers, load)
        context = multiprocessing.get_context("fork")
        size = max(4, min(_QUEUE_MAX, _QUEUE_BYTES // (load.size * load.batch)))
        self._queues = [context.Queue(size) for _ in range(max(receivers, 2))]

    def sender(self, number: int) -> Callable[[], Any]:  # noqa: ARG002
        """Open the sending end."""
        queues = self._queues[: self.receivers]
        return in_turn([burst_of(queue.put, self.load, takes_objects=True) for queue in queues])

    def receiver(self, number: int) -> Callable[[], int]:
        """Open the receiving end."""
        return chunk_of(self._queues[number].get, self.load, gives_objects=True)

    def asker(self) -> Callable[[bytes], bytes]:
        """Open the asking end."""
        put, get = self._queues[0].put, self._queues[1].get

        def ask(data: bytes) -> bytes:
            put(data)
            return get(timeout=_PATIENCE_S)  # type: ignore[no-any-return]

        return ask

    def answerer(self) -> Callable[[], None]:
        """Open the answering end."""
        get, put = self._queues[0].get, self._queues[1].put
        return lambda: put(get(timeout=_PATIENCE_S))

    def close(self) -> None:
        """Close the queues."""
        for queue in self._queues:
            queue.close()


class Pipe(Channel):
    """``multiprocessing.Pipe``: one pair of connections for each pair of processes; several are waited for together."""

    who = "multiprocessing.Pipe"

    def __init__(self, senders: int, receivers: int, load: Load) -> None:
        super().__init__(senders, receivers, load)
        self._pairs = [multiprocessing.Pipe() for _ in range(max(senders, receivers))]

    def sender(self, number: int) -> Callable[[], Any]:
        """Open the sending end."""
        pairs = self._pairs if self.receivers > 1 else [self._pairs[number]]
        return in_turn([burst_of(ours.send_bytes, self.load) for ours, _ in pairs])

    def receiver(self, number: int) -> Callable[[], int]:
        """Open the receiving end."""
        if self.senders == 1:
            return chunk_of(self._pairs[number][1].recv_bytes, self.load)
        from multiprocessing.connection import wait

        ends = [theirs for _, theirs in self._pairs]
        waiting: list[Any] = []

        def get() -> bytes:
            if not waiting:
                waiting.extend(wait(ends, _PATIENCE_S))
                if not waiting:
                    raise BenchFailed("nothing came")
            return waiting.pop().recv_bytes()  # type: ignore[no-any-return]

        return chunk_of(get, self.load)

    def asker(self) -> Callable[[bytes], bytes]:
        """Open the asking end."""
        end = self._pairs[0][0]
        send, receive = end.send_bytes, end.recv_bytes

        def ask(data: bytes) -> bytes:
            send(data)
            return receive()

        return ask

    def answerer(self) -> Callable[[], None]:
        """Open the answering end."""
        end = self._pairs[0][1]
        send, receive = end.send_bytes, end.recv_bytes
        return lambda: send(receive())

    def close(self) -> None:
        """Close all ends."""
        for ours, theirs in self._pairs:
            ours.close()
            theirs.close()


class FasterFifo(Channel):
    """``faster-fifo``: one queue for all senders, one for each receiver; batches by ``put_many`` and ``get_many``."""

    who = "faster-fifo"

    def __init__(self, senders: int, receivers: int, load: Load) -> None:
        super().__init__(senders, receivers, load)
        from faster_fifo import Queue as Fifo

        encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
        if load.kind == "message":
            self._fifos = [Fifo(_FIFO_BYTES, loads=decode, dumps=encode) for _ in range(max(receivers, 2))]
        else:
            arrays = load.kind in ("array", "records")
            pack: Callable[[Any], bytes] = (lambda value: value.tobytes()) if arrays else (lambda value: value)
            self._fifos = [Fifo(_FIFO_BYTES, loads=bytes, dumps=pack) for _ in range(max(receivers, 2))]

    def sender(self, number: int) -> Callable[[], Any]:  # noqa: ARG002
        """Open the sending end."""
        load = self.load
        if load.kind == "message" and load.batch > 1:
            put_many, text, numbers = self._fifos[0].put_many, load.text, range(load.batch)
            return lambda: put_many([{"seq": n, "op": "append", "data": text} for n in numbers])
        many = load.kind == "raw" and load.batch > 1
        puts = [fifo.put_many if many else fifo.put for fifo in self._fifos[: self.receivers]]
        return in_turn([burst_of(put, load, takes_objects=load.kind != "records") for put in puts])

    def receiver(self, number: int) -> Callable[[], int]:
        """Open the receiving end."""
        fifo = self._fifos[number]
        if self.load.kind in ("message", "raw") and self.load.batch > 1:
            get_many = fifo.get_many
            return lambda: len(get_many(max_messages_to_get=4096))
        return chunk_of(fifo.get, self.load, gives_objects=self.load.kind in ("message", "raw"))

    def asker(self) -> Callable[[bytes], bytes]:
        """Open the asking end."""
        put, get = self._fifos[0].put, self._fifos[1].get

        def ask(data: bytes) -> bytes:
            put(data)
            return get()  # type: ignore[no-any-return]

        return ask

    def answerer(self) -> Callable[[], None]:
        """Open the answering end."""
        get, put = self._fifos[0].get, self._fifos[1].put
        return lambda: put(get())

    def close(self) -> None:
        """Close the queues."""
        for fifo in self._fifos:
            fifo.close()


def _send_array(send: Callable[[Any], Any], array: Any) -> None:
    send(array.view("u1"))


class ZeroMq(Channel):
    """``pyzmq``: PUSH to PULL over ``ipc://``; PAIR for round trips."""

    who = "pyzmq"

    def __init__(self, senders: int, receivers: int, load: Load) -> None:
        super().__init__(senders, receivers, load)
        import zmq  # noqa: F401  loaded once, before the fork

        self._folder = Path(tempfile.mkdtemp(prefix="weftos-bench-"))

    def _socket(self, kind: str, number: int, *, bind: bool) -> Any:
        import zmq

        socket = zmq.Context().socket(getattr(zmq, kind))
        socket.setsockopt(zmq.RCVTIMEO, _PATIENCE_MS)
        address = f"ipc://{self._folder}/{number}"
        if bind:
            socket.bind(address)
        else:
            socket.connect(address)
        return socket

    def sender(self, number: int) -> Callable[[], Any]:  # noqa: ARG002
        """Open the sending end."""
        sends = [self._socket("PUSH", i, bind=False).send for i in range(self.receivers)]
        if self.load.kind in ("array", "records"):
            return in_turn([burst_of(partial(_send_array, send), self.load) for send in sends])
        return in_turn([burst_of(send, self.load) for send in sends])

    def receiver(self, number: int) -> Callable[[], int]:
        """Open the receiving end."""
        return chunk_of(self._socket("PULL", number, bind=True).recv, self.load)

    def asker(self) -> Callable[[bytes], bytes]:
        """Open the asking end."""
        socket = self._socket("PAIR", 0, bind=True)
        send, receive = socket.send, socket.recv

        def ask(data: bytes) -> bytes:
            send(data)
            return receive()  # type: ignore[no-any-return]

        return ask

    def answerer(self) -> Callable[[], None]:
        """Open the answering end."""
        socket = self._socket("PAIR", 0, bind=False)
        send, receive = socket.send, socket.recv

        def answer() -> None:
            send(receive())

        return answer

    def close(self) -> None:
        """Remove the sockets' folder."""
        rmtree(self._folder, ignore_errors=True)
