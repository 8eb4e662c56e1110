"""Memory as the service gives it: a kernel with a filled collection, and the agents that use it.

Guaranteed: when the ``with`` block begins, what is measured is one segment, made by the service's own builder; so the
figures of the curves are those of one graph and nothing else.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Final, NamedTuple, Self

import msgspec
import numpy as np
import psutil
from numpy.typing import NDArray

from weftos.bench.gate_programs import Asks
from weftos.bench.kernel_run import KernelRun
from weftos.bench.memory_data import VectorSet
from weftos.bench.memory_programs import Emits, Links, Loads, Searches, Upserts
from weftos.errors import BenchFailed

__all__ = ["Searched", "ServedSet"]

_PROGRAMS: Final = "weftos.bench.memory_programs"
_SPACE: Final = "bench/vectors"
#: From an order to the begin of its count, in seconds: the agents read their questions and warm up.
_WARM_S: Final = 0.2
#: Longest wait for something that takes long: loading, sealing, impulses.
_LONG_S: Final = 1800.0
_LOOK_S: Final = 0.1
_TIMEOUT_S: Final = 60.0


class Searched(NamedTuple):
    """What agents measured.

    Attributes:
        rate: questions per second of all agents.
        p50: of a call; the median over the agents of theirs, in seconds.
        p99: likewise.
        longest: of all calls, in seconds.
        found: rows, (questions, ``K``), -1 for what nobody asked.
        asked: questions in all, those of the warm-up included.
        agent_cpu: processor time of an agent for each of them, in seconds.
        service_cpu: likewise of the service process, with all that it did meanwhile; 0 if it was not watched.
    """

    rate: float
    p50: float
    p99: float
    longest: float
    found: NDArray[np.int64]
    asked: int
    agent_cpu: float
    service_cpu: float = 0.0


class ServedSet:
    """A kernel whose service holds a set in one segment. A context manager.

    Args:
        data: the set.

    Attributes:
        loaded_s: what it took an agent to write it, in seconds.
        sealed_s: from then until it was one segment, in seconds.
    """

    def __init__(self, data: VectorSet) -> None:
        self._data = data
        self._kernel = KernelRun()
        self._searchers: list[tuple[int, int]] = []
        self._programs: dict[str, tuple[int, int]] = {}
        self._files = 0
        self.loaded_s = self.sealed_s = 0.0

    def __enter__(self) -> Self:
        self._kernel.__enter__()
        try:
            for name, array in (("vectors", self._data.vectors), ("queries", self._data.queries)):
                np.save(self._path(name), array)
            np.save(self._path("extra"), self._data.extra)
            self.loaded_s = float(
                self._ordered("loader", lambda pipe: Loads(_SPACE, self._path("vectors"), pipe), _LONG_S)
            )
            began = time.perf_counter()
            self.seal()
            self.sealed_s = time.perf_counter() - began
        except BaseException:
            self._kernel.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.close()

    def seal(self) -> None:
        """Have all entries brought into one segment, and wait for it.

        Raises:
            BenchFailed: it takes too long, or a segment could not be built.
        """
        deadline = time.monotonic() + _LONG_S
        asked = False
        while True:
            state, view = self._kernel.call("ecc.status"), self._view()
            if view.segments == 1 and not view.delta_rows and not state.building:
                return
            if state.build_failures or time.monotonic() > deadline:
                raise BenchFailed(f"the index is not one segment: {msgspec.to_builtins(view)}")
            if not asked and not state.building:
                self._kernel.call("ecc.compact", space=_SPACE)
                asked = True
            elif asked and not state.building:
                asked = False
            # The builder runs beside; nothing tells this process when it is done.
            time.sleep(_LOOK_S)

    def _view(self) -> Any:
        return next(one.collection for one in self._kernel.call("ecc.collections") if one.space == _SPACE)

    # --- searches -----------------------------------------------------------------------------------------------------

    def search(self, agents: int, ef: int, seconds: float, pause: float = 0.0, together: int = 1) -> Searched:
        """Have agents search at the same time, each one call at a time.

        Args:
            agents: how many.
            ef: length of the list of candidates; 0 for the index's choice.
            seconds: how long.
            pause: of each before each call, in seconds.
            together: questions in one call.
        """
        before = self._service_cpu()
        found = self._collected(self._begin(agents, ef, seconds, pause, together), seconds)
        return found._replace(service_cpu=(self._service_cpu() - before) / found.asked)

    def _service(self) -> int:
        """OS pid of the service process."""
        return next(int(one.os_pid) for one in self._kernel.call("kernel.services") if one.service_type == "system")

    def _service_cpu(self) -> float:
        times = psutil.Process(self._service()).cpu_times()
        return float(times.user + times.system)

    def _begin(
        self, agents: int, ef: int, seconds: float, pause: float = 0.0, together: int = 1, *, rows: bool = True
    ) -> list[tuple[int, str, str]]:
        """Give the orders; returns OS pid, pipe and file of each."""
        while len(self._searchers) < agents:
            self._searchers.append(self._kernel.spawn(f"{_PROGRAMS}:searcher"))
        begin = time.monotonic() + _WARM_S
        given = []
        for number, (pid, os_pid) in enumerate(self._searchers[:agents]):
            pipe, found = self._kernel.answer_path(), self._path(f"found-{number}") if rows else ""
            first = number * len(self._data.queries) // agents
            queries = self._path("queries")
            order = Searches(_SPACE, queries, first, ef, begin, seconds, pipe, pause, together, found)
            self._kernel.order(pid, order)
            given.append((os_pid, pipe, found))
        return given

    def _collected(self, given: list[tuple[int, str, str]], seconds: float) -> Searched:
        answers = [self._kernel.answer(os_pid, pipe, seconds + _TIMEOUT_S) for os_pid, pipe, _ in given]
        found = np.full((len(self._data.queries), self._data.truth.shape[1]), -1, np.int64)
        for *_, file in given:
            if file:
                rows = np.load(file)
                found = np.where(rows != -1, rows, found)
        values = {name: np.median([one[name] for one in answers]) for name in ("p50", "p99")}
        rate, longest = sum(one["rate"] for one in answers), max(one["longest"] for one in answers)
        asked = sum(one["asked"] for one in answers)
        cpu = sum(one["cpu"] for one in answers) / asked
        return Searched(rate, float(values["p50"]), float(values["p99"]), longest, found, asked, cpu)

    # --- searches beside something else -------------------------------------------------------------------------------

    def search_beside_writes(self, agents: int, rate: float, seconds: float) -> tuple[Searched, dict[str, float]]:
        """Have agents search while another writes at a pace; returns what each measured."""
        pid, os_pid = self._program("upserter")
        given = self._begin(agents, 0, seconds, rows=False)
        pipe = self._kernel.answer_path()
        begin = time.monotonic() + _WARM_S
        self._kernel.order(pid, Upserts(_SPACE, self._path("extra"), rate, 0.004, begin, seconds, pipe))
        searched = self._collected(given, seconds)
        return searched, self._kernel.answer(os_pid, pipe, seconds + _TIMEOUT_S)

    def gate_beside_searches(self, agents: int, seconds: float) -> dict[str, float]:
        """Have one agent ask the gate, one question at a time, while others search; percentiles in seconds."""
        given = self._begin(agents, 0, seconds + 2 * _WARM_S, rows=False)
        pid, os_pid = self._kernel.spawn("weftos.bench.gate_programs:asker")
        try:
            time.sleep(2 * _WARM_S)  # until the others are at full speed
            pipe = self._kernel.answer_path()
            self._kernel.order(pid, Asks(0, time.monotonic(), seconds, pipe))
            asked: dict[str, float] = self._kernel.answer(os_pid, pipe, seconds + _TIMEOUT_S)
        finally:
            self._kernel.stop(pid)
        if given:
            self._collected(given, seconds)
        return asked

    def restart(self, seconds: float) -> float:
        """Kill the service process while an agent searches; returns how long the question took that was under way.

        The service starts again, reads log and index, finds the question in its ring and answers it.
        """
        service = self._service()
        given = self._begin(1, 0, seconds, rows=False)
        time.sleep(_WARM_S + seconds / 4)  # in the middle of the search
        os.kill(service, signal.SIGKILL)
        return self._collected(given, seconds).longest

    # --- the rest -----------------------------------------------------------------------------------------------------

    def link(self, edges: NDArray[np.int64]) -> float:
        """Have an agent add edges (n, 2) to a causal graph; returns the seconds that it took."""
        path = self._path(f"edges-{len(edges)}")
        np.save(path, edges)
        self._files += 1
        space = f"bench/graph-{self._files}"
        return float(self._ordered("linker", lambda pipe: Links(space, path, pipe), _LONG_S))

    def impulses(self, count: int) -> float:
        """Have an agent emit impulses and wait until ticks have taken them all up; returns the seconds of both."""
        self._files += 1
        space = f"bench/impulses-{self._files}"
        began = time.perf_counter()
        self._ordered("emitter", lambda pipe: Emits(space, count, pipe), _LONG_S)
        while self._kernel.call("ecc.status").impulses:
            if time.perf_counter() - began > _LONG_S:
                raise BenchFailed("impulses were not taken up")
            time.sleep(_LOOK_S / 10)  # nothing tells this process when the last one is taken up
        return time.perf_counter() - began

    def _ordered(self, program: str, order: Any, timeout_s: float) -> Any:
        pid, os_pid = self._program(program)
        pipe = self._kernel.answer_path()
        self._kernel.order(pid, order(pipe))
        return self._kernel.answer(os_pid, pipe, timeout_s)

    def _program(self, name: str) -> tuple[int, int]:
        if name not in self._programs:
            self._programs[name] = self._kernel.spawn(f"{_PROGRAMS}:{name}")
        return self._programs[name]

    def _path(self, name: str) -> str:
        return str(self._kernel.folder / f"{name}.npy")
