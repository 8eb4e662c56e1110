"""A kernel of the benchmark's own: in a temporary folder, with its control socket, gone at the end.

Guaranteed: when the ``with`` block is left the kernel, its service and its agents have ended and the folder is removed.
When the benchmark itself is killed with SIGKILL they end as well: the kernel holds one end of a pipe, and shuts down
when the other is gone. Not guaranteed: that the folder is removed then.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from weftos.bench.loops import Load
from weftos.bench.programs import OneWay
from weftos.errors import BenchFailed, WeftError
from weftos.home import Home
from weftos.kernel.daemon import start_daemon
from weftos.rpc.client import RpcClient

__all__ = ["KernelRun"]

_STOP_S: Final = 20.0
_DRAIN_S: Final = 5.0
#: What the kernel says of an agent that has ended.
_GONE: Final = ("process.not_found", "process.exited", "process.state")


class KernelRun:
    """A kernel and its control socket."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="weftos-bench-"))
        self.home = Home(self.folder / "home")
        self._files = 0
        self._pipes: dict[str, int] = {}
        self._handle = -1
        #: The end of the pipe whose closing ends the kernel.
        self._lifeline = -1
        self._client: RpcClient | None = None

    def __enter__(self) -> Self:
        try:
            # A signal that arrived in between would leave a kernel that nobody knows of.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                lifeline, self._lifeline = os.pipe()
                try:
                    self.os_pid = start_daemon(self.home, lifeline=lifeline)
                finally:
                    os.close(lifeline)
                self._handle = os.pidfd_open(self.os_pid)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._client = RpcClient(self.home.socket, timeout=60.0)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the kernel, in order if it can, and remove its folder."""
        if self._handle >= 0:
            try:
                with RpcClient(self.home.socket, timeout=_STOP_S) as client:
                    # What is being measured listens to nobody; an orderly stop would wait for its deadline.
                    for agent in client.call("agent.list", {}):
                        self._stop(client, agent.pid)
                    client.call("kernel.shutdown", {})
            except WeftError:
                signal.pidfd_send_signal(self._handle, signal.SIGTERM)
            if not self._ended(self._handle, _STOP_S):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
                self._ended(self._handle, _STOP_S)
            os.close(self._handle)
            self._handle = -1
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if self._client is not None:
            self._client.close()
            self._client = None
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _ended(handle: int, timeout_s: float) -> bool:
        return bool(select.select([handle], [], [], timeout_s)[0])

    def call(self, method: str, **params: Any) -> Any:
        """Ask the kernel through its control socket; errors as for ``RpcClient.call``."""
        assert self._client is not None, "the kernel runs"
        return self._client.call(method, params)

    def spawn(self, program: str, *args: str, **params: Any) -> tuple[int, int]:
        """Start a program of ``weftos.bench.programs``, or a built-in one; returns its pid and its OS pid."""
        name = program if program == "echo" or ":" in program else f"weftos.bench.programs:{program}"
        if name != "echo":
            # They write their figures into files of the benchmark.
            params.setdefault("sandbox", {"profile": "trusted"})
        answer = self.call("agent.spawn", program=name, args=list(args), restart="never", **params)
        return answer.pid, answer.os_pid

    def order(self, pid: int, order: msgspec.Struct) -> None:
        """Give an agent its order."""
        self.call("agent.send", pid=pid, message=msgspec.to_builtins(order), wait=False)

    def answer_path(self) -> str:
        """Make a named pipe for an agent's answer and return its path; ``answer`` takes it."""
        self._files += 1
        path = str(self.folder / f"answer-{self._files}")
        os.mkfifo(path, 0o600)
        self._pipes[path] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return path

    def answer(self, os_pid: int, path: str, timeout_s: float) -> Any:
        """Wait for an agent's answer.

        Raises:
            BenchFailed: none in time, or the agent has ended without one.
        """
        pipe = self._pipes.pop(path)
        watched = [pipe]
        try:
            watched.append(os.pidfd_open(os_pid))
        except ProcessLookupError:
            # It has ended; its answer, if it gave one, lies in the pipe.
            timeout_s = 0.0
        try:
            if not select.select(watched, [], [], timeout_s)[0] and timeout_s:
                raise BenchFailed(f"no result within {timeout_s:g} s")
            # One write of less than PIPE_BUF arrives in one piece (pipe(7)).
            data = os.read(pipe, select.PIPE_BUF)
        except BlockingIOError:
            data = b""
        finally:
            for handle in watched:
                os.close(handle)
        if not data:
            raise BenchFailed("an agent ended without a result; " + self._last_lines())
        return msgspec.json.decode(data)

    def dismiss(self, agents: list[tuple[int, int]]) -> None:
        """Tell receivers that nothing more will come, and wait until they have emptied their rings and ended."""
        for pid, os_pid in agents:
            try:
                handle = os.pidfd_open(os_pid)
            except ProcessLookupError:
                continue
            try:
                self.call("agent.send", pid=pid, message="done", wait=False)
                self._ended(handle, _DRAIN_S)
            except WeftError as error:
                if error.code not in _GONE:
                    raise
            finally:
                os.close(handle)

    def _last_lines(self) -> str:
        lines = self.home.log.read_text().splitlines() if self.home.log.exists() else []
        return "the kernel's last words: " + " | ".join(lines[-3:])

    def stop(self, pid: int) -> None:
        """Stop an agent; one that has ended by itself is fine."""
        assert self._client is not None, "the kernel runs"
        self._stop(self._client, pid)

    @staticmethod
    def _stop(client: RpcClient, pid: int) -> None:
        try:
            client.call("agent.stop", {"pid": pid, "graceful": False})
        except WeftError as error:
            if error.code not in _GONE:
                raise

    def one_way(self, senders: int, receivers: int, load: Load, begin_in: float, seconds: float) -> float:
        """Measure the full path.

        Args:
            senders: agents that send.
            receivers: agents that receive.
            load: what travels.
            begin_in: seconds from now to the beginning of the count.
            seconds: length of the count.

        Returns:
            Messages per second, all receivers together.
        """
        now = time.monotonic
        to = [self.spawn("receiver") for _ in range(receivers)]
        by = [self.spawn("sender") for _ in range(senders)]
        begin = now() + begin_in
        paths = [self.answer_path() for _ in to]
        for (pid, _), path in zip(to, paths, strict=True):
            self.order(pid, OneWay(load, begin, seconds, path))
        for pid, _ in by:
            self.order(pid, OneWay(load, begin, seconds, to=[pid for pid, _ in to]))
        try:
            rates = [
                self.answer(os_pid, path, seconds + begin_in + 15) for (_, os_pid), path in zip(to, paths, strict=True)
            ]
            for pid, _ in by:
                self.stop(pid)
            # Not if it was broken off: who still counts would be waited for.
            self.dismiss(to)
        finally:
            for pid, _ in (*by, *to):
                self.stop(pid)
        return float(sum(rates))
